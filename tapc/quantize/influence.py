"""What gptq leaves of a layer's error (arXiv 2210.17323) and what that does to the logits: statistics columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from tapc.graph.analysis import Graph
from tapc.graph.layers import layer_weights, result_of, rounded_operands
from tapc.graph.network import Layer
from tapc.graph.rules import rule
from tapc.proxy.columns import Row
from tapc.quantize.problem import Doubles, LayerProblem
from tapc.quantize.rounding import quick_method
from tapc.quantize.runtime import Float, NodeRunner
from tapc.quantize.walk import geometry
from tapc.quantize.weights import quantize_weights

BITS = (2, 4)


@dataclass(frozen=True, eq=False)
class Gains:
    """What an error of a tensor does to the network's outputs.

    Attributes
    ----------
    apart : float64 (channels,)
        Squared error of the outputs, each over its variance, for an error of 1 in every value of a channel,
        independent between places.
    alike : float64 (channels,)
        The same for an error that is equal at all places.
    """

    apart: Doubles
    alike: Doubles


def influence(
    graph: Graph, node: onnx.NodeProto, layer: Layer, values: Sequence[Float], gain: Gains | None, run: NodeRunner
) -> tuple[Row, Row]:
    """Return a layer's columns of what gptq leaves and of the logits, and the same by channel.

    Parameters
    ----------
    graph : Graph
    node : onnx.NodeProto
    layer : Layer
    values : sequence of float32 (N, ...)
        The layer's input and its output, channels on axis 1 but for tables.
    gain : Gains or None
        Of the output; None where the network's outputs do not depend on it.
    run : NodeRunner
    """
    errors, power = _nearest(graph, node, values, run) if rule(node).nearest else _rounded(graph, node, layer, values)
    channels = len(errors[BITS[0]])
    none = np.zeros(channels)
    apart = alike = none
    if gain is not None:  # a unit of a recurrent layer has several gates
        apart, alike = (np.resize(own, channels) * power for own in (gain.apart, gain.alike))
    row: Row = {"logit_gain": float(apart.mean()), "logit_gain_alike": float(alike.mean())}
    row |= {f"gptq_error_{bits}": float(errors[bits].sum()) for bits in BITS}
    own: Row = {"channel_logit_gain": apart.tolist()}
    return row, own | {f"channel_gptq_error_{bits}": errors[bits].tolist() for bits in BITS}


def _rounded(
    graph: Graph, node: onnx.NodeProto, layer: Layer, values: Sequence[Float]
) -> tuple[dict[int, Doubles], float]:
    """Return each channel's error by width over the layer's variance, and that variance, summed over the channels.

    Each half of the samples shows the error of what the other half rounded.
    """
    weights = graph.constants[node.input[1]].astype(np.float32)
    none, middle = np.zeros(len(weights)), max(1, len(values[0]) // 2)
    parts = [slice(None, middle), slice(middle, None)] if len(values[0]) > 1 else [slice(None)] * 2
    halves = [
        LayerProblem(layer, BITS[0], weights, none, none, x, x, None, *geometry(node), target=y)
        for x, y in ([np.ascontiguousarray(v[part]) for v in values] for part in parts)
    ]
    outputs = np.moveaxis(values[1], 1, 0).reshape(len(weights), -1)
    power = float(outputs.var(axis=1, dtype=np.float64).sum())
    method = quick_method("gptq")
    errors = {}
    for bits in BITS:
        found = none
        for fitted, seen in (halves, halves[::-1]):
            found = found + _squares(seen, method.round(fitted.at(bits)).dequantized() - weights) / 2
        errors[bits] = found / power if power > 0 else none
    return errors, power


def _squares(problem: LayerProblem, weights: Float) -> Doubles:
    """Return the variance of each output (outputs,) by weights (outputs, ...)."""
    grouped = weights.astype(np.float64).reshape(problem.groups, len(weights) // problem.groups, -1)
    pairs = zip(grouped, problem.moments, strict=True)
    return np.concatenate([np.einsum("ol,ol->o", w @ m.whole.inputs, w) for w, m in pairs])


def _nearest(
    graph: Graph, node: onnx.NodeProto, values: Sequence[Float], run: NodeRunner
) -> tuple[dict[int, Doubles], float]:
    """Return the same of a table or a recurrent layer, which are rounded to the nearest."""
    rows = layer_weights(graph, node)
    read, exact = values[0], result_of(graph, node, values[1]).astype(np.float64)
    axes = (0, *range(2, exact.ndim))
    power = float(exact.var(axis=axes).sum())
    errors = {}
    for bits in BITS:
        operands = rounded_operands(graph, node, quantize_weights(rows, bits).dequantized(), read)
        found = np.square(result_of(graph, node, run(node, operands)) - exact).mean(axis=axes)
        errors[bits] = found / power if power > 0 else np.zeros(len(rows))
    return errors, power
