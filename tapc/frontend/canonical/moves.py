"""Moves: a canonical tensor of some elements of another, in a few standard nodes."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.base.strides import Loops, strided
from tapc.frontend.canonical.edit import constant, insert_before, shape
from tapc.frontend.canonical.placed import Index


def write_move(node: ir.Node, base: ir.Value, wanted: Index) -> ir.Value:
    """Write nodes before `node` that bring elements of a canonical tensor into another arrangement.

    In the order of preference: one Reshape or Flatten; Reshape, Transpose, Reshape; a Slice or Gather along each axis;
    a Gather from the flattened tensor.

    Parameters
    ----------
    node : onnx_ir.Node
    base : onnx_ir.Value
        (1, C, H, W) or (1, F).
    wanted : ndarray of int64, shape (C, H, W) or (F,)
        Flat positions in `base`.

    Returns
    -------
    onnx_ir.Value
        (1, C, H, W) or (1, F), as `wanted`.
    """
    writer = _Writer(node)
    flat, size = wanted.reshape(-1), int(np.prod(shape(base)))
    if flat.size == size:
        if np.array_equal(flat, np.arange(size)):
            return writer.reshape(base, wanted.shape)
        digits = strided(flat)
        if digits is not None and (found := writer.permuted(base, digits, wanted.shape)) is not None:
            return found
    found = writer.along_axes(base, wanted)
    return writer.gathered(base, wanted) if found is None else found


class _Writer:
    def __init__(self, node: ir.Node) -> None:
        self.node = node
        assert isinstance(node.graph, ir.Graph)
        self.graph = node.graph

    def emit(
        self, op: str, inputs: Sequence[ir.Value], extents: Sequence[int], **attributes: int | Sequence[int]
    ) -> ir.Value:
        return insert_before(self.node, op, inputs, attributes, extents, "")

    def constant(self, part: str, values: Sequence[int] | NDArray[np.integer]) -> ir.Value:
        return constant(self.graph, f"move.{part}", np.array(values, np.int64))

    def reshape(self, value: ir.Value, extents: Sequence[int]) -> ir.Value:
        """Reshape to (1, *extents), where that is another shape."""
        target = (1, *extents)
        if shape(value) == target:
            return value
        if len(extents) == 1:
            return self.emit("Flatten", [value], target, axis=1)
        return self.emit("Reshape", [value, self.constant("shape", target)], target)

    def permuted(self, base: ir.Value, loops: Loops, extents: Sequence[int]) -> ir.Value | None:
        """Split the axes, permute the parts and join them anew, where that is all."""
        order = sorted(range(len(loops)), key=lambda i: -loops[i][1])
        parts = [loops[i][0] for i in order]
        strides = [int(np.prod(parts[i + 1 :], dtype=np.int64)) for i in range(len(parts))]
        if [loops[i][1] for i in order] != strides or len(parts) > 7:
            return None
        own = shape(base)[1:]
        shown = [extent for extent in extents if extent != 1]
        if parts == [extent for extent in own if extent != 1] and shown == [extent for extent, _ in loops]:
            return self._transposed(base, loops, order, extents)
        perm = [order.index(i) for i in range(len(loops))]
        split = self.reshape(base, parts)
        target = (1, *(loops[i][0] for i in range(len(loops))))
        moved = self.emit("Transpose", [split], target, perm=(0, *(axis + 1 for axis in perm)))
        return self.reshape(moved, extents)

    def _transposed(self, base: ir.Value, loops: Loops, order: list[int], extents: Sequence[int]) -> ir.Value:
        own = shape(base)[1:]
        axes = [axis for axis, extent in enumerate(own) if extent != 1]
        perm = [axes[order.index(i)] for i in range(len(loops))]
        ones = [axis for axis in range(len(own)) if axis not in perm]
        full: list[int] = []
        if len(extents) == len(own):  # put ones where the result has them
            ordered, singles = iter(perm), iter(ones)
            full = [next(singles) if extent == 1 else next(ordered) for extent in extents if ones or extent != 1]
        if sorted(full) != list(range(len(own))):
            full = [*perm, *ones]
        moved = self.emit(
            "Transpose", [base], (1, *(own[axis] for axis in full)), perm=(0, *(axis + 1 for axis in full))
        )
        return self.reshape(moved, extents)

    def along_axes(self, base: ir.Value, wanted: Index) -> ir.Value | None:
        """Choose along each axis on its own."""
        own = shape(base)[1:]
        if wanted.ndim != len(own):
            return None
        parts = np.unravel_index(wanted, own)
        value = base
        for axis, part in enumerate(parts):
            line = np.moveaxis(part, axis, 0).reshape(part.shape[axis], -1)
            if (line != line[:, :1]).any():
                return None
        for axis, part in enumerate(parts):
            chosen = np.moveaxis(part, axis, 0).reshape(part.shape[axis], -1)[:, 0]
            if not np.array_equal(chosen, np.arange(own[axis])):
                value = self._along(value, axis + 1, chosen)
        return value

    def _along(self, value: ir.Value, axis: int, chosen: NDArray[np.integer]) -> ir.Value:
        extents = list(shape(value))
        extents[axis] = len(chosen)
        step = int(chosen[1] - chosen[0]) if len(chosen) > 1 else 1
        if step > 0 and np.array_equal(chosen, chosen[0] + step * np.arange(len(chosen))):
            parts = {"starts": [int(chosen[0])], "ends": [int(chosen[-1]) + 1], "axes": [axis], "steps": [step]}
            return self.emit("Slice", [value, *(self.constant(k, v) for k, v in parts.items())], extents)
        return self.emit("Gather", [value, self.constant("indices", chosen)], extents, axis=axis)

    def gathered(self, base: ir.Value, wanted: Index) -> ir.Value:
        """Choose from the flattened tensor."""
        flat = self.reshape(base, (int(np.prod(shape(base))),))
        return self.emit("Gather", [flat, self.constant("indices", wanted)], (1, *wanted.shape), axis=1)
