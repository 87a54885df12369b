"""Equalized networks compute what they computed before, with channels whose ranges are alike."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from graph_builder import Builder, Model, everything, residual
from tapc.graph.analysis import Graph
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


def bounded(high: float, reads: float = 1.0) -> Model:
    """Return a network whose second Clip is never reached where its layer's weights are small."""
    b = Builder((1, 3, 8, 8))
    first = b.clip(b.conv("x", "zero", 3, 6), "first", 0, 1)
    hidden = b.clip(b.conv(first, "one", 6, 6), "clip", -high, high)
    model = b.build(b.conv(hidden, "two", 6, 6, groups=6))
    return replace(model, onnx=unequal(model.onnx, "one", reads * np.array([3, 3, 0.02, 0.03, 0.04, 0.2], np.float32)))


def test_a_bound_that_inputs_can_reach_never_moves() -> None:
    """The samples are far from the bound, which other inputs reach."""
    given = bounded(2.0)
    quiet = 1e-3 * samples(given)
    result = equalize(given.onnx, quiet)
    factor = result.factors["clip_out"]
    assert np.all(factor[:2] == 1)
    assert np.all(factor[2:5] > 1.5)
    loud = 100 * samples(given)
    before, after = (evaluate(m, loud, optimized=False) for m in (given.onnx, result.onnx))
    assert np.allclose(before, after, atol=1e-5 * float(np.abs(before).max()))


def test_no_bound_moves_behind_an_input_without_bounds() -> None:
    b = Builder((1, 3, 8, 8))
    hidden = b.clip(b.conv("x", "one", 3, 6), "clip", 0, 2)
    model = b.build(b.conv(hidden, "two", 6, 6, groups=6))
    assert not equalize(model.onnx, 1e-3 * samples(model)).factors


def test_maps_are_multiplied_with_their_channels() -> None:
    b = Builder((1, 3, 5, 4))
    added = b.constant("map", b.rng.normal(0, 1, (1, 6, 5, 4)).astype(np.float32))
    hidden = b.node("Relu", [b.node("Add", [b.conv("x", "one", 3, 6), added], "add")], "relu")
    model = b.build(b.conv(hidden, "two", 6, 6, groups=6))
    given = replace(model, onnx=unequal(model.onnx, "one", np.logspace(-1, 0.5, 6).astype(np.float32)))
    result = equalize(given.onnx, samples(given))
    assert np.ptp(result.factors[hidden]) > 0.1
    before, after = (evaluate(m, samples(given, seed=1), optimized=False) for m in (given.onnx, result.onnx))
    assert np.allclose(before, after, atol=1e-5 * float(np.abs(before).max()))


@pytest.mark.parametrize("how", ["relu", "add", "dense"])
def test_channels_are_followed_through_flattening(how: str) -> None:
    b = Builder((1, 3, 5, 4))
    flat = b.node("Flatten", [b.conv("x", "one", 3, 6)], "flat", axis=1)
    if how == "add":
        flat = b.node("Add", [flat, b.node("Flatten", [b.conv("x", "side", 3, 6)], "flat2", axis=1)], "add")
    elif how == "dense":  # its outputs are tied to the channels of a map
        side = b.node("Flatten", [b.conv("x", "side", 3, 2)], "flat2", axis=1)
        flat = b.node("Add", [flat, b.gemm(side, "dense", 40, 120)], "add")
    hidden = b.node("Relu", [flat], "relu")
    model = b.build(b.gemm(hidden, "two", 120, 4))
    given = replace(model, onnx=unequal(model.onnx, "one", np.logspace(-1, 0.5, 6).astype(np.float32)))
    result = equalize(given.onnx, samples(given), 4)
    assert np.ptp(result.factors[hidden]) > 0.1
    before, after = (evaluate(m, samples(given, seed=1), optimized=False) for m in (given.onnx, result.onnx))
    assert np.allclose(before, after, atol=1e-5 * float(np.abs(before).max()))
