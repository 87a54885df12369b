"""The loss of a whole network at given bits, on samples that its rounding did not see."""

import numpy as np
import onnx
import pytest

from graph_builder import residual
from tapc.graph.analysis import Graph, analyse
from tapc.graph.network import Bits
from tapc.quantize import calibrate, evaluate, quantize
from tapc.quantize.model import uniform_bits
from tapc.quantize.together import joint_loss


def test_it_is_the_error_of_the_quantized_network_on_samples_kept_back() -> None:
    model = residual()
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(0).normal(0, 1, (128, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)
    calibration = calibrate(model, x, seed=0)
    probe = x[-32:]
    exact = evaluate(model.onnx, probe, optimized=True)
    power = np.square(exact - exact.mean(axis=0)).sum()
    four = uniform_bits(network, 4, 8)
    low = uniform_bits(network, 2, 4)
    for bits in (four, low, Bits(four.weights | {network.layers[0].name: 2}, four.activations)):
        quantized = quantize(model, network, bits, calibration, x=x[:96])
        error = np.square(evaluate(quantized.onnx, probe, optimized=False) - exact).sum() / power
        assert joint_loss(model, network, bits, calibration, x, "nearest") == pytest.approx(error, rel=0.05)


def test_rounding_that_compensates_loses_less() -> None:
    model = residual()
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(0).normal(0, 1, (128, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)
    calibration = calibrate(model, x, seed=0)
    bits = uniform_bits(network, 4, 8)
    nearest, gptq = (joint_loss(model, network, bits, calibration, x, rounding) for rounding in ("nearest", "gptq"))
    assert gptq < 0.8 * nearest
    assert joint_loss(model, network, bits, calibration, x, "block") == gptq


def test_errors_are_seen_before_a_softmax() -> None:
    model = residual()
    graph = model.onnx.graph
    scores = graph.output[0].name
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(2).normal(0, 1, (64, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)
    plain = joint_loss(model, network, uniform_bits(network, 2, 8), calibrate(model, x, seed=0), x, "nearest")
    shape = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    graph.node.append(onnx.helper.make_node("Softmax", [scores], ["shares"], name="softmax", axis=-1))
    graph.value_info.append(graph.output[0])
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("shares", onnx.TensorProto.FLOAT, shape))
    network = analyse(model.onnx, "net")
    behind = joint_loss(model, network, uniform_bits(network, 2, 8), calibrate(model, x, seed=0), x, "nearest")
    assert behind == pytest.approx(plain, rel=0.05)
