"""Where the elements of a source tensor lie: in a canonical tensor, by index, so that moving them costs nothing yet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import shape

Index = NDArray[np.int64]
"""Positions in a canonical tensor, flat in the order of its axes."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A source tensor whose elements are elements of a canonical one.

    Attributes
    ----------
    base : onnx_ir.Value
        Canonical tensor, (1, C, H, W) or (1, F).
    index : ndarray of int64
        Of the source tensor's shape: where each element lies in `base`.
    """

    base: ir.Value
    index: Index

    @cached_property
    def whole(self) -> bool:
        """Whether every element of the canonical tensor occurs once."""
        flat = self.index.reshape(-1)
        size = int(np.prod(shape(self.base)))
        if flat.size != size:
            return False
        return bool(np.array_equal(flat, np.arange(size))) or bool((np.bincount(flat, minlength=size) == 1).all())


def positions(extents: Sequence[int]) -> Index:
    """Return for each element of (C, H, W) or (F,), in this order, where it is stored: channels innermost."""
    order = np.arange(int(np.prod(extents)), dtype=np.int64)
    if len(extents) != 3:
        return order
    channels, height, width = extents
    return order.reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)


def stored(wanted: Index, extents: Sequence[int]) -> Index:
    """Return where the elements of an arrangement are stored, in the order in which it would be stored itself.

    Parameters
    ----------
    wanted : ndarray of int64, shape (C, H, W) or (F,)
        Elements of a canonical tensor.
    extents : sequence of int
        (C, H, W) or (F,) of that tensor.
    """
    where = positions(extents)[wanted]
    return (where.transpose(1, 2, 0) if where.ndim == 3 else where).reshape(-1)


def is_free(wanted: Index, base: ir.Value) -> bool:
    """Whether an arrangement of all elements of a canonical tensor is stored as the tensor itself is."""
    extents = shape(base)[1:]
    size = int(np.prod(extents))
    return wanted.size == size and bool(np.array_equal(stored(wanted, extents), np.arange(size)))


Groups = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Axes of a source tensor that become C, H and W, each flattened in this order."""


def arrange(index: NDArray[np.generic], groups: Groups) -> NDArray[np.generic]:
    """Return an array of a source tensor's shape as (C, H, W); axes in no group have an extent of 1."""
    order = [axis for group in groups for axis in group]
    rest = [axis for axis in range(index.ndim) if axis not in order]
    moved = index.transpose(*rest, *order)
    extents = [int(np.prod([index.shape[axis] for axis in group], dtype=np.int64)) for group in groups]
    return moved.reshape(extents)


def candidates(extents: Sequence[int], channels: Sequence[int] | None = None, alone: int | None = None) -> list[Groups]:
    """Return the arrangements of a source tensor that may be tried, the one most usual first.

    Parameters
    ----------
    extents : sequence of int
        Of the source tensor, batch included.
    channels : sequence of int, optional
        Axes that become C; by default any.
    alone : int, optional
        Axis that must be all of C, H or W.
    """
    axes = [axis for axis, extent in enumerate(extents) if extent != 1 or axis == alone]
    if channels is not None:
        rest = [axis for axis in axes if axis not in channels]
        return [(tuple(channels), *split) for split in _splits(rest, alone)]
    found: list[Groups] = []
    for first in _leading(axes, extents):
        rest = [axis for axis in axes if axis != first]
        found += [((first,) if first is not None else (), *split) for split in _splits(rest, alone)]
    if len(axes) > 3:
        merged = [((axes[0], *(a for a in axes[1:-2])), (axes[-2],), (axes[-1],))]
        found += [groups for groups in merged if alone is None or any(group == (alone,) for group in groups)]
    return [groups for groups in found if alone is None or any(group == (alone,) for group in groups)]


def _leading(axes: list[int], extents: Sequence[int]) -> Iterator[int | None]:
    """Yield axes that may be the channels: as in (N, C, H, W), then the last as in sequences, then others."""
    if not axes:
        yield None
        return
    usual = 1 if len(extents) == 4 and 1 in axes else axes[-1]
    yield usual
    yield from (axis for axis in axes if axis != usual)


def _splits(rest: list[int], alone: int | None) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield ways to divide axes into H and W."""
    if len(rest) < 2:
        yield (), tuple(rest)
        yield tuple(rest), ()
        return
    orders = permutations(rest) if len(rest) == 2 else [tuple(rest)]
    for order in orders:
        for cut in range(1, len(order)):
            parts = order[:cut], order[cut:]
            if alone is None or alone not in order or (alone,) in parts:
                yield parts
