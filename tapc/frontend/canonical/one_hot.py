"""Tokens as vectors of zeros and a one are rows of a table: ones on its diagonal, or what they are multiplied with."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import (
    attribute,
    constant,
    content,
    insert_before,
    operand,
    replace,
    shape,
    sole_consumer,
)

_ORDERED = ("Reshape", "Unsqueeze", "Squeeze", "Expand", "Cast")
Table = NDArray[np.float32]


def fuse_one_hot(graph: ir.Graph) -> None:
    """Turn OneHot, and a comparison of tokens with 0 ... V - 1 that is cast to numbers, into a Gather of rows."""
    for node in list(graph):
        if node.op_type == "OneHot":
            _one_hot(graph, node)
        elif node.op_type == "Equal":
            _equal(graph, node)


def _one_hot(graph: ir.Graph, node: ir.Node) -> None:
    depth, ends = content(operand(node, 1)), content(operand(node, 2))
    indices = operand(node, 0)
    if depth is None or ends is None or indices is None:
        return
    extents = shape(node.outputs[0])
    if attribute(node, "axis", -1) % len(extents) != len(extents) - 1:
        return
    off, on = (float(value) for value in ends.reshape(-1))
    table = np.full((extents[-1], extents[-1]), off, np.float32)
    np.fill_diagonal(table, on)
    _gather(graph, node, node, indices, table)


def _equal(graph: ir.Graph, node: ir.Node) -> None:
    cast, extents = sole_consumer(node.outputs[0]), shape(node.outputs[0])
    for tokens, other in ((operand(node, 0), operand(node, 1)), (operand(node, 1), operand(node, 0))):
        numbers = content(other)
        if tokens is None or numbers is None or numbers.shape[-1:] != extents[-1:]:
            continue
        counted = np.array_equal(numbers.reshape(-1), np.arange(extents[-1]))
        source = _tokens(tokens, extents[:-1])
        if counted and source is not None and cast is not None and cast.op_type == "Cast":
            _gather(graph, node, cast, source, np.eye(extents[-1], dtype=np.float32))
            return


def _tokens(value: ir.Value, extents: tuple[int, ...]) -> ir.Value | None:
    """Return the tensor, in the order of these extents, that is repeated along one more axis."""
    size = int(np.prod(extents))
    while int(np.prod(shape(value))) != size:
        node = value.producer()
        before = None if node is None or node.op_type != "Expand" else node.inputs[0]
        if before is None or shape(before) != (*extents, 1):
            return None
        value = before
    return value


def _gather(graph: ir.Graph, node: ir.Node, last: ir.Node, tokens: ir.Value, table: Table) -> None:
    """Write the rows for a node of which `last` gives the vectors, and for the product behind it."""
    product, lead = sole_consumer(last.outputs[0]), shape(node.outputs[0])[:-1]
    if product is not None and product.op_type == "MatMul" and product.inputs[0] is last.outputs[0]:
        weights = content(operand(product, 1))
        if weights is not None and weights.ndim == 2:
            table, last = table @ weights.astype(np.float32), product
    name = node.name or "one_hot"
    wanted = constant(graph, f"{name}.shape", np.array(lead, np.int64))
    where = insert_before(last, "Reshape", [tokens, wanted], {}, lead, f"{name}.tokens")
    where.type = tokens.type
    rows = constant(graph, f"{name}.table", table)
    found = insert_before(last, "Gather", [rows, where], {"axis": 0}, (*lead, table.shape[1]), name)
    replace(last, found)
