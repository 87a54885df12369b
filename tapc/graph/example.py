"""Small networks in which an operator occurs, for tests: operators bring one each."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.graph.opset import IR, OPSET

SHAPE = (1, 3, 8, 8)


class Example:
    """Builds canonical float ONNX around the nodes of an operator.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws all weights, and whatever the operator leaves open.

    Attributes
    ----------
    input : str
        The network's input, of shape `SHAPE`.
    opset : int
        Version of ONNX.
    """

    input = "x"
    opset = OPSET

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def pick(self, *values: Any) -> Any:
        """Return one of the values."""
        return values[int(self.rng.integers(len(values)))]

    def constant(self, value: Any) -> str:
        """Add a constant; return its name."""
        name = f"c{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that reads these tensors; return what it gives."""
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def map(self, channels: int, height: int, width: int) -> str:
        """Return a tensor (1, channels, height, width), at most as large as the input, that depends on the input.

        One of its channels may be constant.
        """
        window = (SHAPE[2] - height + 1, SHAPE[3] - width + 1)
        weights = self.normal((channels, SHAPE[1], *window), 1 / np.sqrt(SHAPE[1] * window[0] * window[1]))
        if channels > 1 and self.rng.random() < 0.5:
            weights[int(self.rng.integers(channels))] = 0
        parts = self.constant(weights), self.constant(self.normal((channels,), 0.3))
        return self.node("Conv", self.input, *parts, kernel_shape=list(window))

    def vector(self, features: int) -> str:
        """Return a tensor (1, features) that depends on the input."""
        parts = self.constant(self.normal((features, SHAPE[1]), 1.0)), self.constant(self.normal((features,), 0.3))
        flat = self.node("Flatten", self.node("GlobalAveragePool", self.input), axis=1)
        return self.node("Gemm", flat, *parts, transB=1)

    def any(self) -> str:
        """Return a map or a vector of any size."""
        return self.vector(self.pick(3, 8)) if self.pick(0, 1) else self.map(*(self.pick(1, 3, 8) for _ in range(3)))

    def normal(self, shape: tuple[int, ...], deviation: float) -> NDArray[np.float32]:
        """Draw an array of float32."""
        return self.rng.normal(0, deviation, shape).astype(np.float32)

    def build(self, *outputs: str) -> onnx.ModelProto:
        """Return the network: its output is the last tensor, or features of all of them side by side."""
        output = outputs[0]
        if len(outputs) > 1:
            flat = [self._features(name) for name in outputs]
            output = self.node("Concat", *flat, axis=1)
        return self._model(output)

    def _features(self, tensor: str) -> str:
        shape = self._model(tensor).graph.output[0].type.tensor_type.shape.dim
        if len(shape) == 2:
            return tensor
        return self.node("Flatten", self.node("GlobalAveragePool", tensor), axis=1)

    def _model(self, output: str) -> onnx.ModelProto:
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes, "example", [info(self.input, TensorProto.FLOAT, SHAPE)],
            [info(output, TensorProto.FLOAT, None)], initializer=self._initializers,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR[self.opset])
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
