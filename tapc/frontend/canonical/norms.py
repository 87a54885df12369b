"""Layer normalization, where an exporter spelled it out: (x - mean) / sqrt(variance + epsilon), scale and shift."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import (
    AttributeValue,
    attribute,
    constant,
    content,
    insert_before,
    operand,
    replace,
    shape,
    sole_consumer,
    source,
)


def fuse_norms(graph: ir.Graph) -> None:
    """Turn the nodes around the square root of a variance over the last axis into one LayerNormalization."""
    for node in list(graph):
        if node.op_type in ("Sqrt", "Pow"):
            _fuse(graph, node)


def _fuse(graph: ir.Graph, root: ir.Node) -> None:
    if root.op_type == "Pow" and _number(root, 1) not in (0.5, -0.5):
        return
    inverse = root.op_type == "Pow" and _number(root, 1) == -0.5
    added = source(root).producer()
    if added is None or added.op_type != "Add":
        return
    epsilon, variance = _split(added)
    mean = None if variance is None else variance.producer()
    if epsilon is None or mean is None or mean.op_type != "ReduceMean" or not _over_last(mean):
        return
    squared = source(mean).producer()
    centred = None if squared is None else _squared(squared)
    subtraction = None if centred is None else centred.producer()
    if centred is None or subtraction is None or subtraction.op_type != "Sub":
        return
    x, average = source(subtraction), source(subtraction, 1).producer()
    if average is None or average.op_type != "ReduceMean" or source(average) is not x or not _over_last(average):
        return
    value = root.outputs[0]
    if not inverse and (step := sole_consumer(value)) is not None and step.op_type == "Reciprocal":
        value, inverse = step.outputs[0], True
    last = sole_consumer(value)
    wanted = "Mul" if inverse else "Div"
    if last is None or last.op_type != wanted or _other(last, value) is not centred:
        return
    channels = shape(x)[-1]
    gain, offset = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    for op in ("Mul", "Add"):
        after = sole_consumer(last.outputs[0])
        array = None if after is None or after.op_type != op else content(_other(after, last.outputs[0]))
        if array is None or array.shape[-1:] != (channels,) or array.size != channels:
            break
        gain, offset = (array.reshape(-1), offset) if op == "Mul" else (gain, array.reshape(-1))
        assert after is not None
        last = after
    _replace(graph, last, x, gain, offset, epsilon, root.name or "")


def _replace(
    graph: ir.Graph, last: ir.Node, x: ir.Value, gain: NDArray[np.generic], offset: NDArray[np.generic],
    epsilon: float, name: str,
) -> None:  # fmt: skip
    stem = name.rpartition(".")[0] or name or "norm"
    inputs = [
        x,
        constant(graph, f"{stem}.weight", gain.astype(np.float32)),
        constant(graph, f"{stem}.bias", offset.astype(np.float32)),
    ]
    attributes: dict[str, AttributeValue] = {"axis": -1, "epsilon": epsilon}
    replace(last, insert_before(last, "LayerNormalization", inputs, attributes, shape(x), stem))


def _number(node: ir.Node, index: int) -> float | None:
    array = content(operand(node, index))
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _split(node: ir.Node) -> tuple[float | None, ir.Value | None]:
    """Return the constant and the activation of a sum."""
    for index in (0, 1):
        if (number := _number(node, index)) is not None:
            return number, source(node, 1 - index)
    return None, None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """Return the other operand of a node of two."""
    return next((one for one in node.inputs if one is not value), None)


def _squared(node: ir.Node) -> ir.Value | None:
    """Return x where a node is its square."""
    if node.op_type == "Pow" and _number(node, 1) == 2:
        return source(node)
    return source(node) if node.op_type == "Mul" and node.inputs[0] is node.inputs[1] else None


def _over_last(node: ir.Node) -> bool:
    """Whether a mean is over the last axis, which stays."""
    rank = len(shape(source(node)))
    given = content(operand(node, 1))
    axes = attribute(node, "axes", None) if given is None else given.reshape(-1).tolist()
    return bool(attribute(node, "keepdims", 1)) and axes is not None and [a % rank for a in axes] == [rank - 1]
