"""Nodes and constants of an ONNX graph that is written from a TFLite file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.frontend.given import mark_node

_KINDS = {"FLOAT32": TensorProto.FLOAT, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64}
Interface = tuple[str, tuple[int, ...], str]
"""Name, shape and TFLite type of an input or output."""


class OnnxBuilder:
    """Collects nodes and initializers of an opset 21 graph."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def constant(self, array: Any, name: str = "") -> str:
        """Add an initializer and return its name."""
        name = name or f"constant_{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a vector of int64."""
        return self.constant(np.array(values, np.int64))

    def node(self, op: str, inputs: Sequence[str], name: str = "", output: str = "", **attributes: Any) -> str:
        """Add a one-output node and return its output's name."""
        return self.nodes(op, inputs, [output or f"value_{len(self._nodes)}"], name, **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node of these outputs and return their names."""
        self._nodes.append(helper.make_node(op, list(inputs), list(outputs), name=name, **attributes))
        return list(outputs)

    def mark(self, number: int, value: str) -> str:
        """Add the mark of a quantizer and return its output's name."""
        result = f"value_{len(self._nodes)}"
        self._nodes.append(mark_node(number, value, result))
        return result

    def channels_first(self, value: str) -> str:
        """Return (N, C, H, W) of (N, H, W, C)."""
        return self.node("Transpose", [value], perm=[0, 3, 1, 2])

    def channels_last(self, value: str) -> str:
        """Return (N, H, W, C) of (N, C, H, W)."""
        return self.node("Transpose", [value], perm=[0, 2, 3, 1])

    def reshape(self, value: str, shape: Sequence[int], name: str = "") -> str:
        """Return a value of another shape."""
        return self.node("Reshape", [value, self.integers(*shape)], name)

    def model(self, name: str, inputs: Sequence[Interface], outputs: Sequence[Interface]) -> onnx.ModelProto:
        """Return the model with these inputs and outputs."""
        ends = [
            [
                helper.make_tensor_value_info(key, _KINDS.get(kind, TensorProto.FLOAT), shape)
                for key, shape, kind in side
            ]
            for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, name, *ends, self._initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def as_array(array: NDArray[Any]) -> NDArray[Any]:
    """Return a constant in a type that ONNX operators take."""
    return array.astype(np.int64) if array.dtype.kind in "iu" else array
