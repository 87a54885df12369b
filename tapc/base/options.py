"""What a compilation may be told."""

import difflib
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from tapc.base.errors import UsageError
from tapc.base.latency import EXPECTED, Latency, Unit, latency_of

METRICS = ("auto", "top1", "binary", "regression", "auc", "miou", "map", "none")
"""What accuracy may be; see `tapc.data.metrics`."""


ARITHMETICS = ("float", "fixed", "tflite")
"""How integers may round; see `tapc.base.arithmetic`."""


@dataclass(frozen=True)
class Source:
    """How a network and its inputs are to be read, where they do not say themselves.

    Attributes
    ----------
    weights : Path or None
        State dict of a zoo or torch model.
    input_shape : tuple of int or None
        With batch.
    pixel_scale : float or None
    mean, std : tuple of float or None
        Inputs are (raw * pixel_scale - mean) / std.
    state : tuple of str
        What is kept between calls, each INPUT=OUTPUT.
    constant : tuple of str
        Inputs that always hold one number, each INPUT=VALUE.
    """

    weights: Path | None = None
    input_shape: tuple[int, ...] | None = None
    pixel_scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    state: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """What a compilation may be told; every field has the command line's default.

    Raises
    ------
    UsageError
        A value that its option does not take.

    Attributes
    ----------
    wbits, abits : tuple of int
        Weight and activation bits on offer; one value each means uniform. Activations of 16 bits are those that have
        kernels for it; beside 8 they are where 8 bits are measured to leave less than the limit.
    abits_limit : float
        Decibels of the outputs that 8 bits of an activation alone must leave.
    proxy : str
        What scores the layers: a registered name or a proxy file.
    allocator : {"ilp", "proxy"}
        Who chooses the weight bits: the mixed-integer program from the scores, or the proxy's own ``allocate``.
    score_exponent : float
        Scores are raised to it. Below 1 it says that layers behind make up for much of a large error; what `error`
        measured stays as it is.
    flash, ram : int or None
        Budgets in bytes; the board's regions where None.
    latency : Latency or None
        Budget of an inference; a number is one of instructions, a text as in `tapc.base.latency`.
    bops : int or None
        Budget of MACs x weight bits x activation bits.
    target_bits : float or None
        Average weight bits.
    pin_first, pin_last : bool
        Keep the first or last layer at 8 bits.
    overrides : Path or None
        TOML file of manual choices.
    granularity : {"layer", "channel"}
        What gets weight bits of its own: a layer, or up to three groups of its output channels.
    rounding : str
        Rounding method of the weights.
    equalize : bool
        Multiply channels by factors first that ease quantization and leave what the network computes as it is.
    calibration : int
        Calibration samples.
    metric : str
        What accuracy is; "auto" follows from labels and outputs, see `tapc.data.metrics`.
    eval : int
        Samples that run on the device.
    test_data : Path or None
        Evaluation samples, all of this file in its order; a disjoint part of the calibration data where None.
    tune : int
        Schedules per kernel that are measured in the simulator; 0 keeps the defaults.
    tune_for : {"auto", "instructions", "cycles"}
        What tuned schedules need the fewest of; "auto": cycles, as a model of the pipeline estimates them, on cores
        that issue two instructions at once.
    no_external : bool
        Keep weights out of external flash and activations out of external RAM.
    no_patches : bool
        Compute every layer as a whole, also where the activations would fit otherwise.
    seed : int
    prefix : str or None
        What the C library's names begin with; made of the network's name where None.
    simulate : bool
        Run the firmware; without it nothing is proved or measured.
    keep : bool or None
        Of a network that is quantized already, keep scales and integers; else it is quantized anew. None keeps what is
        quantized; True refuses what is not.
    arithmetic : {"float", "fixed", "tflite"} or None
        How integers round; None, for which "auto" may be given: as the source's own runtime where it is kept, else as
        the core.
    device : str or None
        What runs the firmware, see `tapc.device.choose.MODULES`; by default the first simulator that can.
    toolchain : {"gcc", "zig"}
        What builds the firmware.
    optimize : {"size", "balanced", "speed", "ram"}
        "size": the least flash. "balanced": convolutions may be computed by Winograd's transforms, with at most a
        quarter more flash and 15 % more arena. "speed": by whatever fits the board, and start-up copies hot code and
        constants to the board's fast memories, where it has some. "ram": the smallest arena, in patches of at most
        twice the instructions; of all that has it, the fastest.
    front_end : str or None
        Features of audio that the network takes, see `tapc.audio.front_end`: C that makes them is written beside it.
    stream : str or None
        Build one step of a network over time, for each frame or as many as its strides make necessary: "auto", or the
        input's axis of time, AXIS or INPUT:AXIS. None builds it as it is.
    """

    wbits: tuple[int, ...] = (2, 4, 8)
    abits: tuple[int, ...] = (8,)
    abits_limit: float = 30.0
    proxy: str = "error"
    allocator: Literal["ilp", "proxy"] = "ilp"
    score_exponent: float = 1.0
    flash: int | None = None
    ram: int | None = None
    latency: Latency | None = None
    bops: int | None = None
    target_bits: float | None = None
    pin_first: bool = False
    pin_last: bool = False
    overrides: Path | None = None
    granularity: str = "layer"
    rounding: str = "gptq"
    equalize: bool = True
    calibration: int = 1024
    eval: int = 100
    metric: str = "auto"
    test_data: Path | None = None
    tune: int = 0
    tune_for: str = "auto"
    no_external: bool = False
    no_patches: bool = False
    seed: int = 0
    prefix: str | None = None
    simulate: bool = True
    keep: bool | None = None
    arithmetic: str | None = None
    device: str | None = None
    toolchain: str = "gcc"
    optimize: str = "balanced"
    front_end: str | None = None
    stream: str | None = None

    def __post_init__(self) -> None:
        for name, (convert, expected) in _VALUES.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, convert(value))
            except (TypeError, ValueError):
                raise UsageError(f"option {name}: {value!r} is not {expected}") from None

    @property
    def latency_unit(self) -> Unit:
        """The unit of the latency's budget; instructions where there is none."""
        return "instructions" if self.latency is None else self.latency.unit


def with_settings(options: Options | None, settings: dict[str, Any]) -> Options:
    """Return options with some of them changed; UsageError for a name that is none."""
    known = [field.name for field in fields(Options)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"options: {', '.join(known)}"
            raise UsageError(f"there is no option {name}; {hint}")
    return replace(options or Options(), **settings)


def _bits(*allowed: int) -> Callable[[Any], tuple[int, ...]]:
    def convert(value: Any) -> tuple[int, ...]:
        widths = (value,) if isinstance(value, int) else tuple(value)
        found = tuple(sorted({operator.index(width) for width in widths}))
        if not found or not set(found) <= set(allowed) or isinstance(value, str):
            raise ValueError
        return found

    return convert


def _activations(value: Any) -> tuple[int, ...]:
    found = _bits(4, 8, 16)(value)
    if 16 in found and 4 in found:
        raise ValueError
    return found


def _whole(least: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if isinstance(value, bool) or operator.index(value) < least:
            raise ValueError
        return operator.index(value)

    return convert


def _number(least: float, most: float = math.inf) -> Callable[[Any], float]:
    def convert(value: Any) -> float:
        if isinstance(value, str) or not (math.isfinite(value) and least <= value <= most):
            raise ValueError
        return float(value)

    return convert


def _flag(value: Any) -> bool:
    if value not in (True, False):
        raise ValueError
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str | Path):
        raise TypeError
    return str(value)


def _axis(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    return str(value)


def _one_of(*names: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return convert


def _maybe(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


_VALUES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "wbits": (_bits(2, 4, 8), "some of 2, 4 and 8, such as (4,) or (2, 4, 8)"),
    "abits": (_activations, "some of 4 and 8, such as (8,) or (4, 8), or (16,), or (8, 16)"),
    "abits_limit": (_number(0, 200), "a number of decibels from 0 to 200"),
    "proxy": (_text, "a proxy's name or file"),
    "allocator": (_one_of("ilp", "proxy"), "'ilp' or 'proxy'"),
    "score_exponent": (_number(0, 4), "a number from 0 to 4"),
    "flash": (_maybe(_whole(1)), "a number of bytes, or None"),
    "ram": (_maybe(_whole(1)), "a number of bytes, or None"),
    "latency": (_maybe(latency_of), f"{EXPECTED}, or None"),
    "bops": (_maybe(_whole(1)), "a whole number above zero, or None"),
    "target_bits": (_maybe(_number(2, 8)), "a number from 2 to 8, or None"),
    "pin_first": (_flag, "True or False"),
    "pin_last": (_flag, "True or False"),
    "overrides": (_maybe(Path), "a file, or None"),
    "granularity": (_one_of("layer", "channel"), "'layer' or 'channel'"),
    "rounding": (_text, "a rounding method's name"),
    "equalize": (_flag, "True or False"),
    "calibration": (_whole(1), "a number of samples, at least 1"),
    "eval": (_whole(1), "a number of samples, at least 1"),
    "metric": (_one_of(*METRICS), f"one of {', '.join(METRICS)}"),
    "tune": (_whole(0), "a number of schedules, at least 0"),
    "tune_for": (_one_of("auto", "instructions", "cycles"), "'auto', 'instructions' or 'cycles'"),
    "no_external": (_flag, "True or False"),
    "no_patches": (_flag, "True or False"),
    "seed": (_whole(0), "a whole number, at least 0"),
    "simulate": (_flag, "True or False"),
    "keep": (_maybe(_flag), "True, False or None"),
    "device": (_maybe(_text), "a device's name, or None"),
    "toolchain": (_one_of("gcc", "zig"), "'gcc' or 'zig'"),
    "front_end": (_maybe(_text), "a front end such as 'mfcc:kws01', a file, or None"),
    "optimize": (_one_of("size", "balanced", "speed", "ram"), "'size', 'balanced', 'speed' or 'ram'"),
    "stream": (_maybe(_axis), "'auto', an axis, 'INPUT:AXIS', or None"),
    "arithmetic": (
        lambda value: None if value == "auto" else _maybe(_one_of(*ARITHMETICS))(value),
        f"one of auto, {', '.join(ARITHMETICS)}, or None",
    ),
}
"""What converts and checks a field's value, and what it should have been."""
