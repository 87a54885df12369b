"""Layers of which parts are read: each part becomes a layer of its own, so that nothing is copied."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import attribute, constant, content, insert_before, replace, shape, source
from tapc.frontend.canonical.linear import parameters


def split_layers(graph: ir.Graph) -> None:
    """Replace a Conv or Gemm whose readers all take some of its channels by one layer for each of them.

    Only where no channel is computed twice: queries, keys and values from one layer, the halves of a gated unit.
    """
    for node in list(graph):
        if node.op_type in ("Conv", "Gemm") and attribute(node, "group", 1) == 1:
            _split(graph, node)


def _split(graph: ir.Graph, layer: ir.Node) -> None:
    output = layer.outputs[0]
    readers = [use.node for use in output.uses()]
    if not readers or output.is_graph_output():
        return
    chosen = [_channels(node) for node in readers]
    if any(rows is None for rows in chosen) or sum(len(rows) for rows in chosen if rows is not None) > shape(output)[1]:
        return
    weights, bias = parameters(layer)
    channels = shape(output)[1]
    thirds = {len(rows) for rows in chosen if rows is not None} == {channels // 3} and len(chosen) * 3 == 9
    for node, rows in zip(readers, chosen, strict=True):
        assert rows is not None
        first = int(rows[0])
        name = f"{layer.name}.{'qkv'[first // (channels // 3)] if thirds else first}"
        inputs = [
            source(layer),
            constant(graph, f"{name}.weight", weights[rows]),
            constant(graph, f"{name}.bias", bias[rows]),
        ]
        attributes = {key: item.value for key, item in layer.attributes.items()}
        replace(node, insert_before(node, layer.op_type, inputs, attributes, shape(node.outputs[0]), name))
    graph.remove(layer, safe=True)


def _channels(node: ir.Node) -> NDArray[np.int64] | None:
    """Return the channels that a Slice or Gather along them takes, or None."""
    extent = shape(source(node))[1]
    if node.op_type == "Gather" and attribute(node, "axis", 0) == 1:
        indices = content(source(node, 1))
        return None if indices is None or indices.ndim != 1 else indices.astype(np.int64)
    if node.op_type != "Slice":
        return None
    start, end, axis, step = (np.asarray(content(source(node, i))).reshape(-1) for i in range(1, 5))
    return np.arange(extent)[int(start[0]) : int(end[0]) : int(step[0])] if axis.tolist() == [1] else None
