"""What the network loses when all layers are rounded, measured where it matters which of several bits are better."""

import onnx

from tapc.graph.analysis import Graph
from tapc.graph.network import Bits, Network
from tapc.quantize.activations import activation_parameters
from tapc.quantize.alone import kept_back
from tapc.quantize.calibration import Calibration, HasGraph
from tapc.quantize.export import export_qdq
from tapc.quantize.losses import OutputLoss
from tapc.quantize.rounding import Rounding, quick_method
from tapc.quantize.runtime import Float, evaluate
from tapc.quantize.sensitivity import without_softmax
from tapc.quantize.walk import quantize_layers


def joint_loss(
    model: HasGraph, network: Network, bits: Bits, calibration: Calibration, x: Float, rounding: str
) -> float:
    """Measure the squared error of the outputs, each over its variance, with all layers and activations quantized.

    Parameters
    ----------
    model : FloatModel
    network : Network
    bits : Bits
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        Calibration samples, divided as by `measured_losses`: samples that the rounding did not see show the error.
    rounding : str
        A rounding method, for which the same stand as there.
    """
    graph = Graph(model.onnx)
    fit, probe = kept_back(graph, network, x)
    quantized = rounded_quickly(model, network, bits, calibration, fit, quick_method(rounding))
    logits = without_softmax(model.onnx)
    error = OutputLoss(Graph(logits).output_ports, evaluate(logits, probe, optimized=True))
    return error(evaluate(up_to(quantized, logits), probe, optimized=False))


def rounded_quickly(
    model: HasGraph, network: Network, bits: Bits, calibration: Calibration, x: Float, rounding: Rounding
) -> onnx.ModelProto:
    """Return the quantized network (QDQ), by a method that sees one layer at a time.

    Parameters
    ----------
    model : FloatModel
    network : Network
    bits : Bits
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        Samples that the rounding sees.
    rounding : Rounding
    """
    graph = Graph(model.onnx)
    width = {tensor: bits.activations[i] for i, group in enumerate(network.groups) for tensor in group.tensors}
    parameters = activation_parameters(calibration, width)
    owners = {name: statistics.point.like or name for name, statistics in calibration.tensors.items()}
    layers = {layer.name: layer for layer in network.layers}
    walked = quantize_layers(graph, layers, bits, parameters, x, rounding=rounding, bias_correction=True)
    return export_qdq(graph, walked.layers, walked.parameters, owners)


def up_to(quantized: onnx.ModelProto, logits: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantized network with the outputs of another, whose tensors it has by the same names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(quantized)
    del copy.graph.output[:]
    copy.graph.output.extend(logits.graph.output)
    return copy
