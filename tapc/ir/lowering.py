"""Walking a QDQ graph: what its tensors hold, and the tensors and operators of the program that it becomes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tapc.base.arithmetic import Mode, arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.graph.exact import exact
from tapc.graph.rules import rule, rules
from tapc.ir.program import Op, Tensor

_BITS = {
    onnx.TensorProto.INT16: 16,
    onnx.TensorProto.INT8: 8,
    onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.INT2: 2,
}


def _arranges(node: onnx.NodeProto) -> bool:
    return node.op_type in rules() and rule(node).arranges


class QdqGraph:
    """Lookups in a QDQ graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes = list(graph.node)
        self.producer = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        infos = [*inferred.value_info, *inferred.input, *inferred.output]
        self.shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in infos}

    def constant(self, name: str) -> NDArray[Any]:
        """Return an initializer as an array."""
        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def bits(self, name: str) -> int:
        """Return the bits of an initializer's codes."""
        return _BITS[self.constants[name].data_type]

    def quantized(self, name: str) -> str:
        """Name of the codes behind a dequantized activation, also where it is rearranged for its reader."""
        node = self.producer.get(name)
        while node is not None and _arranges(node):
            node = self.producer.get(node.input[0])
        if node is None or node.op_type != "DequantizeLinear":
            raise UnsupportedError(f"tensor {name!r} is not quantized: every activation needs a Q/DQ pair")
        return str(node.input[0])

    def dequantized_constant(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        """Codes, scales and bits of a dequantized initializer."""
        node = self.producer[name]
        codes = self.constant(node.input[0]).astype(np.int64)
        bits = _BITS.get(self.constants[node.input[0]].data_type, 32)
        return codes, self.constant(node.input[1]).astype(np.float32).reshape(-1), bits


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _nhwc(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) == 4:
        return shape[2], shape[3], shape[1]
    return 1, 1, int(np.prod(shape[1:]))


class Lowering:
    """Walks the graph once, in order, and collects operators."""

    def __init__(self, model: onnx.ModelProto, mode: Mode) -> None:
        self.graph = QdqGraph(model)
        self.mode = mode
        self.exact = exact(model)
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.skip: set[str] = set()
        self.scores: dict[str, tuple[str, str, int, Tensor]] = {}
        """Codes of attention's scores -> queries, keys, heads and the scores' quantization."""
        self.weighted: dict[str, tuple[tuple[str, str, int, Tensor], Tensor]] = {}
        """Codes of their softmax -> what `scores` holds, and its quantization."""

    def tensor(self, quantize: onnx.NodeProto) -> Tensor:
        """Register the result of a QuantizeLinear node."""
        scale, zero = (self.graph.constant(name) for name in quantize.input[1:3])
        return Tensor(
            quantize.input[0],
            _nhwc(self.graph.shapes[quantize.output[0]]),
            self.graph.bits(quantize.input[2]),
            float(np.float32(scale)),
            int(zero),
        )

    def source(self, node: onnx.NodeProto, index: int = 0) -> Tensor:
        """Return the quantized tensor that a node reads."""
        return self.tensors[self.graph.quantized(node.input[index])]

    def result(self, node: onnx.NodeProto) -> tuple[Tensor, str, int, int]:
        """Follow a node's output through Relu and Clip to its QuantizeLinear: tensor, key and clamp bounds."""
        name, bounds = node.output[0], (-np.inf, np.inf)
        while True:
            users = self.graph.consumers.get(name, [])
            if len(users) != 1:
                raise UnsupportedError(f"output {name!r} of node {node.name!r} must feed exactly one QuantizeLinear")
            user = users[0]
            if user.op_type == "QuantizeLinear":
                break
            if _arranges(user):
                name = user.output[0]
                continue
            if user.op_type not in rules() or not rule(user).activation:
                raise UnsupportedError(f"output {name!r} of node {node.name!r} is not quantized before {user.op_type}")
            bounds = self.bounds(user, bounds)
            self.skip.add(user.name)
            name = user.output[0]
        tensor = self.tensor(user)
        low, high = self.codes(tensor, bounds)
        return tensor, user.output[0], low, high

    def bounds(self, node: onnx.NodeProto, bounds: tuple[float, float]) -> tuple[float, float]:
        """Narrow bounds by a Relu or Clip."""
        if node.op_type == "Relu":
            return max(bounds[0], 0.0), bounds[1]
        limits = [float(self.graph.constant(n)) if n else None for n in [*node.input[1:], "", ""][:2]]
        low = bounds[0] if limits[0] is None else max(bounds[0], limits[0])
        return low, bounds[1] if limits[1] is None else min(bounds[1], limits[1])

    def codes(self, t: Tensor, bounds: tuple[float, float]) -> tuple[int, int]:
        """Return real bounds as codes of a tensor."""

        def code(value: float, default: int) -> int:
            if not np.isfinite(value):
                return default
            return int(np.clip(arithmetic_of(self.mode).steps(value, t.scale) + t.zero, t.low, t.high))

        return code(bounds[0], t.low), code(bounds[1], t.high)

    def add(self, node: onnx.NodeProto, make: Callable[[Tensor, str, int, int], Op]) -> None:
        """Add the operator that `make` makes of a node's result: its tensor, key and clamp bounds."""
        tensor, key, low, high = self.result(node)
        self.tensors[key] = tensor
        self.ops.append(make(tensor, key, low, high))


Handler = Callable[[Lowering, onnx.NodeProto], None]
_handlers: dict[str, Handler] = {}


def lowers(*types: str) -> Callable[[Handler], Handler]:
    """Return a decorator for what brings nodes into the program that no float graph has; others have a rule."""

    def add(handler: Handler) -> Handler:
        _handlers.update(dict.fromkeys(types, handler))
        return handler

    return add


def handlers() -> Mapping[str, Handler]:
    """Return ONNX operator -> what lowers its nodes."""
    return _handlers | {name: known.lower for name, known in rules().items()}
