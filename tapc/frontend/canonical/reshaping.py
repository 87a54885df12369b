"""Operators that move no data: Identity, Dropout, Cast, Squeeze, Unsqueeze, Transpose, Flatten and Reshape."""

import numpy as np
import onnx_ir as ir

from tapc.frontend.canonical.edit import (
    attribute,
    constant,
    content,
    in_attention,
    operand,
    replace,
    rewrite,
    shape,
    source,
    unsupported,
)

_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand")


def remove_identities(graph: ir.Graph) -> None:
    """Remove Identity, Dropout in inference mode and Cast to the same type."""
    for node in list(graph):
        if node.op_type == "Dropout":
            training = content(operand(node, 2))
            if training is not None and bool(training):
                raise unsupported(node, "training mode; export the model in inference mode")
            if len(node.outputs) > 1 and node.outputs[1].uses():
                raise unsupported(node, "its mask is used")
        elif node.op_type == "Cast":
            if source(node).dtype != node.outputs[0].dtype:
                raise unsupported(
                    node, f"casts {source(node).dtype} to {node.outputs[0].dtype}; use float32 throughout"
                )
        elif node.op_type != "Identity":
            continue
        replace(node, source(node))


def canonical_reshapes(graph: ir.Graph) -> None:
    """Turn operators that only change the shape into Flatten(axis=1) or Reshape with a static target, or remove them.

    Raises
    ------
    UnsupportedError
        A Transpose that moves data, an Expand that copies it, or a target that does not keep the batch.
    """
    for node in list(graph):
        if node.op_type not in _RESHAPING or _inner(node):
            continue
        value, target = source(node), shape(node.outputs[0])
        if node.op_type == "Transpose":
            _check_transpose(node)
        if node.op_type == "Expand" and target != shape(value):
            raise unsupported(node, "broadcasting is not supported")
        before = value.producer()
        if before is not None and before.op_type in ("Reshape", "Flatten"):
            value = source(before)
        if shape(value) == target:
            replace(node, value)
        elif len(target) == 2 and target[0] == 1:
            rewrite(node, "Flatten", [value], {"axis": 1})
        else:
            extents = constant(graph, f"{node.name or 'reshape'}.shape", np.array(target, np.int64))
            rewrite(node, "Reshape", [value, extents], {})
    _remove_unread(graph)


def _inner(node: ir.Node) -> bool:
    """Whether a Transpose belongs to a normalization or to attention."""
    before = source(node).producer()
    around = [use.node for use in node.outputs[0].uses()] + ([] if before is None else [before])
    return node.op_type == "Transpose" and any(
        other.op_type == "LayerNormalization" or in_attention(other) for other in around
    )


def _check_transpose(node: ir.Node) -> None:
    extents = shape(source(node))
    order = attribute(node, "perm", tuple(reversed(range(len(extents)))))
    moved = [axis for axis in order if extents[axis] != 1]
    if moved != sorted(moved):
        raise unsupported(
            node, f"the permutation {list(order)} of a {list(extents)} tensor moves data: {_meant(node, order)}"
        )


def _meant(node: ir.Node, order: tuple[int, ...]) -> str:
    """Return what a Transpose that cannot be folded is for, and what to do about it."""
    if order == (0, 2, 3, 1):
        return "to channels last, and no dense layer behind it takes that; export the model in NCHW layout"
    if order == (0, 3, 1, 2):
        return "from channels last; export the model in NCHW layout"
    if source(node).is_graph_input() or _spatial_only(order):
        return "it swaps height and width; export the model without it and swap them in the samples"
    return "only transposes before a dense layer and those of attention are folded"


def _spatial_only(order: tuple[int, ...]) -> bool:
    return order in ((0, 1, 3, 2), (0, 2, 1, 3))


def _remove_unread(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
