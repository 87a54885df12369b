"""Cross-layer equalization: channels of a tensor get ranges alike, and the network stays what it was.

A channel may be multiplied by a positive factor where the layers that write it multiply their weights and biases by it
and those that read it divide theirs (arXiv 1906.04721). Weights have one scale per output channel, so a writer, and a
depthwise reader, lose nothing by it; in any other reader the factors spread the weights of a row. Every other operator
between them must pass factors through: Relu, pooling, Add (whose operands share them), and Clip on channels that
stay below its bound.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.network_analysis import Graph, attribute, quantization_points
from tapc.quantize.runtime import Float, batched, batches, session

Doubles = NDArray[np.float64]
ALPHA = 0.25
_PASSES = ("Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Pad")
_BELOW = 0.98
_WIDEST = 64.0
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


def equalize(model: onnx.ModelProto, x: Float, alpha: float = ALPHA) -> Equalized:
    """Multiply channels so that activations and the weights that read them share the burden of unequal ranges.

    A channel's factor is (reader's largest weight / largest activation)^alpha over all channels, 1 / largest
    activation where every reader is depthwise.

    Parameters
    ----------
    model : onnx.ModelProto
        Canonical float ONNX.
    x : float32 (N, *input_shape[1:])
        Samples that show the ranges.
    alpha : float
        0 changes nothing for readers that are not depthwise.
    """
    graph = Graph(model)
    sets = _tied(graph)
    tensors = sorted({tensor for members in sets for tensor in members})
    peaks = channel_peaks(model, tensors, x)
    constants = {name: graph.constants[name].astype(np.float64) for name in graph.constants if _weighty(graph, name)}
    points = {point.tensor for point in quantization_points(graph)}
    factors: dict[str, Doubles] = {}
    for members in sets:
        factor = _factors(graph, members, points, peaks, constants, alpha)
        if factor is None:
            continue
        factors |= dict.fromkeys(members, factor)
        for tensor in members:
            writer = graph.producer[tensor]
            if writer.op_type in ("Conv", "Gemm"):
                for name in list(writer.input)[1:]:
                    if name:
                        constants[name] *= factor.reshape(-1, *[1] * (constants[name].ndim - 1))
            for node in graph.consumers[tensor]:
                if node.op_type in ("Conv", "Gemm"):
                    constants[node.input[1]] /= _columns(graph, node, factor)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor_proto in copy.graph.initializer:
        if tensor_proto.name in constants:
            value = constants[tensor_proto.name].astype(np.float32)
            tensor_proto.CopyFrom(numpy_helper.from_array(value, tensor_proto.name))
    return Equalized(copy, factors)


def channel_peaks(model: onnx.ModelProto, tensors: list[str], x: Float) -> dict[str, Doubles]:
    """Return the largest magnitude that each channel of the named tensors takes on samples x (N, ...); (channels,)."""
    if not tensors:
        return {}
    graph = Graph(model)
    exposed = batched(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    runner = session(exposed, optimized=True)
    size = 8 * sum(int(np.prod(graph.shape(name))) for name in tensors)
    result: dict[str, Doubles] = {}
    for part in batches(np.ascontiguousarray(x, np.float32), size):
        for name, value in zip(tensors, runner.run(tensors, {graph.input: part}), strict=True):
            peak = np.abs(value).max(axis=(0, *range(2, value.ndim))).astype(np.float64)
            result[name] = np.maximum(result[name], peak) if name in result else peak
    return result


def _weighty(graph: Graph, name: str) -> bool:
    return any(node.op_type in ("Conv", "Gemm") and name in list(node.input)[1:] for node in graph.consumers[name])


def _tied(graph: Graph) -> list[list[str]]:
    """Return the sets of tensors that must share factors and may have any, in execution order."""
    parent: dict[str, str] = {}

    def find(tensor: str) -> str:
        parent.setdefault(tensor, tensor)
        while parent[tensor] != tensor:
            tensor = parent[tensor]
        return tensor

    fixed = {graph.input, graph.output}
    once: dict[str, int] = defaultdict(int)
    for node in graph.nodes:
        for name in list(node.input)[1:3]:
            if node.op_type in ("Conv", "Gemm") and name:
                once[name] += 1
    for node in graph.nodes:
        output, operands = str(node.output[0]), graph.activations(node)
        find(output)
        flattens = node.op_type in ("Flatten", "Reshape") and len(graph.shape(operands[0])) == 4
        if node.op_type in _PASSES or (flattens and len(graph.shape(output)) == 2):
            for operand in operands:
                parent[find(operand)] = find(output)
        elif node.op_type in ("Conv", "Gemm"):
            if any(once[name] > 1 for name in list(node.input)[1:3] if name):
                fixed |= {output, *operands}  # shared weights
        else:
            fixed |= {output, *operands}
    members: dict[str, list[str]] = defaultdict(list)
    for tensor in [graph.input, *(str(node.output[0]) for node in graph.nodes)]:
        members[find(tensor)].append(tensor)
    closed = {find(tensor) for tensor in fixed}
    return [tensors for root, tensors in members.items() if root not in closed]


def _factors(
    graph: Graph,
    members: list[str],
    points: set[str],
    peaks: dict[str, Doubles],
    constants: dict[str, Doubles],
    alpha: float,
) -> Doubles | None:
    """Return the factors of one set of tied tensors, or None where it has nobody that reads or writes weights."""
    readers = [node for tensor in members for node in graph.consumers[tensor] if node.op_type in ("Conv", "Gemm")]
    channels = min(graph.shape(tensor)[1] for tensor in members)
    if not readers or channels < 2:
        return None
    # What lies before a fused Relu is never quantized, and a flattened map has its channels elsewhere.
    seen = [t for t in members if t in points and graph.producer[t].op_type not in ("Flatten", "Reshape")]
    activation = np.max([peaks[tensor] for tensor in seen], axis=0)
    if not (activation > 0).any():
        return None
    activation = np.maximum(activation, activation.max() / _WIDEST**2)
    depthwise = all(_depthwise(graph, node) for node in readers)
    if depthwise:
        factor = activation.max() / activation
    else:
        columns = [_column_peaks(graph, node, constants[node.input[1]], channels) for node in readers]
        columns = [c for c, node in zip(columns, readers, strict=True) if not _depthwise(graph, node)]
        weights = np.max([c / max(c.max(), _TINY) for c in columns], axis=0)
        weights = np.maximum(weights, 1.0 / _WIDEST**2)
        factor = (weights / activation) ** alpha
        factor *= activation.max() / (activation * factor).max()
    factor = np.clip(factor, 1 / _WIDEST, _WIDEST)
    for tensor in members:
        node = graph.producer[tensor]
        if node.op_type == "Clip":
            low, high = graph.bounds(node)
            for bound, sign in ((low, -1.0), (high, 1.0)):
                if bound is not None and bound != 0.0:
                    room = sign * bound * _BELOW / np.maximum(peaks[tensor], _TINY)
                    factor = np.where(room >= 1, np.minimum(factor, room), 1.0)
    result: Doubles = factor
    return result


def _depthwise(graph: Graph, node: onnx.NodeProto) -> bool:
    groups = int(attribute(node, "group", 1)) if node.op_type == "Conv" else 1
    return groups > 1 and graph.constants[node.input[1]].shape[1] == 1


def _column_peaks(graph: Graph, node: onnx.NodeProto, weights: Doubles, channels: int) -> Doubles:
    """Return the largest magnitude with which a layer weighs each input channel, relative to its row's largest."""
    rows = np.abs(weights) / np.maximum(np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True), _TINY)
    if node.op_type == "Gemm":
        return np.asarray(rows.reshape(len(rows), channels, -1).max(axis=(0, 2)), np.float64)
    groups = int(attribute(node, "group", 1))
    grouped = rows.reshape(groups, len(rows) // groups, rows.shape[1], -1).max(axis=(1, 3))
    return np.asarray(grouped.reshape(-1), np.float64)


def _columns(graph: Graph, node: onnx.NodeProto, factor: Doubles) -> Doubles:
    """Return what a reader's weights are divided by, shaped so that it broadcasts."""
    shape = graph.constants[node.input[1]].shape
    if node.op_type == "Gemm":
        return np.repeat(factor, shape[1] // len(factor))
    groups = int(attribute(node, "group", 1))
    per_output = np.repeat(factor.reshape(groups, -1), shape[0] // groups, axis=0)
    return per_output.reshape(shape[0], shape[1], 1, 1)
