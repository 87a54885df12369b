"""Networks are equalized for the bits on offer, and once more for those that were chosen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from graph_builder import Builder, Model
from tapc.flow.balancing import balance, suited
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.quantize import QuantizedModel, calibrate, evaluate, quantize, uniform_bits
from tapc.quantize.runtime import Float


def network(spread: float) -> Model:
    """Return two 1x1 convolutions whose channels between differ by up to exp(4 * spread), their readers inversely."""
    b = Builder((1, 4, 6, 6))
    hidden = b.node("Relu", [b.conv("x", "one", 4, 16, kernel=1)], "relu")
    model = b.build(b.conv(hidden, "two", 16, 8, kernel=1))
    factor = np.exp(np.linspace(-2, 2, 16) * spread)
    for tensor in model.onnx.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.shape[0] == 16:
            value = value * factor.reshape(-1, *[1] * (value.ndim - 1))
        elif value.ndim > 1:
            value = value / factor.reshape(1, -1, 1, 1)
        tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float32), tensor.name))
    return model


def loaded(folder: Path, spread: float) -> FloatModel:
    onnx.save(network(spread).onnx, folder / "net.onnx")
    return load(str(folder / "net.onnx"))


def draw(seed: int) -> Float:
    return np.random.default_rng(seed).normal(0, 1, (128, 4, 6, 6)).astype(np.float32)


def integers(model: FloatModel, bits: int) -> QuantizedModel:
    x, found = draw(0), analyse(model.onnx, "net")
    chosen = uniform_bits(found, bits, 8)
    suitable, calibration = suited(model, calibrate(model, x, seed=0), x, chosen, 0)
    return quantize(suitable, found, chosen, calibration, x=x)


def test_a_network_without_free_channels_is_left_alone(tmp_path: Path) -> None:
    b = Builder((1, 4, 6, 6))
    onnx.save(b.build(b.conv("x", "one", 4, 16, kernel=1)).onnx, tmp_path / "net.onnx")
    model = load(str(tmp_path / "net.onnx"))
    assert balance(model, draw(0)) is model
    calibration = calibrate(model, draw(0), seed=0)
    bits = uniform_bits(analyse(model.onnx, "net"), 4, 8)
    assert suited(model, calibration, draw(0), bits, 0) == (model, calibration)


@pytest.mark.parametrize("bits", [4, 8])
def test_unequal_ranges_cost_less_once_equalized(tmp_path: Path, bits: int) -> None:
    model = loaded(tmp_path, 1.0)
    equalized = balance(model, draw(0))
    assert equalized.equalized_for == 4
    exact = evaluate(model.onnx, draw(1), optimized=True)
    assert np.allclose(evaluate(equalized.onnx, draw(1), optimized=True), exact, rtol=1e-3, atol=1e-3)

    def error(used: FloatModel) -> float:
        return float(np.square(evaluate(integers(used, bits).onnx, draw(1), optimized=True) - exact).mean())

    assert error(equalized) < 0.6 * error(replace(model, equalized_for=None))


def test_what_is_done_depends_on_the_bits(tmp_path: Path) -> None:
    equalized = balance(loaded(tmp_path, 1.0), draw(0))
    narrow, wide = (integers(equalized, bits).onnx for bits in (2, 8))
    scales = [
        {t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer if t.name == "relu.out_scale"}
        for m in (narrow, wide)
    ]
    assert scales[0] != scales[1]
