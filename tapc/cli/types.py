"""Types of command-line options."""

import math
import re
from typing import Any

import click

from tapc.base.latency import EXPECTED, Latency, latency_of
from tapc.base.options import METRICS


def metric_option(command: Any) -> Any:
    """Add --metric to a command."""
    return click.option(
        "--metric",
        type=click.Choice(METRICS),
        default="auto",
        show_default=True,
        help="What accuracy is; auto follows from labels and outputs.",
    )(command)


class Bytes(click.ParamType[int]):
    """A number of bytes: 123, 64K, 2M."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes; K is 1024, M is 1024 K."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?:([KM])(?:i?B)?|B)?", str(value), re.IGNORECASE)
        if not match:
            self.fail(f"{value!r} is no number of bytes; write 65536, 64K or 2M", param, ctx)
        return int(float(match.group(1)) * {"": 1, "K": 1 << 10, "M": 1 << 20}[(match.group(2) or "").upper()])


class LatencyType(click.ParamType[Latency]):
    """A budget of an inference: 9000000, 9Minstructions, 1.2Mcycles, 5ms."""

    name = "latency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Latency:
        """Return the budget."""
        try:
            return latency_of(value)
        except ValueError:
            self.fail(f"{value!r} is not {EXPECTED}", param, ctx)


class BitList(click.ParamType[tuple[int, ...]]):
    """Bit widths separated by commas."""

    name = "bits"

    def __init__(self, allowed: tuple[int, ...], auto: tuple[int, ...] = ()) -> None:
        self.allowed, self.auto = allowed, auto

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return sorted distinct widths."""
        if isinstance(value, tuple):
            return value
        if self.auto and value == "auto":
            return self.auto
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part in map(str, self.allowed) for part in parts):
            self.fail(f"{value!r}: give some of {', '.join(map(str, self.allowed))}", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


class PositiveNumber(click.ParamType[float]):
    """A finite number above zero."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            self.fail(f"{value!r} is no number above zero; write 1, 0.00392 or 1e-3", param, ctx)
        return number


class Shape(click.ParamType[tuple[int, ...]]):
    """Extents of a tensor, batch first."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse "1,3,32,32" or "1x3x32x32"."""
        if isinstance(value, tuple):
            return value
        parts = re.split(r"[,x]", str(value))
        if not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", part) and int(part) for part in parts):
            self.fail(f"{value!r}: write the extents with commas, batch first, e.g. 1,3,32,32", param, ctx)
        return tuple(int(part) for part in parts)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse "0.485,0.456,0.406"."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: write numbers with commas, e.g. 0.485,0.456,0.406", param, ctx)
        if not all(math.isfinite(number) for number in numbers):
            self.fail(f"{value!r}: the numbers must be finite", param, ctx)
        return numbers
