"""Stretches of a network that are reconstructed together: single layers, or residual blocks."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from tapc.graph.analysis import Graph
from tapc.graph.rules import rule
from tapc.quantize.activations import ActivationParameters
from tapc.quantize.problem import Doubles
from tapc.quantize.runtime import Float
from tapc.quantize.weights import QuantizedLayer


@dataclass(frozen=True, eq=False)
class Unit:
    """Consecutive nodes with one output.

    Attributes
    ----------
    nodes : tuple of NodeProto
        In execution order.
    inputs : tuple of str
        Tensors read from outside.
    output : str
        The last node's tensor.
    layers : tuple of str
        Names of the nodes with weights.
    """

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    output: str
    layers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A unit whose layers are rounded, and what it should give.

    Attributes
    ----------
    unit : Unit
    start : mapping of str to QuantizedLayer
        The unit's layers, by name.
    parameters : mapping of str to ActivationParameters
        Per quantized tensor.
    inputs : mapping of str to (float32 (N, ...), float32 (N, ...))
        What the unit reads in the quantized and in the float network.
    target : float32 (N, ...)
        What it should give.
    coupling : float64 (channels, channels) or None
        How errors of its channels meet at the network's output; without it, their squares count alike.
    """

    unit: Unit
    start: Mapping[str, QuantizedLayer]
    parameters: Mapping[str, ActivationParameters]
    inputs: Mapping[str, tuple[Float, Float]]
    target: Float
    coupling: Doubles | None = None

    @property
    def eight_bits(self) -> bool:
        """Whether all layers have 8 bits, which learning leaves alone."""
        return all(layer.weights.bits == 8 for layer in self.start.values())


def single_layers(graph: Graph) -> tuple[Unit, ...]:
    """Divide a network into layers with the Relu or Clip behind them, and single other nodes.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.

    Returns
    -------
    tuple of Unit
        Every node once, in order.
    """
    stretches: list[list[onnx.NodeProto]] = []
    for node in graph.nodes:
        before = stretches[-1] if stretches else []
        if before and rule(before[-1]).weighted and graph.fused_activation(before[-1]) is node:
            before.append(node)
        else:
            stretches.append([node])
    return tuple(_unit(graph, nodes) for nodes in stretches)


def blocks(graph: Graph, layers: int) -> tuple[Unit, ...]:
    """Divide a network where a single tensor goes from one part to the next.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.
    layers : int
        Parts in a row are joined while they hold no more layers with weights than this; what lies between two such
        tensors (a residual block) stays together, whatever it holds. A Softmax between two starts a part of its own.

    Returns
    -------
    tuple of Unit
        Every node once, in order.
    """
    remaining = {name: len(nodes) for name, nodes in graph.consumers.items()}
    alive = set(graph.inputs)
    stretches: list[list[onnx.NodeProto]] = [[]]
    for node in graph.nodes:
        stretches[-1].append(node)
        for name in graph.activations(node):
            remaining[name] -= 1
            if not remaining[name]:
                alive.discard(name)
        alive.add(str(node.output[0]))
        if len(alive) == 1 and graph.fused_activation(node) is None:
            stretches.append([])
    joined: list[list[onnx.NodeProto]] = []
    for nodes in filter(None, stretches):
        # A softmax saturates, and hides from the layers before it what they should still give.
        own = rule(nodes[0]).distribution or rule(nodes[0]).chooses
        if joined and not own and (_weighted(joined[-1]) + _weighted(nodes) <= layers or not _weighted(nodes)):
            joined[-1] += nodes
        else:
            joined.append(list(nodes))
    return tuple(_unit(graph, nodes) for nodes in joined)


def whole(graph: Graph) -> tuple[Unit, ...]:
    """Return the network as one unit, but for a Softmax or ArgMax that ends it.

    Parameters
    ----------
    graph : Graph
        Canonical float graph.

    Returns
    -------
    tuple of Unit
        Every node once, in order.
    """
    nodes = list(graph.nodes)
    scores = graph.scores(graph.output)
    made = next(index for index, node in enumerate(nodes) if graph.output == scores or scores in node.output)
    behind = nodes[made + 1 :] if scores != graph.output else []
    return tuple(_unit(graph, part) for part in (nodes[: len(nodes) - len(behind)], behind) if part)


def _weighted(nodes: list[onnx.NodeProto]) -> int:
    return sum(rule(node).weighted for node in nodes)


def _unit(graph: Graph, nodes: list[onnx.NodeProto]) -> Unit:
    made = {node.output[0] for node in nodes}
    read = [name for node in nodes for name in graph.activations(node) if name not in made]
    layers = tuple(str(node.name) for node in nodes if rule(node).weighted)
    return Unit(tuple(nodes), tuple(dict.fromkeys(read)), str(nodes[-1].output[0]), layers)
