"""Activations and operators that join tensors."""

import math

import numpy as np
import onnx_ir as ir

from tapc.frontend.canonical.edit import (
    attribute,
    constant,
    content,
    in_attention,
    insert_before,
    operand,
    replace,
    rewrite,
    shape,
    source,
    unsupported,
)


def canonical_elementwise(graph: ir.Graph, opset: int) -> None:
    """Rewrite Relu, Clip, Add, Concat and Softmax to their canonical forms.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Edited in place, after constants were folded into the layers.
    opset : int
        Opset of the source: Softmax's default axis changed in 13.

    Raises
    ------
    UnsupportedError
        Computed bounds, broadcasting Add, Concat along another axis than the channels, Softmax of images.
    """
    for node in list(graph):
        if node.op_type == "Clip":
            _clip(graph, node)
        elif node.op_type == "Add":
            _add(node)
        elif node.op_type == "Concat":
            _concat(node)
        elif node.op_type == "Softmax":
            _softmax(node, opset)


def _bound(node: ir.Node, index: int, name: str) -> float | None:
    value = operand(node, index)
    if value is None:
        number = attribute(node, name, None)
    else:
        array = content(value)
        if array is None:
            raise unsupported(node, f"its {name} must be a constant")
        number = float(array.reshape(-1)[0])
    limit = float(np.finfo(np.float32).max)
    return None if number is None or abs(number) >= limit else float(number)


def _clip(graph: ir.Graph, node: ir.Node) -> None:
    low, high = _bound(node, 1, "min"), _bound(node, 2, "max")
    if low is not None and high is not None and low > high:
        raise unsupported(node, f"its bounds are empty: min {low} > max {high}")
    if low is None and high is None:
        replace(node, source(node))
    elif low == 0.0 and high is None:
        rewrite(node, "Relu", [source(node)], {})
    else:
        name = node.name or "clip"
        bounds = [
            None if bound is None else constant(graph, f"{name}.{end}", np.array(bound, np.float32))
            for end, bound in (("min", low), ("max", high))
        ]
        inputs = [source(node), *(bounds if bounds[1] is not None else bounds[:1])]
        rewrite(node, "Clip", inputs, {})


def _add(node: ir.Node) -> None:
    left, right = shape(source(node, 0)), shape(source(node, 1))
    if left != right:
        raise unsupported(node, f"adds {list(left)} and {list(right)}; broadcasting is not supported")


def _concat(node: ir.Node) -> None:
    values = [source(node, index) for index in range(len(node.inputs))]
    rank = len(shape(node.outputs[0]))
    axis = int(attribute(node, "axis", 1))
    if axis % rank != 1:
        raise unsupported(node, f"axis {axis} of a {rank}-D tensor; only the channel axis 1 is supported")
    for value in values:
        if content(value) is not None:
            raise unsupported(node, f"its operand {value.name!r} is constant; only activations can be joined")
    if len(values) == 1:
        replace(node, values[0])
    else:
        rewrite(node, "Concat", values, {"axis": 1})


def _as_vector(extents: tuple[int, ...], axis: int, opset: int) -> tuple[int, int] | None:
    """Return (1, classes) where a Softmax of another rank is that of one vector, else None."""
    axis %= len(extents)
    classes = math.prod(extents)
    own = math.prod(extents[axis:]) if opset < 13 else extents[axis]
    return (1, classes) if own == classes else None


def _softmax(node: ir.Node, opset: int) -> None:
    extents = shape(source(node))
    axis = int(attribute(node, "axis", -1 if opset >= 13 else 1))
    before = source(node).producer()
    if before is not None and in_attention(before) and axis in (-1, 3):
        return
    if len(extents) != 2 and (vector := _as_vector(extents, axis, opset)) is not None:
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        flat = insert_before(node, "Flatten", [source(node)], {"axis": 1}, vector, "")
        inner = insert_before(node, "Softmax", [flat], {"axis": -1}, vector, node.name or "")
        target = constant(graph, f"{node.name or 'softmax'}.shape", np.array(extents, np.int64))
        rewrite(node, "Reshape", [inner, target], {}).name = ""
        return
    if len(extents) != 2 or axis % 2 != 1:
        raise unsupported(node, f"axis {axis} of {list(extents)}; only the last axis of (1, classes) is supported")
    rewrite(node, "Softmax", [source(node)], {"axis": -1})
