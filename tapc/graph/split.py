"""Layers in parts: each computes some of the output channels, and may have weights of another width."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tapc.graph.analysis import Graph
from tapc.graph.order import depthwise, ties
from tapc.graph.parts import JOIN, join_name, part_name
from tapc.graph.rules import rule


def divisible(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return the layers whose output channels may have any order -> the tensors that have the same one.

    A depthwise layer's parts would need parts of its input; it is none of them.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    """
    tied = {tensor: tie.tensors for tie in ties(graph) for tensor in tie.tensors}
    return {
        str(node.name): tied[node.output[0]]
        for node in graph.nodes
        if rule(node).weighted and not depthwise(graph, node) and node.output[0] in tied
    }


def divided(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """Return the network with layers in parts, whose outputs are joined again; it computes the same.

    Parameters
    ----------
    model : onnx.ModelProto
        Canonical float ONNX.
    sizes : mapping of str to sequence of int
        Layer -> output channels of its parts, in their order. One part leaves the layer as it is.
    """
    graph = Graph(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    gone, made, skipped = set(), [], set()
    for node in graph.nodes:
        own = sizes.get(node.name, ())
        if len(own) < 2:
            if node.output[0] not in skipped:
                nodes.append(node)
            continue
        activation = graph.fused_activation(node)
        if activation is not None:
            skipped.add(activation.output[0])
        operands = [str(name) for name in list(node.input)[1:] if name]
        gone |= set(operands)
        parts = []
        for index, (first, size) in enumerate(zip(np.cumsum([0, *own]), own, strict=False)):
            names = [part_name(name, index) for name in operands]
            made += [
                numpy_helper.from_array(np.ascontiguousarray(graph.constants[name][first : first + size]), new)
                for name, new in zip(operands, names, strict=True)
            ]
            result = part_name(node.output[0], index)
            nodes.append(_renamed(node, part_name(node.name, index), [node.input[0], *names], result))
            if activation is not None:
                clamped = part_name(activation.output[0], index)
                inputs = [result, *list(activation.input)[1:]]
                nodes.append(_renamed(activation, part_name(activation.name, index), inputs, clamped))
                result = clamped
            parts.append(result)
        nodes.append(helper.make_node(JOIN, parts, [graph.ending(node)], name=join_name(node.name), axis=1))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    kept = [tensor for tensor in copy.graph.initializer if tensor.name not in gone]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend([*kept, *made])
    present = {name for node in nodes for name in node.output}
    values = [value for value in copy.graph.value_info if value.name in present]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(values)
    return copy


def _renamed(node: onnx.NodeProto, name: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
    new = onnx.NodeProto()
    new.CopyFrom(node)
    new.name = name
    del new.input[:], new.output[:]
    new.input.extend(inputs)
    new.output.append(output)
    return new
