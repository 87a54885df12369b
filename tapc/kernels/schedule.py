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
