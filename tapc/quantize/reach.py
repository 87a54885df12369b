"""What every channel of a tensor can take, whatever the network's input: interval arithmetic over the weights."""

import numpy as np
import onnx

from tapc.graph.analysis import Graph
from tapc.graph.reach import Reach
from tapc.graph.rules import rule


def reaches(graph: Graph) -> dict[str, Reach]:
    """Bound every activation of a canonical float graph, whose inputs may be anything.

    Rounding is not part of the bounds: leave a margin.
    """
    found = {name: _anything(graph, name) for name in graph.inputs}
    for node in graph.nodes:
        reach, output = rule(node).reach, str(node.output[0])
        if reach is None:
            found[output] = _anything(graph, output)
            continue
        own = graph.rule(node)
        names = list(node.input) if own.adds or own.maps else graph.activations(node)
        found[output] = reach(graph, node, [found[n] if n in found else _constant(graph, node, n) for n in names])
    return found


def _anything(graph: Graph, tensor: str) -> Reach:
    channels = graph.shape(tensor)[1]
    return Reach(np.full(channels, -np.inf), np.full(channels, np.inf))


def _constant(graph: Graph, node: onnx.NodeProto, name: str) -> Reach:
    value, rank = graph.constants[name].astype(np.float64), len(graph.shape(node.output[0]))
    value = value.reshape(*[1] * (rank - value.ndim), *value.shape)
    axes = tuple(axis for axis in range(value.ndim) if axis != 1)
    return Reach(value.min(axis=axes), value.max(axis=axes))
