"""Equalized networks compute what they computed before, with channels whose ranges are alike."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from graph_builder import Builder, Model, everything, residual

from tapc.network_analysis import Graph
from tapc.quantize import evaluate
from tapc.quantize.equalize import channel_ranges, equalize
from tapc.quantize.runtime import Float


def samples(model: Model, count: int = 64, seed: int = 0) -> Float:
    return np.random.default_rng(seed).normal(0, 1, (count, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)


def unequal(model: onnx.ModelProto, layer: str, factor: Float) -> onnx.ModelProto:
    """Multiply a layer's output channels, so that they differ."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    node = next(node for node in copy.graph.node if node.name == layer)
    for tensor in copy.graph.initializer:
        if tensor.name in list(node.input)[1:]:
            value = onnx.numpy_helper.to_array(tensor)
            scaled = value * factor.reshape(-1, *[1] * (value.ndim - 1))
            tensor.CopyFrom(onnx.numpy_helper.from_array(scaled.astype(np.float32), tensor.name))
    return copy


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("make", [residual, everything])
def test_the_function_is_the_same(make: type, bits: int) -> None:
    model = make()
    x = samples(model)
    result = equalize(model.onnx, x, bits)
    before, after = (evaluate(m, x, optimized=False) for m in (model.onnx, result.onnx))
    assert np.allclose(before, after, rtol=1e-3, atol=1e-4 * float(np.abs(before).max()))
    onnx.checker.check_model(result.onnx, full_check=True)


def test_depthwise_readers_get_equal_ranges() -> None:
    b = Builder((1, 3, 8, 8))
    hidden = b.node("Relu", [b.conv("x", "one", 3, 6)], "relu")
    model = b.build(b.conv(hidden, "two", 6, 6, groups=6))
    given = replace(model, onnx=unequal(model.onnx, "one", np.logspace(-1, 0.5, 6).astype(np.float32)))
    x = samples(given)
    result = equalize(given.onnx, x)
    peaks = [channel_ranges(m, [hidden], x)[hidden].peaks for m in (given.onnx, result.onnx)]
    assert peaks[0].max() / peaks[0].min() > 5
    assert peaks[1].max() / peaks[1].min() < 1.01
    assert peaks[1].max() == pytest.approx(peaks[0].max(), rel=1e-5)
    assert np.allclose(result.factors[hidden], peaks[1] / peaks[0], rtol=1e-4)


def test_a_bound_is_never_crossed() -> None:
    """Channels that reach the bound of a Clip keep their factor 1; others stay below it."""
    b = Builder((1, 3, 8, 8))
    hidden = b.clip(b.conv("x", "one", 3, 6), "clip", 0, 2)
    model = b.build(b.conv(hidden, "two", 6, 6, groups=6))
    given = replace(model, onnx=unequal(model.onnx, "one", np.array([3, 3, 0.1, 0.2, 0.3, 0.4], np.float32)))
    x = samples(given)
    result = equalize(given.onnx, x)
    before, after = (channel_ranges(m, [hidden], x)[hidden].peaks for m in (given.onnx, result.onnx))
    assert np.allclose(result.factors[hidden][before >= 2], 1)
    assert np.all(after[before < 2] < 2)
    assert np.all(after[before < 1] > before[before < 1])
    assert np.allclose(evaluate(given.onnx, x, optimized=False), evaluate(result.onnx, x, optimized=False), atol=1e-4)
