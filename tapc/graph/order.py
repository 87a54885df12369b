"""The order of channels: which tensors share one, and the network with another, which computes the same.

Whatever acts on every channel alike lets its input's order be its output's: activations, poolings, additions (whose
operands share it), depthwise layers. Other layers with weights end it on both sides: those that write a tensor have its
channels as rows of their weights, those that read it as columns.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tapc.graph.analysis import Graph, attribute
from tapc.graph.rules import rule

Order = NDArray[np.int64]


@dataclass(frozen=True)
class Tie:
    """Tensors whose channels have one order.

    Attributes
    ----------
    tensors : tuple of str
        In execution order.
    channels : int
        Of each; a flattened tensor has runs of features for them.
    """

    tensors: tuple[str, ...]
    channels: int


def depthwise(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a layer makes each output channel of the input channel at the same place alone."""
    groups, shape = int(attribute(node, "group", 1)), graph.constants[node.input[1]].shape
    return rule(node).weighted and groups > 1 and shape[:2] == (groups, 1)


def ties(graph: Graph) -> tuple[Tie, ...]:
    """Return the sets of tensors whose channels may have any order, one for all of a set.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    """
    parent: dict[str, str] = {}

    def find(tensor: str) -> str:
        parent.setdefault(tensor, tensor)
        while parent[tensor] != tensor:
            tensor = parent[tensor]
        return tensor

    uses = Counter(name for node in graph.nodes for name in node.input if name in graph.constants)
    fixed = {*graph.inputs, *graph.outputs}
    for node in graph.nodes:
        output, operands = str(node.output[0]), graph.activations(node)
        find(output)
        if rule(node).weighted:
            if depthwise(graph, node):
                parent[find(operands[0])] = find(output)
            elif int(attribute(node, "group", 1)) > 1:
                fixed |= {output, *operands}
            if any(uses[name] > 1 for name in list(node.input)[1:] if name):
                fixed |= {output, *operands}  # shared weights
        elif _alike(graph, node):
            for operand in operands:
                parent[find(operand)] = find(output)
        else:
            fixed |= {output, *operands}
    members: dict[str, list[str]] = {}
    for tensor in [*graph.inputs, *(str(node.output[0]) for node in graph.nodes)]:
        members.setdefault(find(tensor), []).append(tensor)
    closed = {find(tensor) for tensor in fixed}
    found = []
    for root, tensors in members.items():
        extents = [graph.shape(tensor)[1] for tensor in tensors] if root not in closed else []
        if extents and all(extent % min(extents) == 0 for extent in extents):
            found.append(Tie(tuple(tensors), min(extents)))
    return tuple(found)


def _alike(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node without weights does the same with every channel, and leaves it at its place."""
    known, operands = graph.rule(node), graph.activations(node)
    output = graph.shape(node.output[0])
    if known.flattens:
        return len(output) == 2 and graph.shape(operands[0])[0] == output[0] == 1
    constants = [name for name in node.input if name in graph.constants]
    if not (known.scales or known.elementwise) or any(graph.constants[name].size > 1 for name in constants):
        return False
    return all(len(graph.shape(name)) > 1 and graph.shape(name)[1] == output[1] for name in operands)


def reordered(model: onnx.ModelProto, orders: Mapping[Tie, Sequence[int] | Order]) -> onnx.ModelProto:
    """Return the network with the channels of its ties in other orders.

    Parameters
    ----------
    model : onnx.ModelProto
        Canonical float ONNX.
    orders : mapping of Tie to sequence of int
        From `ties` of it -> the channels, each once, as they are to follow each other.
    """
    graph = Graph(model)
    constants: dict[str, NDArray[np.float32]] = {}
    for tie, order in orders.items():
        for tensor in tie.tensors:
            own = runs(np.asarray(order, np.int64), graph.shape(tensor)[1])
            for name, axis in _written(graph, graph.producer[tensor]):
                constants[name] = np.take(constants.get(name, graph.constants[name]), own, axis)
            for node in graph.consumers[tensor]:
                if rule(node).weighted and not depthwise(graph, node):
                    name = str(node.input[1])
                    constants[name] = np.take(constants.get(name, graph.constants[name]), own, 1)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for proto in copy.graph.initializer:
        if proto.name in constants:
            proto.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(constants[proto.name]), proto.name))
    return copy


def _written(graph: Graph, node: onnx.NodeProto) -> Iterator[tuple[str, int]]:
    """Yield the constants of a layer that have its output channels along an axis, and the axis."""
    if rule(node).weighted:
        yield from ((str(name), 0) for name in list(node.input)[1:] if name)


def runs(order: Order, extent: int) -> Order:
    """Return the order of the features of a flattened tensor, of which each channel has a run."""
    length = extent // len(order)
    whole: Order = (order[:, None] * length + np.arange(length)).reshape(-1)
    return whole
