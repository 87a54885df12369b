"""How each quantizer, and each operator of integers, is read."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tapc.base.errors import UnsupportedError
from tapc.frontend.quantized_ordinary import ordinary
from tapc.frontend.quantized_reader import Codes, Grid, Reader, handles


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _input(node: onnx.NodeProto, index: int) -> str:
    return str(node.input[index]) if index < len(node.input) else ""


@handles("QuantizeLinear")
def quantize(r: Reader, node: onnx.NodeProto) -> None:
    """Mark an activation; round a constant."""
    kind = _attribute(node, "output_dtype", None) or None
    source, zero = r.of(node.input[0]), _input(node, 2)
    if node.input[0] in r.constants:
        values, scales = r.constants[node.input[0]], r.array(node.input[1], f"node {node.name!r}").astype(np.float32)
        zeros = r.constants[zero].astype(np.int64) if zero else np.zeros(scales.shape, np.int64)
        along = [1] * values.ndim
        if scales.size > 1:
            along[_attribute(node, "axis", 1)] = -1
        low, high = r.ends(zero, kind)
        scaled = np.rint(values / (scales.reshape(along) if scales.size > 1 else scales.reshape(())))
        codes = np.clip(scaled + (zeros.reshape(along) if zeros.size > 1 else zeros.reshape(())), low, high)
        r.constants[node.output[0]] = codes.astype(np.int64)
        r.types[node.output[0]] = r.types.get(zero, TensorProto.UINT8)
        return
    r.quantized(node.output[0], source, r.grid(node, node.input[1], zero, kind))


@handles("DequantizeLinear")
def dequantize(r: Reader, node: onnx.NodeProto) -> None:
    """Take the real values of integers."""
    name, result = str(node.input[0]), str(node.output[0])
    if _attribute(node, "block_size", 0):
        raise UnsupportedError(f"node {node.name!r}: scales of blocks; quantize per tensor or per channel")
    if name in r.constants and name not in r.held:
        scales = r.array(node.input[1], f"node {node.name!r}").astype(np.float32).reshape(-1)
        zero = _input(node, 2)
        zeros = r.constants[zero].astype(np.int64).reshape(-1) if zero else np.zeros(1, np.int64)
        bits = r.width(name)
        r.codes[result] = Codes(r.constants[name].astype(np.int64), scales, zeros, _attribute(node, "axis", 1), bits)
        r.real_constant(result, r.codes[result].real())
        return
    kind = r.inputs.get(name)
    grid = r.held[name].grid if name in r.held else r.grid(node, node.input[1], _input(node, 2), kind)
    own = r.grid(node, node.input[1], _input(node, 2), kind)
    real = r.integer(name, Grid(own.scale, own.zero, grid.low, grid.high))
    if result in r.outputs:
        r.emit("Identity", [real], result)
    else:
        r.alias[result] = real


@handles("Clip")
def clip(r: Reader, node: onnx.NodeProto) -> None:
    """Narrow the codes of integers; a clamp of real values is an ordinary operator."""
    name = str(node.input[0])
    if name in r.held:
        held, bounds = r.held[name], []
        for index, default in ((1, held.grid.low), (2, held.grid.high)):
            end = _input(node, index)
            bounds.append(int(r.array(end, f"node {node.name!r}").reshape(-1)[0]) if end else default)
        low, high = max(bounds[0], held.grid.low), min(bounds[1], held.grid.high)
        r.quantized(node.output[0], held.before, Grid(held.grid.scale, held.grid.zero, low, high))
    elif name in r.constants and name in r.types and r.constants[name].dtype.kind in "iu":
        ends = [r.array(_input(node, i), f"node {node.name!r}").astype(np.int64) for i in (1, 2)]
        r.constants[node.output[0]] = np.clip(r.constants[name].astype(np.int64), *ends)
        r.types[node.output[0]] = r.types[name]
        r.widths[node.output[0]] = int(max(int(ends[1] - ends[0]), 1)).bit_length()
    else:
        ordinary(r, node)


@handles("QLinearConv")
def convolution(r: Reader, node: onnx.NodeProto) -> None:
    """Read (x, scale, zero, w, scale, zero, y scale, y zero, bias)."""
    x = r.integer(node.input[0], r.grid(node, node.input[1], node.input[2]))
    weights = _constant(r, node, 3, 0)
    _layer(r, node, "Conv", x, weights, _input(node, 8), (6, 7), node.attribute)


@handles("QLinearMatMul")
def product(r: Reader, node: onnx.NodeProto) -> None:
    """Read (a, scale, zero, b, scale, zero, y scale, y zero)."""
    a = r.integer(node.input[0], r.grid(node, node.input[1], node.input[2]))
    if node.input[3] not in r.constants:
        b = r.integer(node.input[3], r.grid(node, node.input[4], node.input[5]))
        result = r.emit("MatMul", [a, b], f"{node.output[0]}_real")
        r.quantized(node.output[0], result, r.grid(node, node.input[6], node.input[7]))
        return
    rank = r.constants[node.input[3]].ndim
    _layer(r, node, "MatMul", a, _constant(r, node, 3, rank - 1), "", (6, 7), ())


@handles("QGemm")
def gemm(r: Reader, node: onnx.NodeProto) -> None:
    """Read (a, scale, zero, b, scale, zero, bias, y scale, y zero)."""
    if not _input(node, 7):
        raise UnsupportedError(f"node {node.name!r}: a QGemm without an output scale gives real values; not supported")
    a = r.integer(node.input[0], r.grid(node, node.input[1], node.input[2]))
    weights = _constant(r, node, 3, 0 if _attribute(node, "transB", 0) else 1)
    if _attribute(node, "alpha", 1.0) != 1.0:
        raise UnsupportedError(f"node {node.name!r}: alpha {_attribute(node, 'alpha', 1.0)}; only 1 is supported")
    _layer(r, node, "Gemm", a, weights, _input(node, 6), (7, 8), node.attribute)


def _constant(r: Reader, node: onnx.NodeProto, index: int, axis: int) -> str:
    """Register constant weights behind which their scale and zero point follow; return their real values' name."""
    name = str(node.input[index])
    values = r.array(name, f"node {node.name!r}").astype(np.int64)
    scales = r.array(node.input[index + 1], f"node {node.name!r}").astype(np.float32).reshape(-1)
    zeros = r.constants[node.input[index + 2]].astype(np.int64).reshape(-1)
    real = f"{node.output[0]}_weights"
    r.codes[real] = Codes(values, scales, zeros, axis, r.width(name))
    return r.real_constant(real, r.codes[real].real())


def _layer(
    r: Reader, node: onnx.NodeProto, op: str, x: str, weights: str, bias: str, result: tuple[int, int], attributes: Any
) -> None:
    inputs = [x, weights]
    if bias:
        scales = np.float32(r.grids[x].scale) * r.codes[weights].scales
        codes = r.array(bias, f"node {node.name!r}").astype(np.int64).reshape(-1)
        name = f"{node.output[0]}_bias"
        r.codes[name] = Codes(codes, scales.astype(np.float32), np.zeros(1, np.int64), 0, 32)
        inputs.append(r.real_constant(name, r.codes[name].real()))
    real = f"{node.output[0]}_real"
    layer = helper.make_node(op, inputs, [real], name=node.name)
    layer.attribute.extend(item for item in attributes if item.name not in ("alpha", "beta"))
    r.weights(layer, weights, inputs[2] if bias else "", x)
    r.nodes.append(layer)
    r.quantized(node.output[0], real, r.grid(node, node.input[result[0]], node.input[result[1]]))


@handles("QLinearAdd", "QLinearMul")
def binary(r: Reader, node: onnx.NodeProto) -> None:
    """Read (a, scale, zero, b, scale, zero, y scale, y zero)."""
    operands = [r.integer(node.input[i], r.grid(node, node.input[i + 1], node.input[i + 2])) for i in (0, 3)]
    real = r.emit(node.op_type.removeprefix("QLinear"), operands, f"{node.output[0]}_real", name=node.name)
    for name in operands:
        r.operand(name)
    r.quantized(node.output[0], real, r.grid(node, node.input[6], node.input[7]))


_UNARY = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearAveragePool": "AveragePool",
    "QLinearReduceMean": "ReduceMean",
}


@handles(*_UNARY)
def unary(r: Reader, node: onnx.NodeProto) -> None:
    """Read (x, scale, zero, y scale, y zero)."""
    if _attribute(node, "channels_last", 0):
        raise UnsupportedError(f"node {node.name!r}: {node.op_type} of channels that lie last is not supported")
    x = r.integer(node.input[0], r.grid(node, node.input[1], _input(node, 2)))
    copy = helper.make_node(_UNARY[node.op_type], [x], [f"{node.output[0]}_real"], name=node.name)
    copy.attribute.extend(item for item in node.attribute if item.name not in ("channels_last", "opset"))
    r.nodes.append(copy)
    r.quantized(node.output[0], copy.output[0], r.grid(node, node.input[3], _input(node, 4)))


@handles("QLinearConcat")
def concatenation(r: Reader, node: onnx.NodeProto) -> None:
    """Read (y scale, y zero, then x, scale, zero each)."""
    parts = [
        r.integer(node.input[i], r.grid(node, node.input[i + 1], node.input[i + 2]))
        for i in range(2, len(node.input), 3)
    ]
    real = r.emit("Concat", parts, f"{node.output[0]}_real", axis=_attribute(node, "axis", 0))
    r.quantized(node.output[0], real, r.grid(node, node.input[0], node.input[1]))


@handles("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
def dynamic(r: Reader, node: onnx.NodeProto) -> None:
    """Refuse what finds its scales while it runs."""
    raise UnsupportedError(
        f"node {node.name or node.output[0]!r}: {node.op_type} belongs to a network that is quantized while it runs, "
        "whose scales are in no file; quantize it statically, or pass the float32 network"
    )


@handles("Quant")
def quant(r: Reader, node: onnx.NodeProto) -> None:
    """Read QONNX's (x, scale, zero, bits)."""
    what = f"node {node.name or node.output[0]!r} (Quant)"
    scales = r.array(node.input[1], what).astype(np.float32)
    zeros, width = r.array(node.input[2], what), r.array(node.input[3], what).reshape(-1)
    bits = int(width[0])
    signed, narrow = _attribute(node, "signed", 1), _attribute(node, "narrow", 0)
    rounding = _attribute(node, "rounding_mode", b"ROUND")
    if (width != bits).any() or bits < 1 or (zeros != np.rint(zeros)).any():
        raise UnsupportedError(f"{what}: {width.tolist()[:3]} bits, zero point {zeros.reshape(-1)[:3].tolist()}")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    low, high = (low + 1, high) if narrow and signed else (low, high - bool(narrow))
    if node.input[0] in r.constants:
        axis, codes = _constant_quant(r, node, scales, zeros, (low, high))
        r.codes[node.output[0]] = Codes(
            codes, scales.reshape(-1), zeros.astype(np.int64).reshape(-1), axis, bits if bits <= 8 else 32
        )
        r.real_constant(node.output[0], r.codes[node.output[0]].real())
        return
    if scales.size != 1 or bits > 8 or rounding.upper() not in (b"ROUND", b"HALF_EVEN"):
        raise UnsupportedError(
            f"{what}: an activation of {scales.size} scales, {bits} bits, rounded {rounding.decode()}; one scale, up "
            "to 8 bits, rounded to nearest are supported"
        )
    grid = Grid(float(scales.reshape(-1)[0]), int(zeros.reshape(-1)[0]), low, high)
    real = r.mark(r.of(node.input[0]), grid)
    if node.output[0] in r.outputs:
        r.emit("Identity", [real], str(node.output[0]))
    else:
        r.alias[node.output[0]] = real


def _constant_quant(r: Reader, node: onnx.NodeProto, scales: Any, zeros: Any, ends: tuple[int, int]) -> tuple[int, Any]:
    values = r.constants[node.input[0]].astype(np.float32)
    codes = np.clip(np.rint(values / scales + zeros), *ends).astype(np.int64)
    axes = [axis for axis, extent in enumerate(scales.shape) if extent > 1]
    if len(axes) > 1:
        raise UnsupportedError(f"node {node.name!r}: scales along {len(axes)} axes; one per output is supported")
    return (axes[0] + values.ndim - scales.ndim if axes else 0), codes


@handles("BipolarQuant")
def bipolar(r: Reader, node: onnx.NodeProto) -> None:
    """Read QONNX's (x, scale): plus or minus one."""
    if node.input[0] not in r.constants:
        raise UnsupportedError(
            f"node {node.name!r}: activations of plus and minus one (BipolarQuant) are not supported"
        )
    scales = r.array(node.input[1], f"node {node.name!r}").astype(np.float32)
    values = r.constants[node.input[0]]
    axes = [axis for axis, extent in enumerate(scales.shape) if extent > 1]
    codes = np.where(values >= 0, 1, -1).astype(np.int64)
    axis = axes[0] + values.ndim - scales.ndim if axes else 0
    r.codes[node.output[0]] = Codes(codes, scales.reshape(-1), np.zeros(1, np.int64), axis, 2)
    r.real_constant(node.output[0], r.codes[node.output[0]].real())
