"""How each TFLite operator is spelled in ONNX."""

import math
from typing import Any

import numpy as np

from tapc.frontend.tflite_converter import Converter, converts
from tapc.frontend.tflite_reader import Operator


@converts("CONV_2D")
def conv(c: Converter, op: Operator) -> None:
    """Convert (O, H, W, I) weights."""
    weights = c.constant(op, 1)
    group, rest = divmod(c.shape(op)[-1], weights.shape[3])
    if rest:
        raise c.unsupported(op, f"{weights.shape[3]} channels per group of {c.shape(op)[-1]}")
    _convolve(c, op, weights.transpose(0, 3, 1, 2), group)


@converts("DEPTHWISE_CONV_2D")
def depthwise(c: Converter, op: Operator) -> None:
    """Convert (1, H, W, O) weights."""
    _convolve(c, op, c.constant(op, 1).transpose(3, 0, 1, 2), c.shape(op)[-1])


def _convolve(c: Converter, op: Operator, weights: Any, group: int) -> None:
    window = c.window(op, weights.shape[2:])
    inputs = [c.builder.channels_first(c.value(op)), c.builder.constant(weights, c.names[op.inputs[1]] + ".oihw")]
    inputs += [c.value(op, 2)] if c.has(op, 2) else []
    node = c.builder.node("Conv", inputs, c.name(op), group=group, **window)
    c.emit(op, c.builder.channels_last(node))


@converts("TRANSPOSE_CONV")
def transposed(c: Converter, op: Operator) -> None:
    """Convert (O, H, W, I) weights; the output's shape is that of the file."""
    weights = c.constant(op, 1).transpose(3, 0, 1, 2)
    out, image, strides = c.result(op)[1:3], c.shape(op, 2)[1:3], (op.options["StrideH"], op.options["StrideW"])
    pads, extra = [0, 0, 0, 0], [0, 0]
    for axis in (0, 1):
        full = (image[axis] - 1) * strides[axis] + weights.shape[2 + axis]
        cut = max(full - out[axis], 0) if op.options["Padding"] == 0 else 0
        pads[axis], pads[axis + 2] = cut // 2, cut - cut // 2
        extra[axis] = out[axis] - (full - cut)
    if min(extra) < 0:
        raise c.unsupported(op, f"its output {list(out)} is smaller than what it computes")
    inputs = [c.builder.channels_first(c.value(op, 2)), c.builder.constant(weights, c.names[op.inputs[1]] + ".iohw")]
    inputs += [c.value(op, 3)] if c.has(op, 3) else []
    node = c.builder.node(
        "ConvTranspose", inputs, c.name(op), kernel_shape=list(weights.shape[2:]), strides=list(strides), pads=pads,
        output_padding=extra,
    )  # fmt: skip
    c.emit(op, c.builder.channels_last(node))


@converts("FULLY_CONNECTED")
def dense(c: Converter, op: Operator) -> None:
    """Convert (O, I) weights, for one row or more; those that are computed make it a product of activations."""
    if op.inputs[1] in c.values and not c.has(op, 2) and len(c.shape(op, 1)) == 2:
        turned = c.builder.node("Transpose", [c.value(op, 1)], perm=[1, 0])
        rows = c.builder.reshape(c.value(op), (-1, c.shape(op, 1)[1]))
        c.emit(op, c.builder.reshape(c.builder.node("MatMul", [rows, turned], c.name(op)), c.result(op)))
        return
    weights = c.constant(op, 1)
    outputs, inputs = weights.shape
    if op.options["WeightsFormat"] != 0:
        raise c.unsupported(op, "shuffled weights")
    rows, rest = divmod(math.prod(c.shape(op)), inputs)
    if rest or math.prod(c.result(op)) != rows * outputs:
        raise c.unsupported(op, f"{list(c.shape(op))} does not hold vectors of {inputs} features")
    value = c.value(op)
    if c.shape(op) != (rows, inputs):
        value = c.builder.reshape(value, (rows, inputs))
    operands = [value, c.value(op, 1), *([c.value(op, 2)] if c.has(op, 2) else [])]
    node = c.builder.node("Gemm", operands, c.name(op), transB=1)
    if c.result(op) != (rows, outputs):
        node = c.builder.reshape(node, c.result(op))
    c.emit(op, node)


@converts("BATCH_MATMUL")
def batch_matmul(c: Converter, op: Operator) -> None:
    """Convert a product of matrices."""
    operands = []
    for position, flag in enumerate(("AdjX", "AdjY")):
        value, rank = c.value(op, position), len(c.shape(op, position))
        known = c.constants.get(op.inputs[position])
        if known is not None and op.options[flag]:
            value = c.builder.constant(np.swapaxes(known, -1, -2), f"{c.names[op.inputs[position]]}.turned")
        elif op.options[flag]:
            value = c.builder.node("Transpose", [value], perm=[*range(rank - 2), rank - 1, rank - 2])
        operands.append(value)
    c.emit(op, c.builder.node("MatMul", operands, c.name(op)))


_BINARY = {"ADD": "Add", "DIV": "Div", "POW": "Pow"}  # the rules of others say how TFLite spells them


@converts(*_BINARY)
def binary(c: Converter, op: Operator) -> None:
    """Convert operators of two operands that are broadcast."""
    c.emit(op, c.builder.node(_BINARY[op.kind], [c.value(op, 0), c.value(op, 1)], c.name(op)))


@converts("EQUAL")
def equal(c: Converter, op: Operator) -> None:
    """Convert a comparison, of which a choice is made."""
    c.emit(op, c.builder.node("Equal", [c.value(op, 0), c.value(op, 1)], c.name(op)))


@converts("SELECT", "SELECT_V2")
def select(c: Converter, op: Operator) -> None:
    """Convert a choice between the elements of two tensors."""
    c.emit(op, c.builder.node("Where", [c.value(op, i) for i in range(3)], c.name(op)))


@converts("SQUARED_DIFFERENCE")
def squared_difference(c: Converter, op: Operator) -> None:
    """Convert (a - b)^2."""
    difference = c.builder.node("Sub", [c.value(op, 0), c.value(op, 1)])
    c.emit(op, c.builder.node("Mul", [difference, difference], c.name(op)))


@converts("ADD_N")
def add_n(c: Converter, op: Operator) -> None:
    """Convert a sum of several operands; that of integers begins at the negative of the zero point, not at 0."""
    own = c.given.tensors.get(op.inputs[0])
    if own is not None and (len(op.inputs) > 2 or own.zeros.any()):
        why = "TFLite's sum of integers has a zero point too many" if own.zeros.any() else "no integers lie between"
        c.given.obstacle = str(c.unsupported(op, f"{why}, so it cannot be kept; write it as ADD of two"))
    c.emit(op, c.builder.node("Sum", [c.value(op, i) for i in range(len(op.inputs))], c.name(op)))


@converts("SQUARE")
def square(c: Converter, op: Operator) -> None:
    """Convert x^2."""
    c.emit(op, c.builder.node("Pow", [c.value(op), c.builder.constant(np.array(2, np.float32))], c.name(op)))


@converts("RSQRT")
def rsqrt(c: Converter, op: Operator) -> None:
    """Convert x^-0.5."""
    c.emit(op, c.builder.node("Pow", [c.value(op), c.builder.constant(np.array(-0.5, np.float32))], c.name(op)))


@converts("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")
def clamp(c: Converter, op: Operator) -> None:
    """Convert an activation on its own."""
    c.emit(op, c.activation(op, c.value(op), op.kind, c.name(op)))


@converts("PRELU")
def prelu(c: Converter, op: Operator) -> None:
    """Convert a slope per element of the last axes."""
    c.emit(op, c.builder.node("PRelu", [c.value(op), c.value(op, 1)], c.name(op)))


@converts("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D")
def pool(c: Converter, op: Operator) -> None:
    """Convert a pooling."""
    if op.kind == "L2_POOL_2D":
        raise c.unsupported(op, "the root of a mean of squares is not supported")
    window = c.window(op, (op.options["FilterHeight"], op.options["FilterWidth"]))
    kind = "AveragePool" if op.kind == "AVERAGE_POOL_2D" else "MaxPool"
    c.emit(
        op, c.builder.channels_last(c.builder.node(kind, [c.builder.channels_first(c.value(op))], c.name(op), **window))
    )


_REDUCTIONS = {"MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMax"}


@converts(*_REDUCTIONS)
def reduce(c: Converter, op: Operator) -> None:
    """Convert a reduction over constant axes."""
    axes = sorted({axis % len(c.shape(op)) for axis in c.integers(op, 1)})
    kept, value = int(bool(op.options["KeepDims"])), c.value(op)
    if op.kind == "REDUCE_MIN":
        value = c.negated(op.inputs[0], value)
    node = c.builder.node(_REDUCTIONS[op.kind], [value, c.builder.integers(*axes)], c.name(op), keepdims=kept)
    if op.kind == "REDUCE_MIN":
        node = c.builder.node("Neg", [node])
    c.emit(op, node)


@converts("ARG_MAX")
def argmax(c: Converter, op: Operator) -> None:
    """Convert the place of the maximum along a constant axis."""
    import onnx

    node = c.builder.node("ArgMax", [c.value(op)], c.name(op), axis=c.integers(op, 1)[0], keepdims=0)
    if c.graph.tensors[op.outputs[0]].type == "INT32":  # ONNX gives 64 bits
        node = c.builder.node("Cast", [node], to=onnx.TensorProto.INT32)
    c.done(op.outputs[0], node)


@converts("SOFTMAX", "LOG_SOFTMAX")
def softmax(c: Converter, op: Operator) -> None:
    """Convert a softmax over the last axis."""
    value, beta = c.value(op), op.options.get("Beta", 1.0)
    if beta != 1.0:
        value = c.builder.node("Mul", [value, c.builder.constant(np.array(beta, np.float32))])
    c.emit(op, c.builder.node("Softmax" if op.kind == "SOFTMAX" else "LogSoftmax", [value], c.name(op), axis=-1))


@converts("L2_NORMALIZATION")
def l2_normalization(c: Converter, op: Operator) -> None:
    """Convert the division by the length along the last axis."""
    c.emit(op, c.builder.node("LpNormalization", [c.value(op)], c.name(op), axis=-1, p=2))


@converts("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(c: Converter, op: Operator) -> None:
    """Convert resizing of maps."""
    height, width = c.result(op)[1:3]
    channels = c.shape(op)[3]
    corners, centers = bool(op.options["AlignCorners"]), bool(op.options["HalfPixelCenters"])
    where = "align_corners" if corners else "half_pixel" if centers else "asymmetric"
    attributes: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": where}
    if op.kind == "RESIZE_NEAREST_NEIGHBOR":
        # TFLite rounds half up where corners are aligned, and down otherwise; centers of pixels lie half a pixel on.
        how = "round_prefer_ceil" if corners or centers else "floor"
        attributes |= {"mode": "nearest", "nearest_mode": how}
    sizes = c.builder.integers(1, channels, height, width)
    node = c.builder.node("Resize", [c.builder.channels_first(c.value(op)), "", "", sizes], c.name(op), **attributes)
    c.emit(op, c.builder.channels_last(node))


@converts("DEQUANTIZE")
def dequantize(c: Converter, op: Operator) -> None:
    """Take weights that the reader has dequantized."""
    if op.inputs[0] in c.values:
        c.done(op.outputs[0], c.value(op))
    else:
        c.constants[op.outputs[0]] = c.constant(op, 0)


@converts("QUANTIZE")
def quantize(c: Converter, op: Operator) -> None:
    """Take what is quantized, or quantized anew: the result has its own mark."""
    c.done(op.outputs[0], c.value(op))


@converts("DENSIFY")
def densify(c: Converter, op: Operator) -> None:
    """Take weights that the reader has written out."""
    c.constants[op.outputs[0]] = c.constant(op, 0)


@converts("CAST")
def cast(c: Converter, op: Operator) -> None:
    """Convert a change between kinds of numbers."""
    import onnx

    kinds = {"FLOAT32": onnx.TensorProto.FLOAT, "INT32": onnx.TensorProto.INT32, "INT64": onnx.TensorProto.INT64}
    target = c.graph.tensors[op.outputs[0]].type
    if target not in kinds:
        raise c.unsupported(op, f"casts to {target}")
    c.emit(op, c.builder.node("Cast", [c.value(op)], c.name(op), to=kinds[target]))
