"""Small networks in which an operator occurs, for tests: operators bring one each."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.graph.opset import IR, OPSET

EXTENTS = (1, 1, 2, 3, 4, 5, 7, 8, 9)
CHANNELS = (1, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 33)
MOST = 400
"""Elements of a map: kernels meet all their borders in few."""


@dataclass(frozen=True)
class Source:
    """An input of the network.

    Attributes
    ----------
    name : str
    shape : tuple of int
        The batch, 1, first.
    deviation : float
        Of its values, which are distributed normally.
    tokens : int
        It holds tokens below this number; 0 where it holds values.
    """

    name: str
    shape: tuple[int, ...]
    deviation: float
    tokens: int = 0

    def draw(self, samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw samples (N, values)."""
        shape = samples, math.prod(self.shape)
        if self.tokens:
            return rng.integers(0, self.tokens, shape).astype(np.float32)
        return rng.normal(0, self.deviation, shape).astype(np.float32)


class Example:
    """Builds canonical float ONNX around the nodes of an operator.

    Every operand is made of an input of its own. What makes it decides what is special about it: its range, channels
    that are constant, or whether 4 bits may hold it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws all weights, and whatever the operator leaves open.
    prefix : str
        What its names begin with.

    Attributes
    ----------
    opset : int
        Version of ONNX.
    """

    opset = OPSET

    def __init__(self, rng: np.random.Generator, prefix: str = "") -> None:
        self.rng = rng
        self.prefix = prefix
        self.sources: list[Source] = []
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def pick(self, *values: Any) -> Any:
        """Return one of the values."""
        return values[int(self.rng.integers(len(values)))]

    def shape(
        self, channels: Iterable[int] = CHANNELS, height: Iterable[int] = EXTENTS, width: Iterable[int] = EXTENTS
    ) -> tuple[int, int, int]:
        """Draw channels, height and width of a map of at most `MOST` elements."""
        while True:
            drawn: tuple[int, int, int] = self.pick(*channels), self.pick(*height), self.pick(*width)
            if math.prod(drawn) <= MOST:
                return drawn

    def constant(self, value: Any) -> str:
        """Add a constant; return its name."""
        name = f"{self.prefix}c{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that reads these tensors; return what it gives."""
        name = f"{self.prefix}n{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def tokens(self, count: int, rows: int) -> str:
        """Return an input (1, 1, count, 1) of tokens below `rows`."""
        return self._source((1, 1, count, 1), 0.0, rows)

    def map(self, channels: int, height: int, width: int) -> str:
        """Return a tensor (1, channels, height, width) that depends on an input; channels of it may be constant."""
        kind = self.pick("input", "clip", "clip", "relu", "scale", "scale", "layer", "layer")
        if kind != "layer":
            return self._made((1, channels, height, width), kind)
        inputs, kernel = self.pick(1, 2, 3, 4), [self.pick(1, 2, 3), self.pick(1, 1, 2, 3)]
        x = self._source((1, inputs, height + kernel[0] - 1, width + kernel[1] - 1))
        weights = self.normal((channels, inputs, *kernel), 1 / math.sqrt(inputs * math.prod(kernel)))
        weights[self._dead(channels)] = 0
        parts = self.constant(weights), self.constant(self.normal((channels,), 0.3))
        return self.node("Conv", x, *parts, kernel_shape=kernel)

    def vector(self, features: int) -> str:
        """Return a tensor (1, features) that depends on an input; features of it may be constant."""
        kind = self.pick("input", "clip", "clip", "relu", "scale", "scale", "layer")
        if kind != "layer":
            return self._made((1, features), kind)
        inputs = self.pick(1, 3, 6)
        weights = self.normal((features, inputs), 1 / math.sqrt(inputs))
        weights[self._dead(features)] = 0
        parts = self.constant(weights), self.constant(self.normal((features,), 0.3))
        return self.node("Gemm", self._source((1, inputs)), *parts, transB=1)

    def any(self) -> str:
        """Return a map or a vector of any size."""
        return self.vector(self.pick(*CHANNELS)) if self.pick(0, 1) else self.map(*self.shape())

    def activation(self, tensor: str) -> str:
        """Return a result as it is, or what a Relu or Clip behind it gives."""
        kind = self.pick("none", "none", "Relu", "Clip")
        if kind != "Clip":
            return tensor if kind == "none" else self.node(kind, tensor)
        low, high = (self.constant(np.float32(v)) for v in (self.pick(-1, -0.2, 0), self.pick(0.5, 2, 6)))
        return self.node(kind, tensor, *self.pick((low, high), (low, high), (low,), ("", high)))

    def behind(self, tensor: str) -> str:
        """Return what stands behind a layer that may be computed with it: a sum with another map, a max-pooling."""
        _, channels, height, width = self._shape(tensor)
        if self.pick(0, 1):
            other = self.map(channels, height, width)
            return self.activation(self.node("Add", *((tensor, other) if self.pick(0, 1) else (other, tensor))))
        kernel = [min(self.pick(1, 2, 3), extent) for extent in (height, width)]
        strides = [self.pick(size, size + 1) for size in kernel]
        return self.node("MaxPool", self.activation(tensor), kernel_shape=kernel, strides=strides)

    def normal(self, shape: tuple[int, ...], deviation: float) -> NDArray[np.float32]:
        """Draw an array of float32."""
        return self.rng.normal(0, deviation, shape).astype(np.float32)

    def end(self, tensor: str) -> str:
        """Return what becomes of an operator's result: an output of the network as it is, or by a mean.

        An output has 8 bits; what is read by others may have 4.
        """
        if self.pick(0, 1):
            return tensor
        shape = self._shape(tensor)
        if len(shape) == 2:
            tensor = self.node("Reshape", tensor, self.constant(np.array([1, shape[1], 1, 1])))
        return self.node("GlobalAveragePool", tensor)

    def _shape(self, tensor: str) -> tuple[int, ...]:
        dims = _model([self], [tensor]).graph.output[0].type.tensor_type.shape.dim
        return tuple(dim.dim_value for dim in dims)

    def _source(self, shape: tuple[int, ...], deviation: float = 1.0, tokens: int = 0) -> str:
        self.sources.append(Source(f"{self.prefix}x{len(self.sources)}", shape, deviation, tokens))
        return self.sources[-1].name

    def _made(self, shape: tuple[int, ...], kind: str) -> str:
        x = self._source(shape, self.pick(0.3, 1.0, 1.0, 3.0))
        if kind == "relu":
            return self.node("Relu", x)
        if kind == "clip":
            return self.node("Clip", x, *(self.constant(np.float32(v)) for v in (self.pick(-2, -0.5), self.pick(1, 5))))
        if kind == "scale":
            factors = self.normal((shape[1], *[1] * (len(shape) - 2)), 1.0)
            factors[self._dead(shape[1])] = 0
            return self.node("Mul", x, self.constant(factors))
        return x

    def _dead(self, channels: int) -> NDArray[np.int64]:
        """Draw channels that are to be constant; never all of them."""
        count = self.pick(0, 1, channels // 2) if channels > 1 else 0
        return self.rng.choice(channels, count, replace=False)


def network(examples: list[Example], outputs: list[str]) -> onnx.ModelProto:
    """Return one network of several examples, with these outputs."""
    model = _model(examples, outputs)
    onnx.checker.check_model(model, full_check=True)
    return model


def _model(examples: list[Example], outputs: list[str]) -> onnx.ModelProto:
    def given(source: Source) -> onnx.ValueInfoProto:
        kind = TensorProto.INT64 if source.tokens else TensorProto.FLOAT
        return helper.make_tensor_value_info(source.name, kind, source.shape)

    graph = helper.make_graph(
        [node for e in examples for node in e._nodes], "example", [given(s) for e in examples for s in e.sources],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
        initializer=[constant for e in examples for constant in e._initializers],
    )  # fmt: skip
    opset = max(e.opset for e in examples)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR[opset])
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
