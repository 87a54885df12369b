"""Which elements of a canonical map a tensor of another shape holds, found by moving indices instead of values."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from tapc.frontend.canonical.edit import content, operand, shape

MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Split", "Slice", "Gather", "Expand", "Identity")
"""Operators that only move elements, where all inputs but the first are constant."""


@dataclass(frozen=True, eq=False)
class View:
    """A tensor whose elements are `factor` times elements of a map.

    Attributes
    ----------
    base : onnx_ir.Value
        The map, (1, C, H, W).
    index : ndarray of int64
        Of the tensor's shape: where each element lies in the flat map.
    factor : float
    """

    base: ir.Value
    index: NDArray[np.int64]
    factor: float = 1.0

    @property
    def channels(self) -> int:
        """Channels of the map."""
        return shape(self.base)[1]

    @property
    def pixels(self) -> int:
        """Pixels of the map."""
        return int(np.prod(shape(self.base)[2:]))

    def is_tokens(self) -> bool:
        """Whether the last axis holds all channels of a pixel, and the others the pixels in order."""
        expected = np.arange(self.channels * self.pixels).reshape(self.channels, self.pixels).T
        least = 2 if self.pixels > 1 else 3  # a single row is a vector of features
        if self.index.ndim < least or self.index.shape[-1] != self.channels:
            return False
        return bool(np.array_equal(self.index.reshape(-1, self.channels), expected))

    def is_map(self) -> bool:
        """Whether the tensor is the map, or the map flattened to a vector of features."""
        extents, shapes = self.index.shape, shape(self.base)
        same = extents == shapes or (len(extents) == 2 and extents[0] == 1)
        return same and self.factor == 1.0 and bool(np.array_equal(self.index.reshape(-1), np.arange(self.index.size)))

    def heads(self, *, transposed: bool) -> tuple[int, int, int] | None:
        """Return (first channel, heads, channels per head) of a (heads, pixels, channels) tensor, or None.

        Parameters
        ----------
        transposed : bool
            The tensor is (heads, channels, pixels).
        """
        index = self.index
        while index.ndim > 3 and index.shape[0] == 1:
            index = index[0]
        if index.ndim != 3:
            return None
        index = index.transpose(0, 2, 1) if transposed else index
        heads, pixels, width = index.shape
        first = int(index[0, 0, 0]) // self.pixels
        channel = first + np.arange(heads * width).reshape(heads, 1, width)
        expected = channel * self.pixels + np.arange(self.pixels).reshape(1, -1, 1)
        fits = pixels == self.pixels and np.array_equal(index, expected)
        return (first, heads, width) if fits else None


def whole(value: ir.Value) -> View:
    """Return the view of a map that is the map itself."""
    extents = shape(value)
    return View(value, np.arange(int(np.prod(extents)), dtype=np.int64).reshape(extents))


def moved(node: ir.Node, view: View, opset: int) -> list[View] | None:
    """Return what a node of `MOVES` makes of a view, one per output; None where its other inputs are not constant."""
    constants = [content(operand(node, i)) for i in range(1, len(node.inputs))]
    if any(array is None and operand(node, i) is not None for i, array in enumerate(constants, 1)):
        return None
    proto = ir.to_proto(node)
    assert isinstance(proto, onnx.NodeProto)
    names = list(proto.input)
    graph = onnx.helper.make_graph(
        [proto],
        "move",
        [onnx.helper.make_tensor_value_info(names[0], onnx.TensorProto.INT64, None)],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in proto.output],
        [onnx.numpy_helper.from_array(a, n) for n, a in zip(names[1:], constants, strict=True) if a is not None],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    results = ReferenceEvaluator(model).run(None, {names[0]: view.index})
    return [View(view.base, np.asarray(result), view.factor) for result in results]
