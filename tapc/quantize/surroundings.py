"""Where a layer stands in its network, for the statistics table: who reads it, and what becomes of an error in it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx

from tapc.graph.analysis import Graph, attribute
from tapc.graph.network import Layer
from tapc.graph.rules import rule
from tapc.proxy.columns import Row
from tapc.quantize.runtime import Float, NodeRunner
from tapc.quantize.walk import operands

_STEP = 1e-3
"""Of numerical slopes, relative to the root mean square of what a function reads."""


@dataclass
class Powers:
    """What a walk over the float network saw.

    Attributes
    ----------
    squares, sizes : dict of str to float
        Tensor -> sum of its squares, and number of its values, over all samples.
    slopes : dict of str to float
        Result of a function of single elements -> mean squared slope of the function; of a clamp, the share of values
        that pass.
    """

    squares: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    slopes: dict[str, float] = field(default_factory=dict)

    def see(self, graph: Graph, node: onnx.NodeProto, inputs: list[Float], output: Float, run: NodeRunner) -> None:
        """Take note of what a node read and made."""
        name = str(node.output[0])
        for tensor, value in [*zip(graph.activations(node), inputs, strict=True), (name, output)]:
            if tensor not in self.sizes:
                self.squares[tensor] = float(np.square(value.astype(np.float64)).sum())
                self.sizes[tensor] = value.size
        if rule(node).activation:
            self.slopes[name] = float(np.mean(inputs[0] == output))
        elif rule(node).elementwise:
            step = np.float32(_STEP * math.sqrt(self.squares[graph.activations(node)[0]] / inputs[0].size) or _STEP)
            moved = run(node, operands(graph, node, [inputs[0] + step]))
            self.slopes[name] = float(np.square((moved.astype(np.float64) - output) / step).mean())


def surroundings(graph: Graph, layers: Iterable[Layer], powers: Powers) -> dict[str, Row]:
    """Return the columns of every layer that tell of what is around it; see `tapc.proxy.columns`."""
    named = {layer.name: layer for layer in layers}
    gains, distances = _gains(graph, powers), _distances(graph)
    return {node.name: _row(graph, node, named, powers, gains, distances) for node in graph.nodes if node.name in named}


def _row(
    graph: Graph, node: onnx.NodeProto, layers: dict[str, Layer], powers: Powers, gains: dict[str, float],
    distances: dict[str, int],
) -> Row:  # fmt: skip
    tensor, output = str(node.output[0]), graph.ending(node)
    users = graph.consumers[output]
    behind = [layers[n.name] for n in _layers_behind(graph, tensor) if n.name in layers]
    before = [layers[n.name] for n in _layers_before(graph, node) if n.name in layers]
    activation, averaged, largest = _function_and_pools(graph, tensor)
    addition = next((user for user in users if graph.rule(user).adds), None)
    operands = [] if addition is None else graph.activations(addition)
    whole = math.fsum(powers.squares[name] for name in operands)
    return {
        "readers": len(users),
        "activation": "none" if activation is None else activation.op_type.lower(),
        "next_op": behind[0].op if behind else "none",
        "average_pooled": averaged,
        "max_pooled": largest,
        "output_pixels": math.prod(graph.shape(tensor)) // layers[node.name].weight_shape[0],
        "layers_behind": distances.get(tensor, 0),
        "width_before": max((layer.weight_shape[0] for layer in before), default=0),
        "width_behind": max((layer.weight_shape[0] for layer in behind), default=0),
        "addition_share": powers.squares[output] / whole if whole > 0 else 1.0,
        "activation_slope": 1.0 if activation is None else powers.slopes[str(activation.output[0])],
        "downstream_gain": gains.get(tensor, 0.0),
    }


def _window(graph: Graph, node: onnx.NodeProto) -> tuple[int, int] | None:
    """Return how many values a pooling averages and of how many it takes the largest; None for other nodes."""
    own = rule(node)
    if not own.pools:
        return None
    values = math.prod(graph.shape(node.input[0])[2:] if own.global_pool else attribute(node, "kernel_shape", [1]))
    return (values, 1) if own.pools == "average" else (1, values)


def _function_and_pools(graph: Graph, tensor: str) -> tuple[onnx.NodeProto | None, int, int]:
    """Return the function of single elements right behind a tensor, and how many values poolings make one of."""
    function, averaged, largest = None, 1, 1
    while len(users := graph.consumers[tensor]) == 1 and tensor not in graph.outputs:
        window = _window(graph, users[0])
        if window is not None:
            averaged, largest = averaged * window[0], largest * window[1]
        elif function is None and (rule(users[0]).activation or rule(users[0]).elementwise):
            function = users[0]
        else:
            break
        tensor = str(users[0].output[0])
    return function, averaged, largest


def _layers_behind(graph: Graph, tensor: str) -> list[onnx.NodeProto]:
    """Return the layers that read a tensor, through anything without weights, in execution order."""
    reached, found = {tensor}, []
    for node in graph.nodes:
        if reached.isdisjoint(graph.activations(node)):
            continue
        if rule(node).weighted:
            found.append(node)
        else:
            reached.add(str(node.output[0]))
    return found


def _layers_before(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return the layers that a layer reads, through anything without weights."""
    wanted, found = set(graph.activations(node)), []
    for other in reversed(graph.nodes):
        if other.output[0] not in wanted:
            continue
        if rule(other).weighted or rule(other).nearest:
            found.append(other)
        else:
            wanted.update(graph.activations(other))
    return found


def _distances(graph: Graph) -> dict[str, int]:
    """Return how many layers are on the shortest way from each tensor to an output."""
    distances = dict.fromkeys(graph.outputs, 0)
    for node in reversed(graph.nodes):
        if (behind := distances.get(str(node.output[0]))) is None:
            continue
        for name in graph.activations(node):
            way = behind + int(rule(node).weighted)
            distances[name] = min(way, distances.get(name, way))
    return distances


def _gains(graph: Graph, powers: Powers) -> dict[str, float]:
    """Return by what factor a relative squared error of each tensor arrives at the logits, as predicted.

    Errors are taken to be independent of the signal and of each other in channels and taps of a kernel: they add up in
    squares, where signals add up as they are. In the window of a pooling they are taken to be alike, as neighbouring
    pixels are: no average damps them (were they independent there, too, all layers before a global average would seem
    harmless beside the last one). Relus pass the errors of the values that they pass.
    """
    gains = {graph.scores(output): 1.0 for output in graph.outputs}
    for node in reversed(graph.nodes):
        if (behind := gains.get(str(node.output[0]))) is not None:
            for name in graph.activations(node):
                gains[name] = gains.get(name, 0.0) + behind * _factor(graph, node, name, powers)
    return gains


def _factor(graph: Graph, node: onnx.NodeProto, name: str, powers: Powers) -> float:
    """Return the factor of a node alone."""
    output, own = str(node.output[0]), graph.rule(node)
    if not powers.squares[output]:
        return 0.0
    signal = powers.squares[name] / powers.squares[output]
    share = powers.sizes[output] / powers.sizes[name]
    if own.weighted:
        weights = graph.constants[node.input[1]].astype(np.float64)
        return signal * share * float(np.square(weights).sum()) / len(weights)
    if own.pools:
        return signal * share
    if own.activation or own.elementwise:
        return signal * powers.slopes[output]
    if own.adds or own.joins or own.repeats or own.arranges:
        return signal * min(1.0, share)
    return 1.0
