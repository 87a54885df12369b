"""Gelu, where an exporter spelled it out: x / 2 (1 + erf(x / sqrt 2))."""

import math

import numpy as np
import onnx_ir as ir

from tapc.frontend.canonical.edit import content, insert_before, replace, shape, sole_consumer, source


def fuse_gelu(graph: ir.Graph) -> None:
    """Turn the five nodes around an Erf into one Gelu, in any order of operands and factors."""
    for node in list(graph):
        if node.op_type == "Erf":
            _fuse(node)


def _fuse(erf: ir.Node) -> None:
    inner = source(erf).producer()
    x = None if inner is None else _scaled(inner, math.sqrt(0.5))
    plus = sole_consumer(erf.outputs[0])
    if x is None or plus is None or plus.op_type != "Add" or _other(plus, erf.outputs[0]) != 1.0:
        return
    # The product of three factors, x, 1/2 and 1 + erf, in one of its two groupings that end in the sum.
    last = sole_consumer(plus.outputs[0])
    if last is None or last.op_type != "Mul":
        return
    left = next((value for value in last.inputs if value is not plus.outputs[0]), None)
    if left is x:
        half = sole_consumer(last.outputs[0])
        if half is None or half.op_type != "Mul" or _other(half, last.outputs[0]) != 0.5:
            return
        last = half
    else:
        before = None if left is None else left.producer()
        if before is None or _scaled(before, 0.5) is not x:
            return
    extents = shape(last.outputs[0])
    replace(last, insert_before(last, "Gelu", [x], {"approximate": "none"}, extents, erf.name or ""))


def _other(node: ir.Node, value: ir.Value) -> float | None:
    """Return the constant that a binary node joins with `value`, or None."""
    for operand in node.inputs:
        array = None if operand is value else content(operand)
        if array is not None and array.size == 1:
            return float(array.reshape(-1)[0])
    return None


def _scaled(node: ir.Node, factor: float) -> ir.Value | None:
    """Return x where a node computes factor * x."""
    if node.op_type not in ("Mul", "Div"):
        return None
    for index in (0, 1) if node.op_type == "Mul" else (0,):
        x = source(node, index)
        constant = _other(node, x)
        if constant is not None and content(x) is None:
            actual = constant if node.op_type == "Mul" else 1 / constant
            return x if np.isclose(actual, factor, rtol=1e-5) else None
    return None
