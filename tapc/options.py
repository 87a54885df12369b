"""What a compilation may be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Options:
    """What a compilation may be told; every field has the command line's default.

    Attributes
    ----------
    wbits, abits : tuple of int
        Weight and activation bits on offer; one value each means uniform.
    proxy : str
        What scores the layers: a registered name or a proxy file.
    allocator : {"ilp", "proxy"}
        Who chooses the weight bits: the mixed-integer program from the scores, or the proxy's own ``allocate``.
    flash, ram : int or None
        Budgets in bytes; the board's regions where None.
    latency : float or None
        Budget in instructions per inference.
    bops : int or None
        Budget of MACs x weight bits x activation bits.
    target_bits : float or None
        Average weight bits.
    pin_first, pin_last : bool
        Keep the first or last layer at 8 bits.
    overrides : Path or None
        TOML file of manual choices.
    rounding : str
        Rounding method of the weights.
    equalize : bool
        Multiply channels by factors first that ease quantization and leave what the network computes as it is.
    calibration : int
        Calibration samples.
    eval : int
        Samples that run on the device.
    test_data : Path or None
        Evaluation samples, all of this file in its order; a disjoint part of the calibration data where None.
    tune : int
        Schedules per kernel that are measured in the simulator; 0 keeps the defaults.
    no_external : bool
        Keep weights out of external flash and activations out of external RAM.
    seed : int
    prefix : str or None
        What the C library's names begin with; made of the network's name where None.
    simulate : bool
        Run the firmware; without it nothing is proved or measured.
    """

    wbits: tuple[int, ...] = (2, 4, 8)
    abits: tuple[int, ...] = (8,)
    proxy: str = "error"
    allocator: Literal["ilp", "proxy"] = "ilp"
    flash: int | None = None
    ram: int | None = None
    latency: float | None = None
    bops: int | None = None
    target_bits: float | None = None
    pin_first: bool = False
    pin_last: bool = False
    overrides: Path | None = None
    rounding: str = "gptq"
    equalize: bool = True
    calibration: int = 1024
    eval: int = 100
    test_data: Path | None = None
    tune: int = 0
    no_external: bool = False
    seed: int = 0
    prefix: str | None = None
    simulate: bool = True
