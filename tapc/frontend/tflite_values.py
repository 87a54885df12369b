"""What TFLite operators make of arrays: those that move elements, and those that compute shapes and counters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Known = Sequence[Array | None]
_Move = Callable[[Sequence[Any], Mapping[str, Any], tuple[int, ...]], Sequence[Array]]


def _sliced(x: Sequence[Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> list[Array]:
    starts, sizes = (part.reshape(-1).tolist() for part in x[1:3])
    ends = [None if size < 0 else start + size for start, size in zip(starts, sizes, strict=True)]
    return [x[0][tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))]]


def _strided(x: Sequence[Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> list[Array]:
    if options["EllipsisMask"] or options["NewAxisMask"] or options.get("Offset"):
        raise ValueError("an ellipsis or a new axis")
    places: list[slice | int] = []
    for axis, (begin, end, step) in enumerate(zip(*(part.reshape(-1).tolist() for part in x[1:4]), strict=True)):
        if options["ShrinkAxisMask"] >> axis & 1:
            places.append(begin)
        else:
            first = None if options["BeginMask"] >> axis & 1 else begin
            places.append(slice(first, None if options["EndMask"] >> axis & 1 else end, step))
    return [np.asarray(x[0][tuple(places)])]


def _cut(array: Array, sizes: Sequence[int], axis: int) -> list[Array]:
    return list(np.split(array, np.cumsum(sizes)[:-1], axis=axis))


def _split(x: Sequence[Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> list[Array]:
    axis = int(x[0].reshape(-1)[0])
    extent = x[1].shape[axis]
    return _cut(x[1], [shape[axis]] * (extent // shape[axis]), axis)


def _split_v(x: Sequence[Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> list[Array]:
    axis = int(x[2].reshape(-1)[0])
    sizes = x[1].reshape(-1).tolist()
    rest = x[0].shape[axis] - sum(size for size in sizes if size >= 0)
    return _cut(x[0], [size if size >= 0 else rest for size in sizes], axis)


def _gathered(x: Sequence[Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> list[Array]:
    if options["BatchDims"]:
        raise ValueError("batch_dims")
    return [np.asarray(np.take(x[0], x[1], axis=options["Axis"]))]


def _updated(x: Sequence[Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> list[Array]:
    result = x[0].copy()
    extents = zip(x[2].reshape(-1).tolist(), x[1].shape, x[0].shape, strict=True)
    # As TFLite does, a box that would leave the operand moves back into it.
    starts = [(min(max(start, 0), whole - size), size) for start, size, whole in extents]
    result[tuple(slice(start, start + size) for start, size in starts)] = x[1]
    return [result]


def _reshaped(x: Sequence[Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> list[Array]:
    wanted = x[1].reshape(-1).tolist() if len(x) > 1 and x[1] is not None else shape
    return [x[0].reshape(wanted)]


_MOVES: dict[str, tuple[tuple[int, ...], _Move]] = {
    "RESHAPE": ((0,), _reshaped),
    "SQUEEZE": ((0,), lambda x, o, shape: [x[0].reshape(shape)]),
    "EXPAND_DIMS": ((0,), lambda x, o, shape: [np.expand_dims(x[0], int(x[1].reshape(-1)[0]))]),
    "TRANSPOSE": ((0,), lambda x, o, shape: [x[0].transpose(x[1].tolist())]),
    "SLICE": ((0,), _sliced),
    "STRIDED_SLICE": ((0,), _strided),
    "GATHER": ((0,), _gathered),
    "SPLIT": ((1,), _split),
    "SPLIT_V": ((0,), _split_v),
    "UNPACK": ((0,), lambda x, o, shape: [np.asarray(part) for part in np.moveaxis(x[0], o["Axis"], 0)]),
    "REVERSE_V2": ((0,), lambda x, o, shape: [np.flip(x[0], tuple(x[1].reshape(-1).tolist()))]),
    "TILE": ((0,), lambda x, o, shape: [np.tile(x[0], x[1].reshape(-1).tolist())]),
    "BROADCAST_TO": ((0,), lambda x, o, shape: [np.broadcast_to(x[0], x[1].reshape(-1).tolist())]),
    "PAD": ((0,), lambda x, o, shape: [np.pad(x[0], x[1].tolist())]),
    "DYNAMIC_UPDATE_SLICE": ((0, 1), _updated),
}
_JOINS: dict[str, _Move] = {
    "CONCATENATION": lambda x, o, shape: [np.concatenate(x, axis=o["Axis"])],
    "PACK": lambda x, o, shape: [np.stack(x, axis=o["Axis"])],
}
MOVES = (*_MOVES, *_JOINS)


def data_of(kind: str, count: int) -> tuple[int, ...]:
    """Return which of an operator's `count` inputs have the elements that it moves; others say where to."""
    return tuple(range(count)) if kind in _JOINS else _MOVES[kind][0]


def moved(kind: str, inputs: Known, options: Mapping[str, Any], shape: tuple[int, ...]) -> Sequence[Array] | None:
    """Return what an operator of `MOVES` makes of arrays of anything.

    Parameters
    ----------
    kind : str
    inputs : sequence of ndarray or None
        None where an input is missing, or not known.
    options : mapping
    shape : tuple of int
        Of the first output, where the operator itself does not tell it.

    Returns
    -------
    sequence of ndarray, or None
        None where something that must be known is not, or does not fit.
    """
    if any(array is None for place, array in enumerate(inputs) if place < 1 or kind != "RESHAPE"):
        return None
    if kind in ("CONCATENATION", "ADD") and options.get("FusedActivationFunction"):
        return None
    try:
        return (_JOINS[kind] if kind in _JOINS else _MOVES[kind][1])(inputs, options, shape)
    except (ValueError, IndexError):
        return None


_DTYPES = {"FLOAT32": np.float32, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}
_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "FLOOR_DIV": np.floor_divide, "FLOOR_MOD": np.mod,
    "MAXIMUM": np.maximum, "MINIMUM": np.minimum, "NEG": np.negative, "LESS": np.less, "LESS_EQUAL": np.less_equal,
    "GREATER": np.greater, "GREATER_EQUAL": np.greater_equal, "EQUAL": np.equal, "NOT_EQUAL": np.not_equal,
    "LOGICAL_AND": np.logical_and, "LOGICAL_OR": np.logical_or, "LOGICAL_NOT": np.logical_not,
    "SELECT": np.where, "SELECT_V2": np.where,
}  # fmt: skip
_REDUCED: dict[str, Callable[..., Any]] = {
    "REDUCE_PROD": np.prod, "SUM": np.sum, "REDUCE_MAX": np.max, "REDUCE_MIN": np.min, "REDUCE_ALL": np.all,
    "REDUCE_ANY": np.any,
}  # fmt: skip


def computed(kind: str, inputs: Known, options: Mapping[str, Any], dtype: str) -> Array | None:
    """Return what an operator on known numbers gives where that is whole numbers, or conditions, or a constant.

    Parameters
    ----------
    kind : str
    inputs : sequence of ndarray or None
    options : mapping
    dtype : str
        Of the output, as TFLite calls it.

    Returns
    -------
    ndarray or None
        None where it is not computed here.
    """
    if any(array is None for array in inputs) or dtype not in _DTYPES or options.get("FusedActivationFunction"):
        return None
    x: Sequence[Any] = inputs
    whole = dtype != "FLOAT32"
    if kind in _ELEMENTWISE and whole:
        found = _ELEMENTWISE[kind](*x)
    elif kind in _REDUCED and whole:
        found = _REDUCED[kind](x[0], axis=tuple(x[1].reshape(-1).tolist()), keepdims=bool(options.get("KeepDims")))
    elif kind == "FILL":
        found = np.full(x[0].reshape(-1).tolist(), x[1].reshape(()))
    elif kind == "ZEROS_LIKE":
        found = np.zeros_like(x[0])
    elif kind == "RANGE" and whole:
        found = np.arange(*(int(part.reshape(())) for part in x))
    elif kind == "CAST":
        found = x[0]
    else:
        return None
    return np.asarray(found).astype(_DTYPES[dtype])
