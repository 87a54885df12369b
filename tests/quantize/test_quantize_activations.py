"""Activation scales: the integers against onnxruntime, the search against brute force."""

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tapc.graph.analysis import Point
from tapc.quantize import ActivationParameters, TensorStatistics, dequantize_array, fake_quantize, quantize_array
from tapc.quantize.activations import _errors, tensor_parameters
from tapc.quantize.runtime import session

Float = NDArray[np.float32]


def statistics(values: Float, op: str = "Conv", fixed: tuple[float, float] | None = None) -> TensorStatistics:
    flat = np.sort(values.astype(np.float32).reshape(-1))
    return TensorStatistics(Point("t", op, fixed=fixed), float(flat[0]), float(flat[-1]), flat)


def ort_quantize(values: Float, parameters: ActivationParameters) -> tuple[NDArray[np.int32], Float]:
    kind = TensorProto.INT8 if parameters.bits == 8 else TensorProto.UINT4
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Cast", ["q"], ["i"], to=TensorProto.INT32),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [parameters.scale]),
        helper.make_tensor("z", kind, [], [parameters.zero_point]),
    ]
    graph = helper.make_graph(
        nodes,
        "q",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [
            helper.make_tensor_value_info("i", TensorProto.INT32, [None]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    codes, restored = session(model, optimized=False).run(None, {"x": values})
    return codes, restored


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([4, 8]), st.floats(2**-13, 50, width=32), st.data())
def test_quantize_and_dequantize_equal_onnxruntime(bits: int, scale: float, data: st.DataObject) -> None:
    low, high = (-128, 127) if bits == 8 else (0, 15)
    parameters = ActivationParameters(bits, scale, data.draw(st.integers(low, high)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    # Ties (half steps), values far outside, and ordinary ones.
    values = np.concatenate(
        [
            (np.arange(-300, 300) + 0.5) * np.float32(scale),
            random.normal(0, 40 * scale, 400),
            [0.0, -0.0, 1e30, -1e30],
        ]
    ).astype(np.float32)
    codes, restored = ort_quantize(values, parameters)
    assert np.array_equal(quantize_array(values, parameters), codes)
    assert np.array_equal(dequantize_array(codes, parameters), restored)
    assert np.array_equal(fake_quantize(values, parameters), restored)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([4, 8]))
def test_candidate_errors_equal_brute_force(seed: int, bits: int) -> None:
    random = np.random.default_rng(seed)
    values = np.sort(random.normal(random.uniform(-1, 1), 1, 500).astype(np.float32))
    low, high = (-128, 127) if bits == 8 else (0, 15)
    scales = random.uniform(0.005, 0.5, 6).astype(np.float32).astype(np.float64)
    zero_points = random.integers(low, high + 1, 6).astype(np.float64)
    for scale, zero_point, error in zip(scales, zero_points, _errors(values, scales, zero_points, bits), strict=True):
        restored = fake_quantize(values, ActivationParameters(bits, float(scale), int(zero_point)))
        assert error == pytest.approx(float(np.square(restored.astype(np.float64) - values).sum()), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("darkest", [0, 9])
def test_images_in_0_1_are_lossless(darkest: int) -> None:
    pixels = np.random.default_rng(0).integers(darkest, 256, 20_000)
    for values in (pixels.astype(np.float32) / np.float32(255), (pixels * (1 / 255)).astype(np.float32)):
        parameters = tensor_parameters(statistics(values, "Input"), 8)
        assert parameters == ActivationParameters(8, float(np.float32(1 / 255)), -128)
        assert np.array_equal(quantize_array(values, parameters), pixels - 128)


def test_images_in_0_1_find_their_scale_by_search_too() -> None:
    """The same scale without the shortcut for inputs: 256 levels have no error at the full range."""
    values = np.random.default_rng(0).integers(0, 256, 20_000).astype(np.float32) / np.float32(255)
    assert tensor_parameters(statistics(values), 8) == ActivationParameters(8, float(np.float32(1 / 255)), -128)


def test_sensor_words_keep_their_own_scale_and_zero_point() -> None:
    """Even where the data do not reach the ends of the codes."""
    words = np.random.default_rng(0).integers(-110, 90, 5000)
    values = ((words - 83) * 0.5847029).astype(np.float32)
    parameters = tensor_parameters(statistics(values, "Input"), 8)
    assert parameters.scale == pytest.approx(0.5847029, rel=1e-6)
    assert len(np.unique(quantize_array(values, parameters))) == len(np.unique(words))


@settings(max_examples=50, deadline=None)
@example(247, 4, "cauchy")
@given(st.integers(0, 10_000), st.sampled_from([4, 8]), st.sampled_from(["normal", "relu", "cauchy", "negative"]))
def test_search_never_loses_to_the_full_range(seed: int, bits: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    values = (random.standard_cauchy(800) if kind == "cauchy" else random.normal(0.3, 2, 800)).astype(np.float32)
    if kind == "relu":
        values = np.maximum(values, 0)
    if kind == "negative":
        values = -np.abs(values) - 1
    parameters = tensor_parameters(statistics(values), bits)
    codes = (1 << bits) - 1
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = np.float32((high - low) / codes)
    full = ActivationParameters(bits, float(scale), int(np.rint(-low / scale)) - (128 if bits == 8 else 0))

    def error(chosen: ActivationParameters) -> float:
        return float(np.square(fake_quantize(values, chosen).astype(np.float64) - values).sum())

    assert error(parameters) <= error(full) * (1 + 1e-4) + 1e-9
    assert parameters.low <= parameters.zero_point <= parameters.high
    assert fake_quantize(np.zeros(1, np.float32), parameters)[0] == 0
    if kind == "relu":
        assert parameters.zero_point == parameters.low


def test_outliers_are_clipped_at_4_bits() -> None:
    values = np.append(np.abs(np.random.default_rng(0).normal(0, 1, 50_000)), 60.0).astype(np.float32)
    assert tensor_parameters(statistics(values), 4).scale < 60 / 15 / 4


def test_fixed_ranges_and_dead_tensors() -> None:
    values = np.random.default_rng(0).uniform(0, 0.4, 100).astype(np.float32)
    assert tensor_parameters(statistics(values, fixed=(0.0, 1.0)), 8) == ActivationParameters(8, 1 / 256, -128)
    assert tensor_parameters(statistics(values, fixed=(0.0, 1.0)), 4) == ActivationParameters(4, 1 / 16, 0)
    assert tensor_parameters(statistics(values, fixed=(-1.0, 1.0)), 8) == ActivationParameters(8, 1 / 128, 0)
    dead = tensor_parameters(statistics(np.zeros(100, np.float32)), 8)
    assert dead.scale > 0
    assert np.array_equal(fake_quantize(np.zeros(3, np.float32), dead), np.zeros(3))
