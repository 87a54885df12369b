"""Cross-layer equalization: channels of a tensor get ranges alike, and the network stays what it was.

A channel may be multiplied by a positive factor where the layers that write it multiply their weights and biases by it
and those that read it divide theirs (arXiv 1906.04721). Weights have one scale per output channel, so a writer, and a
depthwise reader, lose nothing by it; in any other reader the factors spread the weights of a row, which costs the more
the fewer bits they have. Every other operator between them must pass factors through: Relu, pooling, Add (whose
operands share them, constant maps included), and Clip on channels that no input brings to its bound.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.graph.analysis import Graph, attribute, quantization_points
from tapc.graph.reach import Reach
from tapc.graph.rules import rule
from tapc.quantize.burden import Reader, Tensor, least_error
from tapc.quantize.reach import reaches
from tapc.quantize.runtime import Float, batched, batches, session

Doubles = NDArray[np.float64]
_BELOW = 0.98
_WIDEST = 64.0
_LOG_WIDEST = float(np.log(_WIDEST))
_TINY = 1e-30


@dataclass(frozen=True)
class Equalized:
    """An equalized network.

    Attributes
    ----------
    onnx : onnx.ModelProto
        Canonical float ONNX that computes what the original does.
    factors : dict of str to float64 (channels,)
        What each tensor that changed was multiplied by.
    """

    onnx: onnx.ModelProto
    factors: dict[str, Doubles]


def equalize(model: onnx.ModelProto, x: Float, wbits: int | Mapping[str, int] = 8) -> Equalized:
    """Multiply channels so that activations and the weights that read them share the burden of unequal ranges.

    Parameters
    ----------
    model : onnx.ModelProto
        Canonical float ONNX.
    x : float32 (N, *input_shape[1:])
        Samples that show the ranges; rows (N, values) where there are several inputs.
    wbits : int or mapping of str to int
        Weight bits of all layers, or by node name.
    """
    graph = Graph(model)
    sets = _tied(graph)
    tensors = sorted({tensor for members in sets for tensor in members})
    ranges = channel_ranges(model, tensors, x)
    nodes = [str(node.name) for node in graph.nodes]
    bits = dict.fromkeys(nodes, wbits) if isinstance(wbits, int) else wbits
    constants = {name: graph.constants[name].astype(np.float64) for name in graph.constants if _weighty(graph, name)}
    bounds = reaches(graph)
    points = {point.tensor for point in quantization_points(graph)}
    factors: dict[str, Doubles] = {}
    for members in sets:
        factor = _factors(graph, members, points, ranges, bounds, constants, bits)
        if factor is None:
            continue
        factors |= dict.fromkeys(members, factor)
        for tensor in members:
            writer = graph.producer[tensor]
            own = np.repeat(factor, graph.shape(tensor)[1] // len(factor))
            if rule(writer).weighted:
                for name in list(writer.input)[1:]:
                    if name:
                        constants[name] *= own.reshape(-1, *[1] * (constants[name].ndim - 1))
            for name in _maps(graph, writer):
                constants[name] *= own.reshape(1, -1, *[1] * (constants[name].ndim - 2))
            for node in graph.consumers[tensor]:
                if rule(node).weighted:
                    constants[node.input[1]] /= _columns(graph, node, factor)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor_proto in copy.graph.initializer:
        if tensor_proto.name in constants:
            value = constants[tensor_proto.name].astype(np.float32)
            tensor_proto.CopyFrom(numpy_helper.from_array(value, tensor_proto.name))
    return Equalized(copy, factors)


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """What the channels of a tensor take on samples: largest magnitude and mean square, float64 (channels,) each."""

    peaks: Doubles
    power: Doubles


def channel_ranges(model: onnx.ModelProto, tensors: list[str], x: Float) -> dict[str, ChannelRange]:
    """Return the ranges of the named tensors' channels on samples x (N, ...)."""
    if not tensors:
        return {}
    graph = Graph(model)
    exposed = batched(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    runner = session(exposed, optimized=True)
    size = 8 * sum(int(np.prod(graph.shape(name))) for name in tensors)
    peaks: dict[str, Doubles] = {}
    sums: dict[str, Doubles] = {}
    for part in batches(np.ascontiguousarray(x, np.float32), size):
        for name, value in zip(tensors, runner.run(tensors, graph.feed(part)), strict=True):
            axes = (0, *range(2, value.ndim))
            peak = np.abs(value).max(axis=axes).astype(np.float64)
            square = np.square(value, dtype=np.float64).mean(axis=axes[1:]).sum(axis=0)
            peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
            sums[name] = sums[name] + square if name in sums else square
    return {name: ChannelRange(peaks[name], sums[name] / len(x)) for name in tensors}


def _weighty(graph: Graph, name: str) -> bool:
    return any(
        (rule(node).weighted and name in list(node.input)[1:]) or name in _maps(graph, node)
        for node in graph.consumers[name]
    )


def _maps(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """Return the constant operands of an addition."""
    return [name for name in node.input if name in graph.constants] if graph.rule(node).adds else []


def _tied(graph: Graph) -> list[list[str]]:
    """Return the sets of tensors that must share factors and may have any, in execution order."""
    parent: dict[str, str] = {}

    def find(tensor: str) -> str:
        parent.setdefault(tensor, tensor)
        while parent[tensor] != tensor:
            tensor = parent[tensor]
        return tensor

    fixed = {*graph.inputs, *graph.outputs}
    once: dict[str, int] = defaultdict(int)
    for node in graph.nodes:
        for name in _maps(graph, node) if graph.rule(node).adds else list(node.input)[1:3]:
            once[name] += 1
    for node in graph.nodes:
        output, operands = str(node.output[0]), graph.activations(node)
        find(output)
        flattens = rule(node).flattens and len(graph.shape(operands[0])) == 4
        if graph.rule(node).scales or (flattens and len(graph.shape(output)) == 2):
            for operand in operands:
                parent[find(operand)] = find(output)
            if any(once[name] > 1 or graph.constants[name].shape[:2] != graph.shape(output)[:2]
                   for name in _maps(graph, node)):  # fmt: skip
                fixed.add(output)  # shared or broadcast maps
        elif rule(node).weighted:
            if any(once[name] > 1 for name in list(node.input)[1:3] if name):
                fixed |= {output, *operands}  # shared weights
        else:
            fixed |= {output, *operands}
    members: dict[str, list[str]] = defaultdict(list)
    for tensor in [*graph.inputs, *(str(node.output[0]) for node in graph.nodes)]:
        members[find(tensor)].append(tensor)
    closed = {find(tensor) for tensor in fixed}
    return [tensors for root, tensors in members.items() if root not in closed and _alike(graph, tensors)]


def _alike(graph: Graph, tensors: list[str]) -> bool:
    """Whether the channels of all tensors, flattened ones included, are runs of the same length of the fewest."""
    channels = [graph.shape(tensor)[1] for tensor in tensors]
    return all(count % min(channels) == 0 for count in channels)


def _factors(
    graph: Graph,
    members: list[str],
    points: set[str],
    ranges: dict[str, ChannelRange],
    bounds: dict[str, Reach],
    constants: dict[str, Doubles],
    bits: Mapping[str, int],
) -> Doubles | None:
    """Return the factors of one set of tied tensors, or None where it has nobody that reads or writes weights."""
    readers = [node for tensor in members for node in graph.consumers[tensor] if rule(node).weighted]
    channels = min(graph.shape(tensor)[1] for tensor in members)
    if not readers or channels < 2:
        return None
    # What lies before a fused Relu is never quantized, and a flattened map repeats its map's scale.
    seen = [t for t in members if t in points and not rule(graph.producer[t]).flattens]
    peaks = {tensor: ranges[tensor].peaks.reshape(channels, -1).max(axis=1) for tensor in seen}
    activation = np.max([np.zeros(channels), *peaks.values()], axis=0)
    if not (activation > 0).any():
        return None
    low, high = _room(graph, members, bounds, channels)
    if np.array_equal(low, high):
        return None
    activation = np.maximum(activation, activation.max() / _WIDEST**2)
    flat = np.clip(np.log(activation.max() / activation), low, high)
    if all(_depthwise(graph, node) for node in readers):
        return np.asarray(np.exp(flat), np.float64)
    found = [_reader(graph, node, constants[node.input[1]], ranges, channels, bits[node.name]) for node in readers]
    order = {name: index for index, name in enumerate(members)}
    tensors = [
        Tensor(
            peaks[name],
            (1.0 if _positive(graph, name) else 2.0) / 255,
            tuple(i for i, node in enumerate(readers) if order[_source(node)] >= order[name]),
        )
        for name in seen
    ]
    factor = least_error(tensors, found, low, high, flat / 2)
    # What no Clip bounds keeps its largest magnitude.
    if np.all(low == -_LOG_WIDEST) and np.all(high == _LOG_WIDEST):
        factor = factor * activation.max() / (activation * factor).max()
    return factor


def _room(graph: Graph, members: list[str], bounds: dict[str, Reach], channels: int) -> tuple[Doubles, Doubles]:
    """Return between which logarithms the factors may lie so that no Clip acts differently, whatever the input."""
    low, high = np.full(channels, -_LOG_WIDEST), np.full(channels, _LOG_WIDEST)
    for tensor in members:
        node = graph.producer[tensor]
        if not rule(node).activation:
            continue
        before = bounds[node.input[0]]
        for bound, sign, ends in zip(graph.bounds(node), (-1.0, 1.0), (-before.low, before.high), strict=True):
            if bound is None or bound == 0.0:
                continue
            most = np.maximum(ends.reshape(channels, -1).max(axis=1), _TINY)
            room = np.log(np.maximum(_BELOW * sign * bound / most, _TINY))
            low = np.where(room >= 0, low, 0.0)
            high = np.where(room >= 0, np.minimum(high, room), 0.0)
    return low, high


def _positive(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is never negative."""
    node = graph.producer[tensor]
    if rule(node).activation:
        low = graph.bounds(node)[0]
        return low is not None and low >= 0
    return graph.rule(node).keeps_sign and node.input[0] in graph.producer and _positive(graph, node.input[0])


def _depthwise(graph: Graph, node: onnx.NodeProto) -> bool:
    groups = int(attribute(node, "group", 1))
    return groups > 1 and graph.constants[node.input[1]].shape[1] == 1


def _source(node: onnx.NodeProto) -> str:
    return str(node.input[0])


def _reader(
    graph: Graph, node: onnx.NodeProto, weights: Doubles, ranges: dict[str, ChannelRange], channels: int, bits: int
) -> Reader:
    """Return what the factors of its input's channels do to a layer."""
    groups = int(attribute(node, "group", 1))
    outputs, depth = weights.shape[:2]
    grouped = weights.reshape(groups, outputs // groups, depth, -1)
    squares = np.square(grouped).sum(axis=(1, 3)).reshape(channels, -1).sum(axis=1)
    largest = np.zeros((outputs, groups * depth))
    for group, own in enumerate(np.abs(grouped).max(axis=3)):
        rows = slice(group * len(own), (group + 1) * len(own))
        largest[rows, group * depth : (group + 1) * depth] = own
    # Features of a flattened map are runs of one channel.
    largest = largest.reshape(outputs, channels, -1).max(axis=2)
    power = ranges[_source(node)].power.reshape(channels, -1).mean(axis=1)
    return Reader(largest, squares, power, 1 / (2 ** (bits - 1) - 1), _depthwise(graph, node))


def _columns(graph: Graph, node: onnx.NodeProto, factor: Doubles) -> Doubles:
    """Return what a reader's weights are divided by, shaped so that it broadcasts."""
    shape = graph.constants[node.input[1]].shape
    factor = np.repeat(factor, graph.shape(_source(node))[1] // len(factor))
    if len(shape) == 2:
        return factor
    groups = int(attribute(node, "group", 1))
    per_output = np.repeat(factor.reshape(groups, -1), shape[0] // groups, axis=0)
    return per_output.reshape(shape[0], shape[1], 1, 1)
