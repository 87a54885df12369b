"""BatchNormalization and arithmetic with per-channel constants, folded into the neighbouring Conv or Gemm."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import (
    AttributeValue,
    attribute,
    constant,
    content,
    insert_before,
    is_quantized,
    operand,
    replace,
    rewrite,
    shape,
    sole_consumer,
    source,
    unsupported,
)
from tapc.frontend.canonical.linear import parameters, set_parameters

Vector = NDArray[np.float64]
_ARITHMETIC = ("Add", "Sub", "Mul", "Div")


def fold_affine(graph: ir.Graph, *, layers_only: bool = False) -> None:
    """Fold y = scale * x + shift per channel into the Conv or Gemm around it.

    The preceding layer takes it where it has no other reader. Otherwise a (1, features) vector's following Gemm
    takes it, and a 4-D tensor gets a 1x1 depthwise Conv.

    With `layers_only` nothing but the preceding layer takes it. Constants that are not one value per channel stay
    operands of their own.
    """
    for node in list(graph):
        affine = _affine(node)
        if affine is not None and not is_quantized(affine[0]):
            _fold(graph, node, *affine, layers_only)


def _affine(node: ir.Node) -> tuple[ir.Value, Vector, Vector] | None:
    """Return (x, scale, shift) of a per-channel affine node; None for any other node."""
    if node.op_type == "BatchNormalization":
        return _batch_normalization(node)
    if node.op_type not in _ARITHMETIC:
        return None
    left, right = source(node, 0), source(node, 1)
    fixed = [content(left), content(right)]
    if fixed[0] is None and fixed[1] is None:
        return None
    value, array = (left, fixed[1]) if fixed[0] is None else (right, fixed[0])
    assert array is not None
    vector = _per_channel(node, value, array)
    if vector is None or (node.op_type == "Div" and value is not left):
        return None  # an operator of its own
    one, zero = np.ones_like(vector), np.zeros_like(vector)
    if node.op_type == "Add":
        return value, one, vector
    if node.op_type == "Mul":
        return value, vector, zero
    if node.op_type == "Sub":
        return (value, one, -vector) if value is left else (value, -one, vector)
    with np.errstate(divide="ignore"):
        return value, 1 / vector, zero


def _batch_normalization(node: ir.Node) -> tuple[ir.Value, Vector, Vector]:
    if attribute(node, "training_mode", 0):
        raise unsupported(node, "training mode; export the model in inference mode")
    arrays = [content(operand(node, index)) for index in range(1, 5)]
    present = [array.astype(np.float64) for array in arrays if array is not None]
    if len(present) != 4:
        raise unsupported(node, "its scale, bias, mean and variance must be constant")
    gamma, beta, mean, variance = present
    # A negative variance gives NaN weights, which are reported by name at the end.
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return source(node), scale, beta - mean * scale


def _normalized(node: ir.Node, bias: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return factors and biases of a convolution that a BatchNormalization is folded into, step by step in float32.

    These are the steps of torch's exporter, but correctly rounded: its roots are those of MKL, whose last bit depends
    on the CPU's maker.
    """
    arrays = [content(operand(node, index)) for index in range(1, 5)]
    gamma, beta, mean, variance = (np.asarray(array, np.float32) for array in arrays)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + np.float32(attribute(node, "epsilon", 1e-5)))
        return scale, (bias.astype(np.float32) - mean) * scale + beta


def _per_channel(node: ir.Node, value: ir.Value, array: NDArray[np.generic]) -> Vector | None:
    extents = shape(value)
    full = array.reshape((1,) * (len(extents) - array.ndim) + array.shape)
    if shape(node.outputs[0]) != extents or any(extent != 1 for axis, extent in enumerate(full.shape) if axis != 1):
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (extents[1],)).copy()


def _fold(graph: ir.Graph, node: ir.Node, value: ir.Value, scale: Vector, shift: Vector, layers_only: bool) -> None:
    before = value.producer()
    if before is not None and before.op_type in ("Conv", "Gemm") and sole_consumer(value) is node:
        weights, bias = parameters(before)
        if node.op_type == "BatchNormalization" and before.op_type == "Conv":
            factors, offsets = _normalized(node, bias)
            by_row = factors.reshape(-1, *[1] * (weights.ndim - 1))
            set_parameters(before, weights.astype(np.float32) * by_row, offsets)
            replace(node, value)
            return
        by_output = scale.reshape(-1, *[1] * (weights.ndim - 1))
        set_parameters(before, weights * by_output, bias * scale + shift)
        replace(node, value)
        return
    if layers_only:
        return
    if len(shape(value)) == 4:
        rewrite(node, "Conv", *_depthwise(graph, node, value, scale, shift))
        return
    after = sole_consumer(node.outputs[0])
    if after is None or after.op_type != "Gemm":
        _as_map(graph, node, value, scale, shift)
        return
    weights, bias = parameters(after)
    set_parameters(after, weights * scale, bias + weights.astype(np.float64) @ shift)
    replace(node, value)


def _depthwise(
    graph: ir.Graph, node: ir.Node, value: ir.Value, scale: Vector, shift: Vector
) -> tuple[list[ir.Value | None], dict[str, AttributeValue]]:
    """Return operands and attributes of a 1x1 depthwise Conv."""
    channels = len(scale)
    kernel = constant(graph, f"{node.name}.weight", scale.reshape(channels, 1, 1, 1).astype(np.float32))
    offset = constant(graph, f"{node.name}.bias", shift.astype(np.float32))
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": (1, 1),
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "group": channels,
    }
    return [value, kernel, offset], attributes


def _as_map(graph: ir.Graph, node: ir.Node, value: ir.Value, scale: Vector, shift: Vector) -> None:
    """Scale and shift features as the channels of a map of one pixel."""
    features = len(scale)
    pixel = (1, features, 1, 1)
    target = constant(graph, f"{node.name}.shape", np.array(pixel, np.int64))
    map_ = insert_before(node, "Reshape", [value, target], {}, pixel, "")
    inputs, attributes = _depthwise(graph, node, map_, scale, shift)
    result = insert_before(node, "Conv", inputs, attributes, pixel, node.name or "")
    rewrite(node, "Flatten", [result], {"axis": 1}).name = ""
