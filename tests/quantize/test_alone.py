"""Losses of single layers under the rounding that will be used."""

import numpy as np
import pytest

from graph_builder import residual
from tapc.graph.analysis import Graph, analyse
from tapc.graph.network import Bits
from tapc.quantize import calibrate, evaluate, quantize
from tapc.quantize.alone import measured_losses
from tapc.quantize.model import uniform_bits


@pytest.mark.parametrize("rounding", ["nearest", "gptq", "block"])
def test_one_loss_per_layer_and_width_and_more_bits_are_never_worse(rounding: str) -> None:
    model = residual()
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(0).normal(0, 1, (96, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)
    losses = measured_losses(model, network, x, (2, 4, 8), rounding)
    assert set(losses) == {layer.name for layer in network.layers}
    for own in losses.values():
        assert 0 <= own[8] <= own[4] <= own[2]
        assert own[2] > 0


def test_the_loss_is_that_of_the_quantized_network() -> None:
    model = residual()
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(0).normal(0, 1, (128, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)
    losses = measured_losses(model, network, x, (2, 8), "nearest")
    probe = x[-32:]
    exact = evaluate(model.onnx, probe, optimized=True)
    power = np.square(exact - exact.mean(axis=0)).sum()
    calibration = calibrate(model, x[:96], seed=0)
    eight = uniform_bits(network, 8, 8)
    # Behind any other layer, the bias correction of later ones makes up for some of the loss.
    last = network.layers[-1].name
    bits = Bits(eight.weights | {last: 2}, eight.activations)
    quantized = quantize(model, network, bits, calibration, x=x[:96])
    error = np.square(evaluate(quantized.onnx, probe, optimized=False) - exact).sum() / power
    assert losses[last][2] == pytest.approx(error, rel=0.1)
