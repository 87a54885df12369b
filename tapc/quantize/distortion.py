"""How much each layer's output changes when it alone is quantized: the allocator's distortion."""

import numpy as np
import onnx

from tapc.base.errors import DataError
from tapc.graph.analysis import Graph
from tapc.graph.layers import layer_weights, rounded_operands
from tapc.graph.network import ACTIVATION_BITS, WEIGHT_BITS, Network
from tapc.graph.rules import rule
from tapc.quantize.activations import activation_parameters, fake_quantize
from tapc.quantize.calibration import Calibration, HasGraph
from tapc.quantize.runtime import Float, NodeRunner
from tapc.quantize.walk import float_bias, float_walk
from tapc.quantize.weights import quantize_weights

MAX_SAMPLES = 32
_MAX_VALUES = 1 << 26


def _subset(graph: Graph, x: Float) -> Float:
    """Return as many samples as keep the largest activation tensor within memory, at most `MAX_SAMPLES`."""
    largest = max(int(np.prod(graph.shape(node.output[0]))) for node in graph.nodes)
    return np.ascontiguousarray(x[: max(1, min(MAX_SAMPLES, _MAX_VALUES // largest))], np.float32)


def _relative_error(approximate: Float, exact: Float, power: float) -> float:
    error = float(np.square(approximate - exact).sum(dtype=np.float64))
    return error / power if power > 0 else 0.0


def layer_distortion(
    model: HasGraph, network: Network, calibration: Calibration, x: Float
) -> dict[str, dict[tuple[int, int], float]]:
    """Measure each layer's output error when only its weights and its input are quantized.

    Parameters
    ----------
    model : FloatModel
        Canonical float ONNX in `model.onnx`.
    network : Network
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        The first 32 samples are used.

    Returns
    -------
    dict of str to dict of (int, int) to float
        Layer name -> (weight bits, input activation bits) -> squared error over the squared float output, before
        the activation function. Every pair is there, whether or not the layer's group may take it.
    """
    if len(x) == 0:
        raise DataError("layer distortion needs at least one sample")
    graph = Graph(model.onnx)
    known = {layer.name for layer in network.layers}
    widths = {layer.name: {*ACTIVATION_BITS, network.groups[layer.input_group].bits} for layer in network.layers}
    parameters = {bits: activation_parameters(calibration, bits) for bits in set[int]().union(*widths.values())}
    run = NodeRunner(next(item.version for item in graph.model.opset_import if item.domain in ("", "ai.onnx")))
    result: dict[str, dict[tuple[int, int], float]] = {}
    for node, inputs, output in float_walk(graph, _subset(graph, x), run):
        if node.name not in known:
            continue
        power = float(np.square(output).sum(dtype=np.float64))
        result[node.name] = {}
        if rule(node).nearest:
            for w_bits in WEIGHT_BITS:
                rounded = quantize_weights(layer_weights(graph, node), w_bits).dequantized()
                operands = rounded_operands(graph, node, rounded, inputs[0])
                error = _relative_error(run(node, operands), output, power)
                result[node.name] |= {(w_bits, a_bits): error for a_bits in widths[node.name]}
            continue
        weights = {bits: _dequantized(graph, node, bits) for bits in WEIGHT_BITS}
        bias = [float_bias(graph, node)] if len(node.input) > 2 and node.input[2] else []
        for a_bits in sorted(widths[node.name]):
            quantized = fake_quantize(inputs[0], parameters[a_bits][node.input[0]])
            for w_bits in WEIGHT_BITS:
                approximate = run(node, [quantized, weights[w_bits], *bias])
                result[node.name][w_bits, a_bits] = _relative_error(approximate, output, power)
    return result


def _dequantized(graph: Graph, node: onnx.NodeProto, bits: int) -> Float:
    return quantize_weights(graph.constants[node.input[1]].astype(np.float32), bits).dequantized()
