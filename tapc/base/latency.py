"""How long an inference may take: instructions, cycles or milliseconds."""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

Unit = Literal["instructions", "cycles", "ms"]

EXPECTED = "a number of instructions, or a time such as 9Minstructions, 1.2Mcycles, 5ms or 300us"
_TEXT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,15})?(?:e[0-9]{1,2})?)\s*([a-z]*)", re.IGNORECASE)
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Latency:
    """A budget of an inference.

    Attributes
    ----------
    amount : float
        Above zero.
    unit : {"instructions", "cycles", "ms"}
        Cycles and milliseconds are estimated by the model of the core's pipeline, at the board's clock, where no board
        tells them.
    """

    amount: float
    unit: Unit = "instructions"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0) or self.unit not in get_args(Unit):
            raise ValueError

    def __str__(self) -> str:
        return f"{self.amount:.10g} ms" if self.unit == "ms" else f"{self.amount:.10g} {self.unit}"


def latency_of(value: Any) -> Latency:
    """Return what a number of instructions or a text stands for.

    Raises
    ------
    ValueError
        It is neither.
    """
    if isinstance(value, Latency):
        return value
    if not isinstance(value, str):
        return Latency(float(value))
    match = _TEXT.fullmatch(value.strip())
    if match is None:
        raise ValueError
    number, word = float(match[1]), match[2].lower()
    if word in _TIMES:
        return Latency(number * _TIMES[word], "ms")
    for prefix, factor in _PREFIXES.items():
        rest = word.removeprefix(prefix)
        if word.startswith(prefix) and rest in ("", "instructions", "cycles"):
            return Latency(number * factor, "cycles" if rest == "cycles" else "instructions")
    raise ValueError
