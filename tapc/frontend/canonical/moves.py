"""Transposes between a map and the dense layer that reads it: the layer's weights are permuted instead."""

import numpy as np
import onnx_ir as ir

from tapc.frontend.canonical.edit import (
    attribute,
    content,
    insert_before,
    operand,
    shape,
    sole_consumer,
    source,
    unsupported,
)
from tapc.frontend.canonical.linear import parameters, set_parameters
from tapc.frontend.canonical.views import moved, whole

_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
_ELEMENTWISE = ("Relu", "Clip")


def fold_moves(graph: ir.Graph, opset: int) -> None:
    """Let each Gemm behind a Transpose read the map itself, flattened, with the columns of its weights in that order.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Edited in place; its Gemms are canonical.
    opset : int
        Opset of the source.

    Raises
    ------
    UnsupportedError
        A BatchNormalization of what was transposed.
    """
    for node in list(graph):
        if node.op_type == "Gemm":
            _fold(node, opset)
        elif node.op_type == "BatchNormalization" and shape(source(node))[0] != 1:
            before = source(node).producer()
            between = "" if before is None else f" (the {before.op_type} {before.name!r} lies before it)"
            extents = list(shape(source(node)))
            raise unsupported(node, f"normalizes {extents}, whose first axis is not the batch of 1{between}")


def _fold(gemm: ir.Node, opset: int) -> None:
    chain: list[ir.Node] = []
    value = source(gemm)
    while (before := value.producer()) is not None and before.op_type in (*_MOVES, *_ELEMENTWISE):
        if sole_consumer(value) is not (chain[-1] if chain else gemm):
            break
        chain.append(before)
        value = source(before)
    while chain and chain[-1].op_type != "Transpose":
        value = chain.pop().outputs[0]
    if not chain or content(value) is not None or len(shape(value)) != 4:
        return
    view = whole(value)
    for node in reversed(chain):
        found = moved(node, view, opset) if node.op_type in _MOVES else [view]
        if found is None:
            return
        view = found[0]
    for node in reversed(chain):  # in the order of the map
        if node.op_type in _ELEMENTWISE:
            inputs = [value, *(operand(node, i) for i in range(1, len(node.inputs)))]
            kept = {name: attribute(node, name, None) for name in node.attributes}
            value = insert_before(gemm, node.op_type, inputs, kept, shape(value), node.name or "")
    weights, bias = parameters(gemm)
    permuted = np.empty_like(weights)
    permuted[:, view.index.reshape(-1)] = weights
    set_parameters(gemm, permuted, bias)
    gemm.replace_input_with(0, insert_before(gemm, "Flatten", [value], {"axis": 1}, (1, weights.shape[1]), ""))
    for node in chain:
        _graph(node).remove(node, safe=True)


def _graph(node: ir.Node) -> ir.Graph:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    return graph
