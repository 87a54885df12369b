"""What the network loses when one layer alone is rounded, measured with the rounding method that will be used."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from tapc.graph.analysis import Graph
from tapc.graph.layers import layer_weights, with_weights
from tapc.graph.network import Network
from tapc.graph.rules import rule
from tapc.quantize.calibration import HasGraph
from tapc.quantize.losses import OutputLoss
from tapc.quantize.problem import Doubles, LayerProblem
from tapc.quantize.rounding import quick_method
from tapc.quantize.runtime import Float, NodeRunner, evaluate
from tapc.quantize.sensitivity import without_softmax
from tapc.quantize.walk import float_bias, float_walk, geometry
from tapc.quantize.weights import QuantizedWeights, quantize_weights

_PROBE_MACS = 10**10
_PROBE = (16, 128)
_FIT = 256
_FIT_BYTES = 256 << 20

Losses = dict[str, dict[int, float]]


def measured_losses(
    model: HasGraph,
    network: Network,
    x: Float,
    wbits: Sequence[int],
    rounding: str,
    seen: Callable[[str, QuantizedWeights], None] | None = None,
    errors: Callable[[str, int, Doubles], None] | None = None,
) -> Losses:
    """Measure the squared error of the outputs, each over its variance, for each layer and weight width alone.

    More bits are never worse: where a measurement says otherwise, the width takes the loss of the next wider one.

    Parameters
    ----------
    model : FloatModel
    network : Network
    x : float32 (N, *input_shape[1:])
        Calibration samples; the last quarter, at most 128, shows the error, the others serve the rounding.
    wbits : sequence of int
        Weight widths on offer.
    rounding : str
        A rounding method; gptq is taken with fewer refinements, and in place of the learned ones; rate, too.
    seen : callable, optional
        Told each layer's name and what its weights were rounded to.
    errors : callable, optional
        Told each layer's name, width, and the mean squared error of every output channel, less that of its mean; of
        tables nothing.

    Returns
    -------
    dict of str to dict of int to float
        Layer -> weight bits -> loss.
    """
    graph = Graph(model.onnx)
    logits = without_softmax(model.onnx)
    fit, probe = kept_back(graph, network, x)
    error = OutputLoss(Graph(logits).output_ports, evaluate(logits, probe, optimized=True))
    method = quick_method(rounding)
    layers = {layer.name: layer for layer in network.layers}
    opset = next(item.version for item in model.onnx.opset_import if item.domain in ("", "ai.onnx"))
    run = NodeRunner(opset)
    result: Losses = {}
    for node, inputs, output in float_walk(graph, fit, run):
        if rule(node).nearest:
            result[node.name] = _nearest_losses(graph, logits, node, probe, wbits, error, seen)
        if not rule(node).weighted:
            continue
        weights = graph.constants[node.input[1]].astype(np.float32)
        bias = float_bias(graph, node)
        none = np.zeros(len(weights))
        losses: dict[int, float] = {}
        problem = LayerProblem(
            layers[node.name],
            max(wbits),
            weights,
            none,
            none,
            inputs[0],
            inputs[0],
            None,
            *geometry(node),
            target=output,
        )
        for bits in sorted(wbits, reverse=True):
            problem = problem.at(bits)
            integers = method.round(problem)
            if seen is not None:
                seen(node.name, integers)
            rounded = integers.dequantized()
            operands = [inputs[0], rounded, *([bias] if len(node.input) > 2 and node.input[2] else [])]
            axes = tuple(axis for axis in range(output.ndim) if axis != 1)
            missed = output - run(node, operands)
            shift = missed.mean(axis=axes, dtype=np.float64).astype(np.float32)
            if errors is not None:
                errors(node.name, bits, missed.var(axis=axes, dtype=np.float64))
            changed = _with_layer(logits, node, rounded, bias + shift)
            loss = error(evaluate(changed, probe, optimized=True))
            losses[bits] = max(loss, *losses.values()) if losses else loss
        result[node.name] = losses
    return result


def kept_back(graph: Graph, network: Network, x: Float) -> tuple[Float, Float]:
    """Return the samples that serve the rounding, and those that show its error."""
    macs = sum(layer.macs for layer in network.layers)
    probes = int(np.clip(_PROBE_MACS // max(1, macs), *_PROBE))
    probes = max(1, min(probes, len(x) // 4))
    largest = max(int(np.prod(graph.shape(str(node.output[0])))) for node in graph.nodes)
    fits = max(1, min(_FIT, len(x) - probes, _FIT_BYTES // (4 * largest)))
    return np.ascontiguousarray(x[:fits]), np.ascontiguousarray(x[-probes:])


def _nearest_losses(
    graph: Graph,
    logits: onnx.ModelProto,
    node: onnx.NodeProto,
    probe: Float,
    wbits: Sequence[int],
    error: OutputLoss,
    seen: Callable[[str, QuantizedWeights], None] | None,
) -> dict[int, float]:
    losses: dict[int, float] = {}
    for bits in sorted(wbits, reverse=True):
        integers = quantize_weights(layer_weights(graph, node), bits)
        if seen is not None:
            seen(node.name, integers)
        rounded = integers.dequantized()
        loss = error(evaluate(with_weights(logits, node, rounded), probe, optimized=True))
        losses[bits] = max(loss, *losses.values()) if losses else loss
    return losses


def _with_layer(model: onnx.ModelProto, node: onnx.NodeProto, weights: Float, bias: Float) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    values: Mapping[str, Float] = dict(zip(list(node.input)[1:], (weights, bias), strict=False))
    for tensor in copy.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name))
    return copy
