"""Moves in a TFLite file: a change of shape, a slice, nearest neighbours, a transposition, or a table of places."""

import numpy as np
from numpy.typing import NDArray

from tapc.base.strides import strided
from tapc.ir.tflite import Point, TfliteFile, write
from tapc.operators.move import Move

_MOST_AXES = 5  # of a transposition, the batch included


@write.register
def _write(op: Move, file: TfliteFile) -> None:
    x, y = file.program.tensors[op.inputs[0]], file.program.tensors[op.output]
    source, target, point = file.tensor(op.inputs[0]), file.tensor(op.output), Point(x.scale, x.zero)
    flat = op.index.reshape(-1).astype(np.int64)
    if flat.size == np.prod(x.shape) and np.array_equal(flat, np.arange(flat.size)):
        file.reshaped(source, target, y.shape)
        return
    if (own := _slice(op.index, x.shape)) is not None:
        begin, end, step = (file.constant(np.array(part, np.int32)) for part in own)
        file.node("STRIDED_SLICE", [source, begin, end, step], target, "StridedSliceOptions", 2)
        return
    if _is_nearest(op.index, x.shape):
        size = file.constant(np.array(y.shape[:2], np.int32))
        file.node("RESIZE_NEAREST_NEIGHBOR", [source, size], target, "ResizeNearestNeighborOptions", 2)
        return
    if (turned := _transposition(flat, int(np.prod(x.shape)))) is not None:
        before, order = turned
        wide, after = file.between(before, point), file.between(tuple(before[axis] for axis in order), point)
        file.reshaped(source, wide, before)
        permutation = file.constant(np.array([0, *(axis + 1 for axis in order)], np.int32))
        file.node("TRANSPOSE", [wide, permutation], after, "TransposeOptions", 2)
        file.reshaped(after, target, y.shape)
        return
    line, found = file.between((1, 1, int(np.prod(x.shape))), point), file.between((1, 1, flat.size), point)
    file.reshaped(source, line, (1, 1, int(np.prod(x.shape))))
    file.node("GATHER", [line, file.constant(flat.astype(np.int32))], found, "GatherOptions", 2, axis=3)
    file.reshaped(found, target, y.shape)


def _slice(
    index: NDArray[np.int32], extents: tuple[int, int, int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """Return begins, ends and steps where elements are those of a slice with steps above zero."""
    if any(size > extent for size, extent in zip(index.shape, extents, strict=True)):
        return None
    firsts = np.unravel_index(int(index.flat[0]), extents)
    begins, ends, steps = [0], [1], [1]
    for axis, (size, first) in enumerate(zip(index.shape, firsts, strict=True)):
        along = np.moveaxis(index, axis, 0)[:, 0, 0]
        stride = int(np.prod(extents[axis + 1 :]))
        step = 1 if size == 1 else int(along[1] - along[0]) // stride
        if step < 1:
            return None
        begins.append(int(first))
        ends.append(int(first) + (size - 1) * step + 1)
        steps.append(step)
    grid = np.arange(int(np.prod(extents))).reshape(extents)
    seen = grid[tuple(slice(b, e, s) for b, e, s in zip(begins[1:], ends[1:], steps[1:], strict=True))]
    return (tuple(begins), tuple(ends), tuple(steps)) if np.array_equal(seen, index) else None


def _is_nearest(index: NDArray[np.int32], extents: tuple[int, int, int]) -> bool:
    """Whether rows and columns are repeated as TFLite finds the nearest one: the place, scaled and rounded down."""
    if index.shape[2] != extents[2] or any(index.shape[i] < extents[i] for i in (0, 1)):
        return False
    rows, columns = (np.arange(index.shape[i]) * extents[i] // index.shape[i] for i in (0, 1))
    grid = np.arange(int(np.prod(extents))).reshape(extents)
    return np.array_equal(grid[rows][:, columns], index)


def _transposition(flat: NDArray[np.int64], elements: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return extents of the input, and the order of its axes, where elements are all of it in another order of axes."""
    loops = strided(flat) if flat.size == elements and flat[0] == 0 else None
    if loops is None or len(loops) + 1 > _MOST_AXES or any(stride is None for _, stride in loops):
        return None
    by_stride = sorted(range(len(loops)), key=lambda i: -int(loops[i][1] or 0))
    expected = elements
    for i in by_stride:
        extent, stride = loops[i]
        expected //= extent
        if stride != expected:
            return None
    order = tuple(by_stride.index(i) for i in range(len(loops)))
    return tuple(loops[i][0] for i in by_stride), order
