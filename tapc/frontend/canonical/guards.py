"""Quotients that are 0 where the divisor is 0 (TensorFlow's `divide_no_nan`), without a choice between two tensors."""

import numpy as np
import onnx_ir as ir

from tapc.frontend.canonical.edit import constant, content, insert_before, operand, replace, shape

_LEAST = np.finfo(np.float32).tiny


def fuse_guards(graph: ir.Graph) -> None:
    """Turn Where(b == 0, 0, a / b) into a * (sign(b) * (1 / max(|b|, least))), which is 0 at 0, too."""
    for node in list(graph):
        if node.op_type == "Where":
            _guard(graph, node)


def _guard(graph: ir.Graph, node: ir.Node) -> None:
    divisor, instead = _compared_with_zero(_made(operand(node, 0))), content(operand(node, 1))
    quotient = _made(operand(node, 2))
    division = None if quotient is None else quotient.producer()
    if divisor is None or instead is None or instead.any() or division is None or division.op_type != "Div":
        return
    dividend, by = division.inputs
    if _made(by) is not divisor or dividend is None:
        return
    name, extents = node.name or "guard", shape(divisor)
    least = constant(graph, f"{name}.least", np.array(_LEAST, np.float32))
    size = insert_before(node, "Abs", [divisor], {}, extents, f"{name}.abs")
    size = insert_before(node, "Max", [size, least], {}, extents, f"{name}.max")
    size = insert_before(node, "Reciprocal", [size], {}, extents, f"{name}.reciprocal")
    sign = insert_before(node, "Sign", [divisor], {}, extents, f"{name}.sign")
    factor = insert_before(node, "Mul", [sign, size], {}, extents, f"{name}.factor")
    replace(node, insert_before(node, "Mul", [dividend, factor], {}, shape(node.outputs[0]), name))


def _compared_with_zero(condition: ir.Value | None) -> ir.Value | None:
    """Return the tensor of which a condition says where it is 0."""
    equal = None if condition is None else condition.producer()
    if equal is None or equal.op_type != "Equal":
        return None
    for value, other in ((operand(equal, 0), operand(equal, 1)), (operand(equal, 1), operand(equal, 0))):
        number = content(other)
        if number is not None and number.size == 1 and not number.any():
            return _made(value)
    return None


def _made(value: ir.Value | None) -> ir.Value | None:
    """Return the tensor that one is, under another name."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "Identity":
        value = node.inputs[0]
    return value
