"""The statistics table of a network: see `tapc.proxy.columns` for what each column means."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import worker
from tapc.graph.analysis import Graph, attribute
from tapc.graph.layers import layer_weights, result_of
from tapc.graph.network import Layer, Network
from tapc.graph.rules import rule
from tapc.proxy.builtin.tap import activation_entropy
from tapc.proxy.columns import SAMPLES, Cell, Row, Table
from tapc.quantize.activations import activation_parameters, fake_quantize
from tapc.quantize.calibration import Calibration, HasGraph
from tapc.quantize.influence import Gains, influence
from tapc.quantize.runtime import Float, NodeRunner
from tapc.quantize.surroundings import Powers, surroundings
from tapc.quantize.walk import float_walk
from tapc.quantize.weights import quantize_weights

Doubles = NDArray[np.float64]


def statistics(
    model: HasGraph,
    network: Network,
    calibration: Calibration,
    x: Float,
    distortion: Mapping[str, Mapping[tuple[int, int], float]],
) -> Table:
    """Return the statistics table of a network.

    Parameters
    ----------
    model : FloatModel
        Canonical float ONNX in `model.onnx`.
    network : Network
    calibration : Calibration
        Ranges for the errors of rounded inputs.
    x : float32 (N, *input_shape[1:])
        The first 16 samples are used.
    distortion : mapping
        From `layer_distortion`.

    Returns
    -------
    list of dict
        One row per layer in execution order; every cell finite and within its column's range.
    """
    graph = Graph(model.onnx)
    layers = {layer.name: layer for layer in network.layers}
    run = NodeRunner(next(item.version for item in model.onnx.opset_import if item.domain in ("", "ai.onnx")))
    parameters = {bits: activation_parameters(calibration, bits) for bits in (4, 8)}
    rows: dict[str, tuple[Row, Row, dict[str, Cell]]] = {}
    powers = Powers()
    seen = np.ascontiguousarray(x[:SAMPLES], np.float32)
    nodes = [node for node in graph.nodes if node.name in layers]
    axes = {str(node.output[0]): len(graph.shape(node.output[0])) - 1 if rule(node).nearest else 1 for node in nodes}
    # torch stays where it is: imported here it would take every command seconds to start.
    gained: dict[str, Gains] = worker.call("tapc.quantize.gains:gains", graph, seen, axes)
    for node, inputs, output in float_walk(graph, seen, run):
        powers.see(graph, node, inputs, output, run)
        if node.name not in layers:
            continue
        layer, weights = layers[node.name], layer_weights(graph, node)
        read, source = inputs[0], str(node.input[0])
        reached = gained.get(str(node.output[0]))
        rounded, by_channel = influence(graph, node, layer, (read, output), reached, run)
        if rule(node).nearest:  # tokens are no values: what they choose stands for them; others read their own results
            output = result_of(graph, node, output)
            read, source = output, graph.stored(node)
        row = _architecture(graph, node, layer, network)
        row |= _weights(weights)
        row |= _input(read)
        row |= {
            f"input_error_{bits}": _relative(fake_quantize(read, parameters[bits][source]), read) for bits in (4, 8)
        }
        row |= _output(output)
        row |= {f"output_error_{bits}": float(distortion[layer.name][bits, 8]) for bits in (2, 4, 8)}
        rows[node.name] = row, rounded, _channels(weights, output) | by_channel
    around = surroundings(graph, network.layers, powers)
    return [row | around[name] | rounded | channels for name, (row, rounded, channels) in rows.items()]


def _architecture(graph: Graph, node: onnx.NodeProto, layer: Layer, network: Network) -> Row:
    shape = graph.shape(graph.stored(node) if rule(node).recurrent else node.output[0])
    spatial = len(shape) == 4
    strides = attribute(node, "strides", [1, 1])
    kernel = layer.weight_shape[2:] if len(layer.weight_shape) == 4 else (1, 1)
    groups = int(attribute(node, "group", 1))
    count = len(network.layers)
    inputs = (1, layer.weight_shape[1]) if rule(node).nearest else graph.shape(node.input[0])
    row: Row = {
        "name": layer.name,
        "op": layer.op,
        "index": layer.depth,
        "layers": count,
        "depth": layer.depth / (count - 1) if count > 1 else 0.0,
        "kernel_h": int(kernel[0]),
        "kernel_w": int(kernel[1]),
        "stride": int(strides[0]),
        "groups": groups,
        "in_channels": int(inputs[1]),
        "out_channels": int(layer.weight_shape[0]),
        "parameters": layer.parameters,
        "macs": layer.macs,
        "parameter_share": layer.parameters / sum(other.parameters for other in network.layers),
        "mac_share": layer.macs / (sum(other.macs for other in network.layers) or 1),
        "input_size": int(np.prod(inputs)),
        "output_size": int(np.prod(shape)),
        "output_height": int(shape[2]) if spatial else 1,
        "output_width": int(shape[3]) if spatial else 1,
        "first": int(layer.depth == 0),
        "last": int(layer.depth == count - 1),
        "residual": int(any(graph.rule(n).adds for n in graph.consumers[graph.ending(node)])),
        "relu": int(graph.fused_activation(node) is not None),
    }
    return row


def _weights(weights: Float) -> dict[str, Cell]:
    w = weights.astype(np.float64)
    peaks = np.abs(w).reshape(len(w), -1).max(axis=1)
    typical = float(np.median(peaks))
    return {
        "weight_l1": float(np.abs(w).sum()),
        "weight_l2": float(np.linalg.norm(w)),
        "weight_max": float(peaks.max()),
        "weight_std": float(w.std()),
        "weight_kurtosis": _kurtosis(w),
        "weight_entropy": activation_entropy(weights),
        "weight_range_ratio": float(peaks.max()) / typical if typical > 0 else 1.0,
        **{f"weight_error_{bits}": _relative(quantize_weights(weights, bits).dequantized(), w) for bits in (2, 4, 8)},
    }


def _input(values: Float) -> dict[str, Cell]:
    v = values.astype(np.float64)
    return {
        "input_min": float(v.min()),
        "input_max": float(v.max()),
        "input_mean": float(v.mean()),
        "input_std": float(v.std()),
        "input_entropy": activation_entropy(values),
        "input_sparsity": float(np.mean(v == 0)),
        "input_kurtosis": _kurtosis(v),
    }


def _output(values: Float) -> dict[str, Cell]:
    v = values.astype(np.float64)
    return {
        "output_mean": float(v.mean()),
        "output_std": float(v.std()),
        "output_max": float(np.abs(v).max()),
        "output_entropy": activation_entropy(values),
    }


def _channels(weights: Float, output: Float) -> dict[str, Cell]:
    w = weights.astype(np.float64).reshape(len(weights), -1)
    rounded = quantize_weights(weights, 2).dequantized().astype(np.float64).reshape(w.shape)
    power = np.square(w).sum(axis=1)
    errors = np.square(rounded - w).sum(axis=1) / np.where(power > 0, power, 1.0)
    v = np.moveaxis(output.astype(np.float64), 1, 0).reshape(len(weights), -1)
    columns = {
        "channel_weight_l2": np.sqrt(power),
        "channel_weight_max": np.abs(w).max(axis=1),
        "channel_weight_error_2": errors,
        "channel_output_mean": v.mean(axis=1),
        "channel_output_std": v.std(axis=1),
    }
    return {name: [float(value) for value in values] for name, values in columns.items()}


def _kurtosis(v: Doubles) -> float:
    centred = v - v.mean()
    variance = float(np.square(centred).mean())
    return float(np.square(np.square(centred)).mean()) / variance**2 if variance > 0 else 0.0


def _relative(approximate: NDArray[np.floating], exact: NDArray[np.floating]) -> float:
    power = float(np.square(exact.astype(np.float64)).sum())
    return float(np.square(approximate.astype(np.float64) - exact).sum()) / power if power > 0 else 0.0
