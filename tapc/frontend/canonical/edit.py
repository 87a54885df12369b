"""Small edits of an onnx-ir graph that the canonicalization passes share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError
from tapc.frontend.given import is_mark

AttributeValue = int | float | str | Sequence[int]


def content(value: ir.Value | None) -> NDArray[Any] | None:
    """Return the array behind an initializer, or None for an activation or an absent input."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input of a node, or None where it is omitted."""
    return node.inputs[index] if index < len(node.inputs) else None


def source(node: ir.Node, index: int = 0) -> ir.Value:
    """Return an input that must be present."""
    value = operand(node, index)
    if value is None:
        raise unsupported(node, f"input {index} is missing")
    return value


def shape(value: ir.Value) -> tuple[int, ...]:
    """Return a value's static shape; UnsupportedError naming it where it has none."""
    if value.shape is None or not value.shape.is_static():
        raise UnsupportedError(
            f"tensor {value.name!r} has no static shape ({value.shape}); export the model with fixed shapes"
        )
    return tuple(int(extent) for extent in value.shape.numpy())


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Return an attribute's value (lists as tuples), or `default`."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return tuple(found.value) if isinstance(found.value, (list, tuple)) else found.value


def unsupported(node: ir.Node, problem: str) -> UnsupportedError:
    """Build the error for a node that tapc cannot lower."""
    return UnsupportedError(f"node {node.name!r} ({node.op_type}): {problem}")


def constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Register an initializer under a free name derived from `name`."""
    free, suffix = name, 1
    while free in graph.initializers:
        free, suffix = f"{name}_{suffix}", suffix + 1
    tensor = ir.tensor(np.array(array, order="C"), name=free)
    value = ir.Value(name=free, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def insert_before(
    anchor: ir.Node,
    op: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, AttributeValue],
    output_shape: Sequence[int],
    name: str,
) -> ir.Value:
    """Insert a one-output float32 node before `anchor` and return its output."""
    output = ir.Value(shape=ir.Shape(output_shape), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node(op, inputs, dict(attributes), outputs=[output], name=name)
    _graph(anchor).insert_before(anchor, node)
    return output


def replace(node: ir.Node, value: ir.Value) -> None:
    """Let every use of a one-output node read `value`, and remove the node."""
    old = node.outputs[0]
    ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    _graph(node).remove(node, safe=True)


def rewrite(
    node: ir.Node, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, AttributeValue]
) -> ir.Node:
    """Replace a node by another with the same name and output shape; return the new one."""
    output = insert_before(node, op, inputs, attributes, shape(node.outputs[0]), node.name or "")
    replace(node, output)
    producer = output.producer()
    assert producer is not None
    return producer


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """Return the only node that reads a value, or None if several do or it is the graph's output."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _graph(node: ir.Node) -> ir.Graph:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    return graph


def is_quantized(value: ir.Value) -> bool:
    """Whether a value comes from a quantizer, so that what reads it computes in integers on its own."""
    producer = value.producer()
    return producer is not None and is_mark(producer.op_type, producer.name)
