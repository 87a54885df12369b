"""QDQ ONNX -> integer program: the scales and zero points of the model decide every number."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Mode
from tapc.base.errors import UnsupportedError
from tapc.base.normalization import norm_factors
from tapc.hardware.target import Isa
from tapc.lower.lowering import Lowering, attributes
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


def _conv(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, a = lowering.source(node), attributes(node)
    codes, scales, bits = lowering.graph.dequantized_constant(node.input[1])
    pads = tuple(a.get("pads", (0, 0, 0, 0)))
    stride, groups = tuple(a.get("strides", (1, 1))), int(a.get("group", 1))
    _weighted(lowering, node, x, codes.transpose(0, 2, 3, 1), scales, bits, stride, pads, groups)


def _gemm(lowering: Lowering, node: onnx.NodeProto) -> None:
    x = lowering.source(node)
    codes, scales, bits = lowering.graph.dequantized_constant(node.input[1])
    _weighted(lowering, node, x, codes[:, None, None, :], scales, bits, (1, 1), (0, 0, 0, 0), 1)


def _weighted(
    lowering: Lowering,
    node: onnx.NodeProto,
    x: Tensor,
    weights: NDArray[np.int64],
    scales: NDArray[np.float32],
    bits: int,
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    groups: int,
) -> None:
    bias = lowering.graph.dequantized_constant(node.input[2])[0]
    bound = np.abs(bias) + np.abs(weights).reshape(len(bias), -1).sum(axis=1) * 255
    if bound.max() >= 2**31:
        channel = int(bound.argmax())
        raise UnsupportedError(
            f"node {node.name!r}, channel {channel}: the accumulator may reach {int(bound.max())}, beyond int32"
        )

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratios = np.float32(x.scale) * scales / np.float32(y.scale)
        ratios = np.broadcast_to(ratios, bias.shape).astype(np.float32)
        inputs = (lowering.graph.quantized(node.input[0]),)
        return Conv(
            node.name, inputs, key, weights.astype(np.int8), bits, bias.astype(np.int32), ratios,
            stride, pads, groups, low, high,
        )  # fmt: skip

    lowering.add(node, make)


def _pool(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, a = lowering.source(node), attributes(node)
    kind = node.op_type
    if kind == "GlobalAveragePool":
        a = {"kernel_shape": x.shape[:2]}
    kernel = tuple(a["kernel_shape"])
    counts = np.arange(1, kernel[0] * kernel[1] + 1, dtype=np.float32)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        return Pool(
            node.name, (lowering.graph.quantized(node.input[0]),), key,
            "max" if kind == "MaxPool" else "average", kernel, tuple(a.get("strides", (1, 1))),
            tuple(a.get("pads", (0, 0, 0, 0))), bool(a.get("count_include_pad", 0)),
            np.float32(x.scale) / (np.float32(y.scale) * counts), low, high,
        )  # fmt: skip

    lowering.add(node, make)


def _sum(lowering: Lowering, node: onnx.NodeProto) -> None:
    if add_constant(lowering, node):
        return
    inputs = (lowering.graph.quantized(node.input[0]), lowering.graph.quantized(node.input[1]))
    lowering.add(node, lambda y, key, low, high: Add(node.name, inputs, key, low, high))


def _concat(lowering: Lowering, node: onnx.NodeProto) -> None:
    inputs = tuple(lowering.graph.quantized(name) for name in node.input)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratios = tuple(np.float32(lowering.tensors[n].scale) / np.float32(y.scale) for n in inputs)
        return Concat(node.name, inputs, key, ratios, low, high)

    lowering.add(node, make)


def _pad(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, pads = lowering.source(node), lowering.graph.constant(node.input[1]).tolist()

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratio = np.float32(x.scale) / np.float32(y.scale)
        spatial = (pads[2], pads[3], pads[6], pads[7])
        return Pad(node.name, (lowering.graph.quantized(node.input[0]),), key, spatial, ratio)

    lowering.add(node, make)


def _transpose(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Take no step: a Transpose only arranges what a normalization or a product reads or gives."""


def _reshape(lowering: Lowering, node: onnx.NodeProto) -> None:
    users = lowering.graph.consumers[node.output[0]]
    if lowering.graph.producer[node.input[0]].op_type != "DequantizeLinear" or users[0].op_type != "QuantizeLinear":
        return
    x = lowering.source(node)

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
            node.name, (lowering.graph.quantized(node.input[0]),), key, order, not (plain or x.shape == y.shape)
        )

    lowering.add(node, make)


def _softmax(lowering: Lowering, node: onnx.NodeProto) -> None:
    if attention_softmax(lowering, node):
        return
    x = lowering.source(node)

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        levels = round(1 / y.scale)
        if levels != 1 / y.scale or levels > 256:
            raise UnsupportedError(f"node {node.name!r}: the scale of a Softmax output must be 1/n, n <= 256")
        table = arithmetic.softmax_table(x.scale, x.shape[2], x.high - x.low + 1)
        return Softmax(node.name, (lowering.graph.quantized(node.input[0]),), key, table, levels)

    lowering.add(node, make)


def _quantize(lowering: Lowering, node: onnx.NodeProto) -> None:
    """QuantizeLinear: the network's input, a change of scale, or the end of another operator."""
    producer = lowering.graph.producer.get(node.input[0])
    if producer is None:
        lowering.tensors[node.output[0]] = lowering.tensor(node)
    elif producer.op_type == "DequantizeLinear":
        lowering.rescale(producer.input[0], node.name, node, (-np.inf, np.inf))


def _clip(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Lower a Relu or Clip that does not follow another operator directly."""
    if node.name in lowering.skip:
        return
    users = lowering.graph.consumers[node.output[0]]
    lowering.rescale(
        lowering.graph.quantized(node.input[0]), node.name, users[0], lowering.bounds(node, (-np.inf, np.inf))
    )


_HANDLERS: dict[str, Callable[[Lowering, onnx.NodeProto], None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _pool,
    "Add": _sum,
    "Concat": _concat,
    "Pad": _pad,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Transpose": _transpose,
    "LayerNormalization": layer_norm,
    "Gelu": gelu,
    "MatMul": product,
    "Relu": _clip,
    "Clip": _clip,
    "QuantizeLinear": _quantize,
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
    lowering = Lowering(model, mode)
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
