"""How a kernel is computed: instruction set family, tile and unrolling. A schedule never changes a result."""

from collections.abc import Iterable
from dataclasses import dataclass


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
    """

    rows: int
    pixels: int
    unroll: int


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
        Layer -> schedule, for layers where another one than the default needs fewer instructions.
    measured, cached : int
        Variants that were simulated, and that the cache knew.
    before, after : int
        Instructions of all convolutions of one inference, with the default and with the chosen schedules.
    """

    schedules: dict[str, Schedule]
    measured: int
    cached: int
    before: int
    after: int
