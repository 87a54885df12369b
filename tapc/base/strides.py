"""Positions as nested loops: what a copy with strides visits."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
Loops = tuple[tuple[int, int], ...]
"""(extent, stride) of each loop, outermost first."""


def strided(flat: Index) -> Loops | None:
    """Return nested loops that give these positions in order, from the first on; None where there are none.

    Parameters
    ----------
    flat : ndarray of int64, shape (N,)
    """
    loops: list[tuple[int, int]] = []
    while flat.size > 1:
        stride = int(flat[1] - flat[0])
        breaks = np.flatnonzero(np.diff(flat) != stride)
        run = int(breaks[0]) + 1 if breaks.size else flat.size
        for length in range(run, 1, -1):
            rows = flat.reshape(-1, length) if flat.size % length == 0 else None
            if rows is not None and np.array_equal(rows, rows[:, :1] + stride * np.arange(length)):
                break
        else:
            return None
        loops.append((length, stride))
        flat = flat[::length]
    return tuple(loops[::-1])


def visited(loops: Sequence[tuple[int, int]], first: int = 0) -> Index:
    """Return the positions that loops visit, in order, shape (N,)."""
    found = np.array([first], np.int64)
    for extent, stride in loops:
        found = (found[:, None] + stride * np.arange(extent)).reshape(-1)
    return found
