"""QDQ ONNX -> integer program: the scales and zero points of the model decide every number."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tapc import arithmetic
from tapc.arithmetic import Mode
from tapc.errors import UnsupportedError
from tapc.lower.program import (
    Add,
    AddConstant,
    Attention,
    Concat,
    Conv,
    LayerNorm,
    Op,
    Pad,
    Pool,
    Program,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)
from tapc.lower.transformer import add_constant, attention_softmax, gelu, layer_norm, product
from tapc.normalization import norm_factors
from tapc.target import Isa

_BITS = {
    onnx.TensorProto.INT8: 8,
    onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.INT2: 2,
}

_ARRANGE = ("Reshape", "Transpose")


class _Graph:
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
        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def bits(self, name: str) -> int:
        return _BITS[self.constants[name].data_type]

    def quantized(self, name: str) -> str:
        """Name of the codes behind a dequantized activation, also where it is rearranged for its reader."""
        node = self.producer.get(name)
        while node is not None and node.op_type in _ARRANGE:
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


class _Lowering:
    """Walks the graph once, in order, and collects operators."""

    def __init__(self, model: onnx.ModelProto, mode: Mode) -> None:
        self.graph = _Graph(model)
        self.mode = mode
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
            if user.op_type in _ARRANGE:
                name = user.output[0]
                continue
            if user.op_type not in ("Relu", "Clip"):
                raise UnsupportedError(f"output {name!r} of node {node.name!r} is not quantized before {user.op_type}")
            bounds = self._bounds(user, bounds)
            self.skip.add(user.name)
            name = user.output[0]
        tensor = self.tensor(user)
        low, high = self._codes(tensor, bounds)
        return tensor, user.output[0], low, high

    def _bounds(self, node: onnx.NodeProto, bounds: tuple[float, float]) -> tuple[float, float]:
        if node.op_type == "Relu":
            return max(bounds[0], 0.0), bounds[1]
        limits = [float(self.graph.constant(n)) if n else None for n in [*node.input[1:], "", ""][:2]]
        low = bounds[0] if limits[0] is None else max(bounds[0], limits[0])
        return low, bounds[1] if limits[1] is None else min(bounds[1], limits[1])

    def _codes(self, t: Tensor, bounds: tuple[float, float]) -> tuple[int, int]:
        def code(value: float, default: int) -> int:
            if not np.isfinite(value):
                return default
            return int(np.clip(np.rint(np.float32(value) / np.float32(t.scale)) + t.zero, t.low, t.high))

        return code(bounds[0], t.low), code(bounds[1], t.high)

    def add(self, node: onnx.NodeProto, make: Callable[[Tensor, str, int, int], Op]) -> None:
        tensor, key, low, high = self.result(node)
        self.tensors[key] = tensor
        self.ops.append(make(tensor, key, low, high))

    # One method per operator; `lower` dispatches on the ONNX name.

    def conv(self, node: onnx.NodeProto) -> None:
        x, a = self.source(node), attributes(node)
        codes, scales, bits = self.graph.dequantized_constant(node.input[1])
        pads = tuple(a.get("pads", (0, 0, 0, 0)))
        stride, groups = tuple(a.get("strides", (1, 1))), int(a.get("group", 1))
        self._weighted(node, x, codes.transpose(0, 2, 3, 1), scales, bits, stride, pads, groups)

    def gemm(self, node: onnx.NodeProto) -> None:
        x = self.source(node)
        codes, scales, bits = self.graph.dequantized_constant(node.input[1])
        self._weighted(node, x, codes[:, None, None, :], scales, bits, (1, 1), (0, 0, 0, 0), 1)

    def _weighted(
        self,
        node: onnx.NodeProto,
        x: Tensor,
        weights: NDArray[np.int64],
        scales: NDArray[np.float32],
        bits: int,
        stride: tuple[int, int],
        pads: tuple[int, int, int, int],
        groups: int,
    ) -> None:
        bias = self.graph.dequantized_constant(node.input[2])[0]
        bound = np.abs(bias) + np.abs(weights).reshape(len(bias), -1).sum(axis=1) * 255
        if bound.max() >= 2**31:
            channel = int(bound.argmax())
            raise UnsupportedError(
                f"node {node.name!r}, channel {channel}: the accumulator may reach {int(bound.max())}, beyond int32"
            )

        def make(y: Tensor, key: str, low: int, high: int) -> Op:
            ratios = np.float32(x.scale) * scales / np.float32(y.scale)
            ratios = np.broadcast_to(ratios, bias.shape).astype(np.float32)
            inputs = (self.graph.quantized(node.input[0]),)
            return Conv(
                node.name, inputs, key, weights.astype(np.int8), bits, bias.astype(np.int32), ratios,
                stride, pads, groups, low, high,
            )  # fmt: skip

        self.add(node, make)

    def pool(self, node: onnx.NodeProto) -> None:
        x, a = self.source(node), attributes(node)
        kind = node.op_type
        if kind == "GlobalAveragePool":
            a = {"kernel_shape": x.shape[:2]}
        kernel = tuple(a["kernel_shape"])
        counts = np.arange(1, kernel[0] * kernel[1] + 1, dtype=np.float32)

        def make(y: Tensor, key: str, low: int, high: int) -> Op:
            return Pool(
                node.name, (self.graph.quantized(node.input[0]),), key,
                "max" if kind == "MaxPool" else "average", kernel, tuple(a.get("strides", (1, 1))),
                tuple(a.get("pads", (0, 0, 0, 0))), bool(a.get("count_include_pad", 0)),
                np.float32(x.scale) / (np.float32(y.scale) * counts), low, high,
            )  # fmt: skip

        self.add(node, make)

    def sum(self, node: onnx.NodeProto) -> None:
        if add_constant(self, node):
            return
        inputs = (self.graph.quantized(node.input[0]), self.graph.quantized(node.input[1]))
        self.add(node, lambda y, key, low, high: Add(node.name, inputs, key, low, high))

    def concat(self, node: onnx.NodeProto) -> None:
        inputs = tuple(self.graph.quantized(name) for name in node.input)

        def make(y: Tensor, key: str, low: int, high: int) -> Op:
            ratios = tuple(np.float32(self.tensors[n].scale) / np.float32(y.scale) for n in inputs)
            return Concat(node.name, inputs, key, ratios, low, high)

        self.add(node, make)

    def pad(self, node: onnx.NodeProto) -> None:
        x, pads = self.source(node), self.graph.constant(node.input[1]).tolist()

        def make(y: Tensor, key: str, low: int, high: int) -> Op:
            ratio = np.float32(x.scale) / np.float32(y.scale)
            spatial = (pads[2], pads[3], pads[6], pads[7])
            return Pad(node.name, (self.graph.quantized(node.input[0]),), key, spatial, ratio)

        self.add(node, make)

    def transpose(self, node: onnx.NodeProto) -> None:
        """Take no step: a Transpose only arranges what a normalization or a product reads or gives."""

    def reshape(self, node: onnx.NodeProto) -> None:
        users = self.graph.consumers[node.output[0]]
        if self.graph.producer[node.input[0]].op_type != "DequantizeLinear" or users[0].op_type != "QuantizeLinear":
            return
        x = self.source(node)

        def make(y: Tensor, key: str, low: int, high: int) -> Op:
            if x.quantization != y.quantization or x.bits != y.bits:
                raise UnsupportedError(f"node {node.name!r} must not change the quantization of its input")
            flat = y.shape[0] * y.shape[1] == 1
            wide = x if flat else y
            plain = wide.shape[0] * wide.shape[1] == 1 or (wide.shape[2] == 1 and x.bits == 8)
            order: Literal["to_nchw", "from_nchw"] = "to_nchw" if flat else "from_nchw"
            if not flat and x.shape[0] * x.shape[1] != 1 and x.shape != y.shape:
                raise UnsupportedError(f"node {node.name!r} reshapes a map to a map; only flattening and its inverse")
            return Reshape(
                node.name, (self.graph.quantized(node.input[0]),), key, order, not (plain or x.shape == y.shape)
            )

        self.add(node, make)

    def softmax(self, node: onnx.NodeProto) -> None:
        if attention_softmax(self, node):
            return
        x = self.source(node)

        def make(y: Tensor, key: str, low: int, high: int) -> Op:
            levels = round(1 / y.scale)
            if levels != 1 / y.scale or levels > 256:
                raise UnsupportedError(f"node {node.name!r}: the scale of a Softmax output must be 1/n, n <= 256")
            table = arithmetic.softmax_table(x.scale, x.shape[2], x.high - x.low + 1)
            return Softmax(node.name, (self.graph.quantized(node.input[0]),), key, table, levels)

        self.add(node, make)

    def quantize(self, node: onnx.NodeProto) -> None:
        """QuantizeLinear: the network's input, a change of scale, or the end of another operator."""
        producer = self.graph.producer.get(node.input[0])
        if producer is None:
            self.tensors[node.output[0]] = self.tensor(node)
        elif producer.op_type == "DequantizeLinear":
            self.rescale(producer.input[0], node.name, node, (-np.inf, np.inf))

    def clip(self, node: onnx.NodeProto) -> None:
        """Lower a Relu or Clip that does not follow another operator directly."""
        if node.name in self.skip:
            return
        users = self.graph.consumers[node.output[0]]
        self.rescale(self.graph.quantized(node.input[0]), node.name, users[0], self._bounds(node, (-np.inf, np.inf)))

    def rescale(self, source: str, name: str, quantize: onnx.NodeProto, bounds: tuple[float, float]) -> None:
        y = self.tensor(quantize)
        key = quantize.output[0]
        self.tensors[key] = y
        ratio = np.float32(self.tensors[source].scale) / np.float32(y.scale)
        self.ops.append(Requantize(name, (source,), key, ratio, *self._codes(y, bounds)))


_HANDLERS: dict[str, Callable[[_Lowering, onnx.NodeProto], None]] = {
    "Conv": _Lowering.conv,
    "Gemm": _Lowering.gemm,
    "MaxPool": _Lowering.pool,
    "AveragePool": _Lowering.pool,
    "GlobalAveragePool": _Lowering.pool,
    "Add": _Lowering.sum,
    "Concat": _Lowering.concat,
    "Pad": _Lowering.pad,
    "Flatten": _Lowering.reshape,
    "Reshape": _Lowering.reshape,
    "Softmax": _Lowering.softmax,
    "Transpose": _Lowering.transpose,
    "LayerNormalization": layer_norm,
    "Gelu": gelu,
    "MatMul": product,
    "Relu": _Lowering.clip,
    "Clip": _Lowering.clip,
    "QuantizeLinear": _Lowering.quantize,
}


def program_from_onnx(model: onnx.ModelProto, name: str, mode: Mode, isa: Isa) -> Program:
    """Lower a mixed-precision QDQ model.

    Parameters
    ----------
    model : ModelProto
        As `tapc.quantize` exports it: every activation and constant behind a Q/DQ pair.
    name : str
        Name of the program.
    mode : {"float", "fixed"}
        Requantization of the target core.
    isa : {"dsp", "mve", "scalar"}
        Instruction set family of the target core.

    Raises
    ------
    UnsupportedError
        For an operator without integer form, an activation that is not quantized, or a possible int32 overflow.
    """
    lowering = _Lowering(model, mode)
    for node in lowering.graph.nodes:
        if node.op_type == "DequantizeLinear":
            continue
        handler = _HANDLERS.get(node.op_type)
        if handler is None:
            raise UnsupportedError(
                f"node {node.name!r}: operator {node.op_type} has no integer form; supported: {', '.join(_HANDLERS)}"
            )
        with np.errstate(over="ignore"):  # infinite ratios are refused below
            handler(lowering, node)
    source = lowering.graph.consumers[model.graph.input[0].name][0].output[0]
    target = lowering.graph.quantized(model.graph.output[0].name)
    for op in lowering.ops:
        _check_scales(op, lowering.tensors, mode)
    return Program(name, mode, lowering.tensors, tuple(lowering.ops), source, target, isa)


def _check_scales(op: Op, tensors: dict[str, Tensor], mode: Mode) -> None:
    """Raise UnsupportedError where integer arithmetic cannot express the ratio of an operator's scales."""
    y = tensors[op.output]
    try:
        if isinstance(op, Add | AddConstant):
            operands = [tensors[name].quantization for name in op.inputs]
            operands += [(op.scale, 0)] if isinstance(op, AddConstant) else []
            arithmetic.add_factors(operands[0], operands[1], y.quantization, mode)
        elif isinstance(op, LayerNorm):
            norm_factors(op.gain, op.offset, op.epsilon, tensors[op.inputs[0]].scale, mode)
        elif isinstance(op, Attention):
            arithmetic.multipliers(op.scores.ratios, mode)
        elif isinstance(op, Conv | Pool | Requantize | Concat | Pad):
            ratios = op.ratio if isinstance(op, Requantize | Pad) else op.ratios
            arithmetic.multipliers(np.atleast_1d(np.asarray(ratios, np.float32)), mode)
    except ValueError as error:
        raise UnsupportedError(
            f"node {op.name!r} cannot be computed in integers: {error}. Its output reaches from "
            f"{y.scale * (y.low - y.zero):.4g} to {y.scale * (y.high - y.zero):.4g}; scale the weights before it, or "
            "move the bound of the Clip behind it, so that its inputs and its output have ranges of similar size"
        ) from error
