"""Bringing samples to a network's shape where there is one way to do it."""

import math
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError

Shape = tuple[int, ...]


def fitted(x: NDArray[Any], shape: Shape, name: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Bring samples (N, ...) to a network's shape.

    Dimensions of size 1 come and go; channels may be last; a row of values is taken for what can be written as a row in
    one way only.

    Parameters
    ----------
    x : ndarray (N, ...)
    shape : tuple of int
        The network's input with batch 1, (1, C, ...) or (1, F).
    name : str
        For messages.

    Returns
    -------
    ndarray (N, *shape[1:])
    tuple of str
        What is doubtful.

    Raises
    ------
    DataError
        It does not fit; says what would.
    """
    wanted, given = shape[1:], x.shape[1:]
    if given == wanted:
        return x, ()
    if len(wanted) == 3 and given == (*wanted[1:], wanted[0]):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), ()
    bare, own = _bare(wanted), _bare(given)
    if own == bare:
        return x.reshape(len(x), *wanted), ()
    if len(wanted) == 3 and own == _bare((*wanted[1:], wanted[0])):
        # No pictures: a series with its channels last. It fits in no other way, but may have other axes.
        moved = np.moveaxis(x.reshape(len(x), *own), -1, 1).reshape(len(x), *wanted)
        text = f"{name}: samples of shape {given} were taken with their channels last, as the network takes {wanted}"
        return np.ascontiguousarray(moved), (text,)
    if math.prod(given) == math.prod(wanted):
        if len(own) == 1 and (wanted[0] == 1 or len(bare) == 1):
            return x.reshape(len(x), *wanted), ()
        if len(bare) == 1:
            text = f"{name}: samples of shape {given} were written row by row into the {math.prod(wanted)} inputs"
            return x.reshape(len(x), *wanted), (text,)
    raise DataError(f"{name}: samples have shape {given}, the network takes {wanted}; {_advice(given, wanted)}")


def _bare(shape: Shape) -> Shape:
    return tuple(extent for extent in shape if extent != 1)


def _advice(given: Shape, wanted: Shape) -> str:
    if len(_bare(given)) == 1 and math.prod(given) == math.prod(wanted):
        last = (*wanted[1:], wanted[0])
        return (
            f"rows of {math.prod(given)} values may be in the order {wanted} or {last}: reshape them, "
            f"x.reshape(-1, {', '.join(map(str, wanted))}) or x.reshape(-1, {', '.join(map(str, last))}), and give "
            "them as .npy or npz"
        )
    own, bare = _bare(given), _bare(wanted)
    orders = [p for p in permutations(range(len(own))) if tuple(own[i] for i in p) == bare]
    if orders and len(own) == len(given):
        order = ", ".join(str(axis + 1) for axis in orders[0])
        return f"axes are exchanged: give x.transpose(0, {order})"
    if math.prod(given) == math.prod(wanted):
        return "as many values in another order: reorder the data"
    return "resize or reorder the data, or compile a model with that input shape"
