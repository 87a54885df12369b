"""Which input of a node holds a layer's weights."""

import onnx

from tapc.graph.rules import rule


def weight_input(node: onnx.NodeProto) -> int:
    """Return the input of a layer that holds its weights."""
    own = rule(node)
    return 0 if own.table else 2 if own.recurrent else 1
