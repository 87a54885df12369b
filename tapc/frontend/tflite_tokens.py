"""Keras 3's embeddings in TFLite graphs: tokens below 0 count from the table's end, which tapc's tokens never are."""

from collections.abc import Mapping
from dataclasses import replace

from tapc.frontend.tflite_reader import Operator, TfliteGraph

_WHOLE = ("INT32", "INT64")


def without_negative_tokens(graph: TfliteGraph) -> TfliteGraph:
    """Return a graph whose tables are read by tokens t themselves, not by `t + rows if t < 0 else t`."""
    makes = {index: op for op in graph.operators for index in op.outputs}
    operators = []
    for op in graph.operators:
        inputs = op.inputs
        if op.kind == "GATHER" and graph.tensors[op.inputs[0]].data is not None:
            rows = graph.tensors[op.inputs[0]].shape[op.options["Axis"]]
            inputs = (inputs[0], _token(graph, makes, inputs[1], rows))
        operators.append(replace(op, inputs=inputs))
    return replace(graph, operators=tuple(operators))


def _token(graph: TfliteGraph, makes: Mapping[int, Operator], index: int, rows: int) -> int:
    """Return the tensor t of which another is `t + rows` where it is below 0, or that other."""
    choice = makes.get(index)
    if choice is None or choice.kind not in ("SELECT", "SELECT_V2") or graph.tensors[index].type not in _WHOLE:
        return index
    below, wrapped, token = (makes.get(choice.inputs[0]), makes.get(choice.inputs[1]), choice.inputs[2])
    if below is None or wrapped is None or (below.kind, wrapped.kind) != ("LESS", "ADD"):
        return index
    limit, added = (graph.tensors[op.inputs[1]].data for op in (below, wrapped))
    if limit is None or added is None or limit.any() or (added != rows).any():
        return index
    return token if below.inputs[0] == wrapped.inputs[0] == token else index
