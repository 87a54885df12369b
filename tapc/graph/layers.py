"""The weights of layers, whatever input of a node they are."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tapc.graph.analysis import Graph
from tapc.graph.places import weight_input
from tapc.graph.rules import rule


def layer_weights(graph: Graph, node: onnx.NodeProto) -> NDArray[np.float32]:
    """Return a layer's weights (outputs, ...) as float32; of a table (channels, rows)."""
    found = graph.constants[node.input[weight_input(node)]]
    if rule(node).table:
        return np.ascontiguousarray(found.T, np.float32)
    return np.ascontiguousarray(found[0] if rule(node).recurrent else found, np.float32)


def as_stored(node: onnx.NodeProto, weights: NDArray[Any]) -> NDArray[Any]:
    """Return weights (outputs, ...) as the node reads them."""
    if rule(node).table:
        return np.ascontiguousarray(weights.T)
    return np.ascontiguousarray(weights[None] if rule(node).recurrent else weights)


def with_weights(model: onnx.ModelProto, node: onnx.NodeProto, weights: NDArray[np.float32]) -> onnx.ModelProto:
    """Return a copy of a model in which a layer has other weights (outputs, ...)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name = node.input[weight_input(node)]
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(as_stored(node, weights), name))
    return copy


def rounded_operands(
    graph: Graph, node: onnx.NodeProto, weights: NDArray[Any], value: NDArray[Any]
) -> list[NDArray[Any]]:
    """Return all inputs of a layer that is rounded to the nearest, with these weights (outputs, ...) and this input."""
    place = weight_input(node)
    given = [
        as_stored(node, weights) if index == place else graph.constants.get(name, value)
        for index, name in enumerate(node.input)
        if name
    ]
    return given


def result_of(graph: Graph, node: onnx.NodeProto, output: NDArray[Any]) -> NDArray[Any]:
    """Return what such a layer gives, (N, outputs, ...): of a recurrent one each unit once for each of its gates."""
    if rule(node).table:
        return np.moveaxis(output, -1, 1)
    gates = len(layer_weights(graph, node)) // output.shape[-1]
    return np.tile(output.transpose(2, 3, 1, 0), (1, gates, 1, 1))
