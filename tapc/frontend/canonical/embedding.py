"""Inputs of tokens, and the tables that they choose rows of."""

import numpy as np
import onnx_ir as ir

from tapc.base.errors import UnsupportedError
from tapc.frontend.canonical.edit import attribute, content, operand, unsupported
from tapc.frontend.canonical.placed import Index
from tapc.frontend.canonical.translator import Translator

_WHOLE = (ir.DataType.INT32, ir.DataType.INT64)


def is_whole(value: ir.Value) -> bool:
    """Whether a tensor holds integers, as the place of a maximum is one."""
    return value.dtype in _WHOLE


def is_tokens(value: ir.Value) -> bool:
    """Whether an input holds tokens: integers, or numbers that are made integers before anything else."""
    if value.dtype in _WHOLE:
        return True
    uses = [use.node for use in value.uses()]
    return bool(uses) and all(node.op_type == "Cast" and node.outputs[0].dtype in _WHOLE for node in uses)


def token_elements(extents: tuple[int, ...]) -> Index:
    """Return the arrangement of an input of tokens, (1, T, 1)."""
    return np.arange(int(np.prod(extents)), dtype=np.int64).reshape(1, -1, 1)


def embed(t: Translator, node: ir.Node) -> bool:
    """Write the vectors of all tokens of an input where a node chooses rows of a table by them; False where not."""
    table, tokens = content(operand(node, 0)), operand(node, 1)
    if node.op_type not in ("Gather", "GatherND") or table is None or tokens is None or tokens not in t.placed:
        return False
    placed = t.placed[tokens]
    where = placed.index
    if node.op_type == "GatherND":
        if where.shape[-1] != 1 or attribute(node, "batch_dims", 0):
            raise unsupported(node, "chooses elements of a table; only rows are chosen")
        where = where[..., 0]
    if placed.base.dtype not in _WHOLE or placed.base.producer() is not None:
        raise unsupported(node, "its indices are computed; only tokens that are an input choose rows of a table")
    if attribute(node, "axis", 0) % table.ndim != 0:
        raise unsupported(node, f"chooses along axis {attribute(node, 'axis', 0)} of a table; only rows are chosen")
    rows = table.reshape(len(table), -1).astype(np.float32)
    assert placed.base.shape is not None
    count, features = int(placed.base.shape.numpy()[2]), rows.shape[1]
    name = node.name or "embedding"
    found = t.emit(node, "GatherND", [t.constant(f"{name}.weight", rows), placed.base], {}, (1, 1, count, features))
    base = t.emit(node, "Transpose", [found], {"perm": (0, 3, 1, 2)}, (1, features, 1, count), f"{name}.order")
    index = np.arange(features) * count + where[..., None]
    t.result(node, base, index)
    return True


def check_tokens(graph: ir.Graph) -> None:
    """Refuse a graph in which tokens are anything but indices of tables.

    Raises
    ------
    UnsupportedError
        Names what reads them.
    """
    for value in graph.inputs:
        if value.dtype not in _WHOLE:
            continue
        if value.is_graph_output():
            raise UnsupportedError(f"the tokens {value.name!r} are an output, too; they only choose rows of a table")
        for use in value.uses():
            if use.node.op_type != "GatherND":
                raise unsupported(use.node, f"reads the tokens {value.name!r}, which only choose rows of a table")
