"""How a kernel is computed: instruction set family, tile and unrolling. A schedule never changes a result."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["direct", "f2", "f4", "f2r", "f4r"]
TuneFor = Literal["instructions", "cycles"]
SPELLED = 64
"""Taps of nested weights that a loop's body spells out, at most."""


@dataclass(frozen=True)
class Schedule:
    """Loop structure of a convolution's inner product.

    Attributes
    ----------
    rows : int
        Output channels of a register tile.
    pixels : int
        Output pixels of a register tile; they share each weight.
    unroll : int
        Weight words per row and iteration of the inner loop.
    algorithm : {"direct", "f2", "f4", "f2r", "f4r"}
        Directly, or by one of Winograd's transforms, whose tiles are fixed; "r": see `made`.
    single : bool
        Words are loaded one by one between products; see `tapc.kernels.dsp.ahead`.
    nested : bool
        A half-word of weights is a number made of two; see `tapc.kernels.dsp.nested`.
    """

    rows: int
    pixels: int
    unroll: int
    algorithm: Algorithm = "direct"
    single: bool = False
    nested: bool = False

    @property
    def made(self) -> bool:
        """Whether each call makes the weights' frequencies; see `tapc.kernels.made`."""
        return self.algorithm.endswith("r")

    @property
    def way(self) -> str:
        """What tells it from the usual schedule of a layer: a transform, nested weights, or "direct"."""
        return "nested" if self.nested else self.algorithm


def transformed(algorithm: Algorithm, *, single: bool) -> Schedule:
    """Return the schedule of a transform, whose tiles are two channels by two tiles; see `Schedule.single`."""
    return Schedule(2, 2, 1, algorithm, single)


def largest_divisor(count: int, limit: int) -> int:
    """Return the largest divisor of `count` up to `limit`."""
    return next(n for n in range(min(limit, count), 0, -1) if count % n == 0)


def least_padding(count: int, sizes: Iterable[int]) -> int:
    """Return the tile size that pads `count` least; the first wins ties."""
    return min(sizes, key=lambda size: -count % size)


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes
    ----------
    schedules : dict of str to Schedule
        Layer -> schedule, for layers where another one than the default needs fewer.
    measured, cached : int
        Variants that were simulated, and that the cache knew.
    before, after : int
        Of all convolutions of one inference, with the default and with the chosen schedules.
    by : {"instructions", "cycles"}
        What these are, cycles estimated.
    """

    schedules: dict[str, Schedule]
    measured: int
    cached: int
    before: int
    after: int
    by: TuneFor = "instructions"
