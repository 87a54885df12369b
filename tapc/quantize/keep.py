"""The QDQ model of a network that is quantized already: everything as it is given, nothing is chosen."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, Point, quantization_points
from tapc.graph.exact import set_exact
from tapc.graph.given import Given, GivenLayer, GivenPoint
from tapc.graph.network import Bits, Network
from tapc.graph.rules import rule
from tapc.quantize.activations import ActivationParameters, Float, tensor_parameters
from tapc.quantize.calibration import HasGraph, calibrate
from tapc.quantize.export import export_qdq
from tapc.quantize.model import QuantizedModel
from tapc.quantize.weights import QuantizedLayer, QuantizedWeights, integer_bias

KEPT = "given"
"""What reports call the rounding of weights that come as integers."""


def keep(model: HasGraph, network: Network, given: Given, x: Float | None = None) -> QuantizedModel:
    """Write the QDQ model.

    Parameters
    ----------
    model : FloatModel
        Canonical float ONNX in `model.onnx`.
    network : Network
        From `tapc.graph.analysis.analyse`.
    given : Given
        By tensors and nodes of this graph.
    x : float32 (N, *input_shape[1:]), optional
        Samples that tell the ranges of tensors which the source leaves as real values.

    Raises
    ------
    UnsupportedError
        A tensor that the source does not quantize, or a layer without integers.
    """
    graph = Graph(model.onnx)
    missing = real_tensors(graph, given)
    if missing and x is not None:
        ranges = calibrate(model, x, seed=0).tensors
        found = {name: tensor_parameters(ranges[name], 8) for name in missing}
        own = {name: GivenPoint(p.scale, p.zero_point) for name, p in found.items()}
        given = replace(given, points={**given.points, **own})
    wide = {name: (own.scale, own.zero) for name, own in given.points.items() if own.bits == 32}
    given = replace(given, points={**given.points, **{name: _before(graph, name, given.points) for name in wide}})
    parameters = _parameters(graph, given.points)
    layers = {layer.name: _layer(graph, layer.name, given, parameters) for layer in network.layers}
    exported = export_qdq(graph, layers, parameters, {name: name for name in parameters}, given.constants)
    single, short = ([name for name in layers if getattr(given.layers[name], way)] for way in ("single", "short"))
    set_exact(exported, single, wide, short, kept=any(own.bits == 16 for own in given.points.values()))
    return QuantizedModel(exported, given_bits(network, given), parameters, layers, dict.fromkeys(layers, KEPT))


def real_tensors(graph: Graph, given: Given) -> tuple[str, ...]:
    """Return the stored tensors that the source leaves as real values, and of which no operator tells the range."""
    points = _moved_back(graph, given.points)
    return tuple(
        point.tensor for point in quantization_points(graph)
        if point.tensor not in points and point.fixed is None and point.like is None
    )  # fmt: skip


def given_bits(network: Network, given: Given) -> Bits:
    """Return the bits that a network has as it comes."""
    widths = {
        index: max((given.points[name].bits for name in group.tensors if name in given.points), default=8)
        for index, group in enumerate(network.groups)
    }
    return Bits({layer.name: given.layers[layer.name].bits for layer in network.layers}, widths)


def _parameters(graph: Graph, points: Mapping[str, GivenPoint]) -> dict[str, ActivationParameters]:
    """Return how every tensor is quantized that is stored; in the order of the graph."""
    wanted = {point.tensor: point for point in quantization_points(graph)}
    points = _moved_back(graph, points)
    found: dict[str, ActivationParameters] = {}
    for tensor in (*graph.inputs, *(str(node.output[0]) for node in graph.nodes)):
        if tensor in points:
            own = points[tensor]
            found[tensor] = ActivationParameters(own.bits, own.scale, own.zero)
        elif tensor in wanted:
            found[tensor] = _implied(wanted[tensor], found)
    for node in graph.nodes:
        after = graph.fused_activation(node)
        # One clamp of the same codes takes no step of its own; a move none either.
        if after is not None and found.get(node.output[0]) == found.get(after.output[0]):
            found.pop(node.output[0], None)
        elif node.output[0] in found and node.output[0] not in wanted and graph.arranges(node):
            found.pop(node.output[0])
    return found


def _before(graph: Graph, name: str, points: Mapping[str, GivenPoint]) -> GivenPoint:
    """Return how what comes before an output of 32 bits is quantized, which ONNX's quantizers do not write."""
    node = graph.producer.get(name)
    if name not in graph.outputs or node is None or graph.consumers.get(name) or node.input[0] not in points:
        raise UnsupportedError(f"tensor {name!r} has 32 bits in the source; only outputs of the network may")
    return points[node.input[0]]


def _moved_back(graph: Graph, points: Mapping[str, GivenPoint]) -> dict[str, GivenPoint]:
    """Let what is quantized behind a move or a clamp be quantized before it: the codes are the same."""
    found, stored = dict(points), {point.tensor for point in quantization_points(graph)}
    for node in graph.nodes:
        if rule(node).repeats and (source := graph.activations(node)[0]) in found and node.output[0] in stored:
            found.setdefault(node.output[0], found[source])
    for node in reversed(graph.nodes):
        moves, clamps = rule(node).repeats, rule(node).activation
        if (moves or clamps) and node.output[0] in found and (source := graph.activations(node)[0]) in stored:
            found.setdefault(source, found[node.output[0]])
    for kept in graph.states:  # one tells the other
        for name, other in ((kept.input, kept.output), (kept.output, kept.input)):
            if other in found:
                found.setdefault(name, found[other])
    return found


def _implied(point: Point, found: Mapping[str, ActivationParameters]) -> ActivationParameters:
    """Return how a tensor is quantized of which the source does not say it."""
    if point.like is not None and point.like in found:
        return found[point.like]
    if point.fixed is not None:
        low, high = point.fixed
        scale = (high - low) / 256
        return ActivationParameters(8, scale, -128 - round(low / scale))
    raise UnsupportedError(
        f"the source does not quantize tensor {point.tensor!r} ({point.op}): only networks whose activations all have "
        "scales can be kept as they are; compile it with --requantize"
    )


def _layer(graph: Graph, name: str, given: Given, parameters: Mapping[str, ActivationParameters]) -> QuantizedLayer:
    layer: GivenLayer = given.layers[name]
    node = next(node for node in graph.nodes if node.name == name)
    if node.input[0] not in parameters:
        raise UnsupportedError(f"layer {name!r}: its input {node.input[0]!r} is not quantized in the source")
    scale = np.float32(parameters[node.input[0]].scale)
    weights = QuantizedWeights(layer.codes, layer.scales, layer.bits)
    units = (scale * layer.scales).astype(np.float32)
    bias = layer.bias if layer.bias is not None else integer_bias(graph.constants[node.input[2]], units)
    return QuantizedLayer(weights, bias, units)
