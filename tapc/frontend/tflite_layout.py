"""NHWC -> NCHW without Transpose: every tensor knows the order in which its elements lie.

A TFLite tensor of rank 4 is represented in NCHW. One of lower rank that was reshaped from an image keeps NCHW
element order as well, and the dense layer that reads it gets its weight columns permuted instead.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Order = NDArray[np.int64]


def canonical_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the NCHW shape of an NHWC one; other ranks stay."""
    if len(shape) != 4:
        return shape
    batch, height, width, channels = shape
    return (batch, channels, height, width)


def natural_order(shape: tuple[int, ...]) -> Order:
    """Return, for each flat index of the canonical tensor, the flat index in the source `shape`.

    That is NHWC -> NCHW for rank 4, and the source's own order for every other rank.
    """
    flat = np.arange(math.prod(shape), dtype=np.int64)
    return np.ascontiguousarray(flat.reshape(shape).transpose(0, 3, 1, 2)).reshape(-1) if len(shape) == 4 else flat


@dataclass(frozen=True)
class Value:
    """A converted TFLite activation.

    Attributes
    ----------
    name : str
        Tensor name in the ONNX graph.
    shape : tuple of int
        Source shape (NHWC).
    moved : int64 array or None
        Flat source index of each flat ONNX element, where that is not `natural_order(shape)`.
    """

    name: str
    shape: tuple[int, ...]
    moved: Order | None = None

    @property
    def order(self) -> Order:
        """Flat source index of each flat ONNX element."""
        return natural_order(self.shape) if self.moved is None else self.moved


def ordered(name: str, shape: tuple[int, ...], order: Order) -> Value:
    """Return a value whose elements lie in `order`, which is stored only where it is not the natural one."""
    return Value(name, shape, None if np.array_equal(order, natural_order(shape)) else order)


class OnnxBuilder:
    """Collects nodes and initializers of an opset 21 graph."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def constant(self, array: NDArray[Any]) -> str:
        """Add an initializer and return its name."""
        name = f"constant_{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def node(self, op: str, inputs: list[str], name: str, output: str | None = None, **attributes: Any) -> str:
        """Add a one-output node and return its output's name."""
        result = output or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [result], name=name, **attributes))
        return result

    def model(
        self, name: str, inlets: list[tuple[str, tuple[int, ...]]], outlets: list[tuple[str, tuple[int, ...]]]
    ) -> onnx.ModelProto:
        """Return the model with float32 inputs and outputs, each given as (name, shape)."""
        ends = [
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in values]
            for values in (inlets, outlets)
        ]
        graph = helper.make_graph(self._nodes, name, *ends, self._initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
