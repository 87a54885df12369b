"""BatchNormalization and arithmetic with per-channel constants, folded into the neighbouring Conv or Gemm."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import (
    AttributeValue,
    attribute,
    constant,
    content,
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
_BETWEEN = ("Transpose", "Reshape", "Flatten")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div")


def fold_affine(graph: ir.Graph) -> None:
    """Fold y = scale * x + shift per channel into the Conv or Gemm around it.

    The preceding layer takes it where it has no other reader. Otherwise a (1, features) vector's following Gemm
    takes it, and a 4-D tensor gets a 1x1 depthwise Conv.

    Raises
    ------
    UnsupportedError
        Constants that are not per channel, division by a tensor, or no layer that could take the operation.
    """
    for node in list(graph):
        affine = _affine(node)
        if affine is not None:
            _fold(graph, node, *affine)


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
    if node.op_type == "Add" and array.shape == shape(value) and max(array.shape[2:], default=1) > 1:
        return None  # a constant map: an addition of its own
    vector = _per_channel(node, value, array)
    one, zero = np.ones_like(vector), np.zeros_like(vector)
    if node.op_type == "Add":
        return value, one, vector
    if node.op_type == "Mul":
        return value, vector, zero
    if node.op_type == "Sub":
        return (value, one, -vector) if value is left else (value, -one, vector)
    if value is not left:
        raise unsupported(node, "dividing by a tensor is not supported")
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


def _per_channel(node: ir.Node, value: ir.Value, array: NDArray[np.generic]) -> Vector:
    extents = shape(value)
    if shape(node.outputs[0]) != extents or len(extents) < 2:
        raise unsupported(
            node, f"combines {list(extents)} with a constant {list(array.shape)}; broadcasting is not supported"
        )
    full = array.reshape((1,) * (len(extents) - array.ndim) + array.shape)
    if any(extent != 1 for axis, extent in enumerate(full.shape) if axis != 1):
        raise unsupported(node, f"its constant of shape {list(array.shape)} is not one value per channel (axis 1)")
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (extents[1],)).copy()


def _fold(graph: ir.Graph, node: ir.Node, value: ir.Value, scale: Vector, shift: Vector) -> None:
    before = value.producer()
    if before is not None and before.op_type in ("Conv", "Gemm") and sole_consumer(value) is node:
        weights, bias = parameters(before)
        by_output = scale.reshape(-1, *[1] * (weights.ndim - 1))
        set_parameters(before, weights * by_output, bias * scale + shift)
        replace(node, value)
        return
    extents = shape(value)
    if len(extents) == 4:
        channels = extents[1]
        kernel = constant(graph, f"{node.name}.weight", scale.reshape(channels, 1, 1, 1).astype(np.float32))
        offset = constant(graph, f"{node.name}.bias", shift.astype(np.float32))
        attributes: dict[str, AttributeValue] = {
            "kernel_shape": (1, 1),
            "strides": (1, 1),
            "pads": (0, 0, 0, 0),
            "dilations": (1, 1),
            "group": channels,
        }
        rewrite(node, "Conv", [value, kernel, offset], attributes)
        return
    after = sole_consumer(node.outputs[0])
    if after is None or after.op_type != "Gemm":
        beside = [value.producer(), after]
        between = next((other for other in beside if other is not None and other.op_type in _BETWEEN), None)
        reason = "" if between is None else f": the {between.op_type} {between.name!r} lies between"
        raise unsupported(node, f"no Conv or Gemm beside it can take this per-channel scale and shift{reason}")
    weights, bias = parameters(after)
    set_parameters(after, weights * scale, bias + weights.astype(np.float64) @ shift)
    replace(node, value)
