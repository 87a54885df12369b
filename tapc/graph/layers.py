"""The weights of layers, whatever input of a node they are."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tapc.graph.analysis import Graph
from tapc.graph.rules import rule


def layer_weights(graph: Graph, node: onnx.NodeProto) -> NDArray[np.float32]:
    """Return a layer's weights (outputs, ...) as float32; of a table (channels, rows)."""
    if rule(node).table:
        return np.ascontiguousarray(graph.constants[node.input[0]].T, np.float32)
    return graph.constants[node.input[1]].astype(np.float32)


def with_weights(model: onnx.ModelProto, node: onnx.NodeProto, weights: NDArray[np.float32]) -> onnx.ModelProto:
    """Return a copy of a model in which a layer has other weights (outputs, ...)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    table = rule(node).table
    name = node.input[0 if table else 1]
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weights.T if table else weights), name))
    return copy
