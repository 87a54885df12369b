"""Sparse TFLite weights, written out.

A tensor is stored as a tree, one level for each axis in `traversal_order`, those of blocks behind the others: a dense
level has all children of each node, a sparse one those that its segments and indices name (TFLite's schema,
SparsityParameters).
"""

import math
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

_VECTORS = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}


def dense(values: NDArray[Any], sparsity: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return all elements of a sparse tensor.

    Parameters
    ----------
    values : ndarray, shape (stored,)
        In the order of the tree.
    sparsity : tflite.SparsityParameters
    shape : tuple of int

    Raises
    ------
    ValueError
        A tree that does not fit the shape or the values.
    """
    order, blocked = _numbers(sparsity.TraversalOrderAsNumpy()), _numbers(sparsity.BlockMapAsNumpy())
    inner = range(len(shape), len(shape) + len(blocked))
    sizes = {axis: sparsity.DimMetadata(order.tolist().index(axis)).DenseSize() for axis in inner}
    nodes = np.zeros(1, np.int64)
    places: dict[int, NDArray[np.int64]] = {}
    for level, axis in enumerate(order.tolist()):
        meta = sparsity.DimMetadata(level)
        if meta.Format() == tflite.DimensionType.DENSE:
            size = meta.DenseSize()
            parents, own = np.repeat(np.arange(len(nodes)), size), np.tile(np.arange(size), len(nodes))
            nodes = np.repeat(nodes, size) * size + own
        else:
            segments = _vector(meta.ArraySegmentsType(), meta.ArraySegments())
            indices = _vector(meta.ArrayIndicesType(), meta.ArrayIndices())
            counts = segments[nodes + 1] - segments[nodes]
            parents = np.repeat(np.arange(len(nodes)), counts)
            nodes = np.repeat(segments[nodes] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            own = indices[nodes]
        places = {known: place[parents] for known, place in places.items()} | {axis: own}
    if len(nodes) != values.size:
        raise ValueError(f"{values.size} values are stored for {len(nodes)} places")
    flat = np.zeros(math.prod(shape), values.dtype)
    where = [places[axis] for axis in range(len(shape))]
    for i, axis in enumerate(blocked.tolist()):
        where[axis] = where[axis] * sizes[len(shape) + i] + places[len(shape) + i]
    flat[np.ravel_multi_index(tuple(where), shape)] = values.reshape(-1)[nodes]
    return flat.reshape(shape)


def _numbers(array: Any) -> NDArray[np.int64]:
    return np.zeros(0, np.int64) if isinstance(array, int) else np.asarray(array, np.int64)


def _vector(kind: int, table: Any) -> NDArray[np.int64]:
    vector = _VECTORS[kind]()
    vector.Init(table.Bytes, table.Pos)
    return _numbers(vector.ValuesAsNumpy())
