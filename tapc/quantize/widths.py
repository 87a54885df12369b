"""What 8 bits of an activation cost by themselves: a float network with the tensors of one group quantized."""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tapc.graph.network import Network
from tapc.quantize.activations import ActivationParameters, activation_parameters
from tapc.quantize.calibration import Calibration, HasGraph
from tapc.quantize.runtime import Float, evaluate

SAMPLES = 64


def decibels_alone(
    model: HasGraph, network: Network, calibration: Calibration, x: Float, groups: Iterable[int]
) -> dict[int, float]:
    """Return what the outputs keep when one group of activations alone has 8 bits: signal over error, in decibels.

    Parameters
    ----------
    model : FloatModel
    network : Network
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        The first 64 samples are used; the signal is what varies among them.
    groups : iterable of int
        Which are asked for.
    """
    x = np.ascontiguousarray(x[:SAMPLES], np.float32)
    parameters = activation_parameters(calibration, 8)
    exact = _rows(model.onnx, x)
    varied = exact - exact.mean(axis=0) if len(exact) > 1 else exact
    signal = float(np.square(varied).sum()) or float(np.square(exact).sum())
    found = {}
    for index in groups:
        own = {name: parameters[name] for name in network.groups[index].tensors if name in parameters}
        error = float(np.square(_rows(_quantized(model.onnx, own), x) - exact).sum())
        found[index] = 10 * float(np.log10(signal / error)) if error > 0 and signal > 0 else float("inf")
    return found


def _rows(model: onnx.ModelProto, x: Float) -> np.ndarray:
    return evaluate(model, x, optimized=False).reshape(len(x), -1).astype(np.float64)


def _quantized(model: onnx.ModelProto, parameters: dict[str, ActivationParameters]) -> onnx.ModelProto:
    """Return a float network in which these tensors have codes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, nodes = copy.graph, []
    inputs, outputs = ({value.name for value in values} for values in (graph.input, graph.output))

    def pair(source: str, result: str, name: str, own: ActivationParameters) -> list[onnx.NodeProto]:
        scale, zero, codes = (f"{name}.{part}" for part in ("alone_scale", "alone_zero", "alone_codes"))
        graph.initializer.append(numpy_helper.from_array(np.float32(own.scale), scale))
        graph.initializer.append(numpy_helper.from_array(np.array(own.zero_point, np.int8), zero))
        return [
            helper.make_node("QuantizeLinear", [source, scale, zero], [codes]),
            helper.make_node("DequantizeLinear", [codes, scale, zero], [result]),
        ]

    renamed = {name: f"{name}.alone_read" for name in parameters if name in inputs and name not in outputs}
    for name, result in renamed.items():
        nodes += pair(name, result, name, parameters[name])
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        nodes.append(node)
        name = node.output[0]
        if name in parameters:
            node.output[0] = f"{name}.alone_float"
            nodes += pair(node.output[0], name, name, parameters[name])
    held = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    del graph.value_info[:]
    graph.node.extend(held)
    return copy
