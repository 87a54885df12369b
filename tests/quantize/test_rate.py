"""Rounding that counts coded bits: rates against scipy and a real coder, errors against exact products."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from scipy import stats

from graph_builder import residual
from tapc.graph.analysis import analyse
from tapc.graph.network import Layer
from tapc.quantize import calibrate, quantize
from tapc.quantize.alone import measured_losses
from tapc.quantize.gptq import Gptq
from tapc.quantize.model import uniform_bits
from tapc.quantize.problem import LayerProblem
from tapc.quantize.rate import Rated, entropy
from tapc.quantize.rounding import Given
from tapc.quantize.together import rounded_quickly
from tapc.quantize.weights import QuantizedWeights, code_range


def problem(seed: int, bits: int, outputs: int = 24, length: int = 40, **changes: Any) -> LayerProblem:
    """A dense layer whose outputs have weights of very different size, as trained ones have."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(0, 1, size=(outputs, 1)))
    weights = (rng.laplace(size=(outputs, length)) * sizes).astype(np.float32)
    inputs = (rng.normal(size=(400, length)) @ rng.normal(size=(length, length))).astype(np.float32)
    zeros = np.zeros(outputs)
    layer = Layer("fc", "linear", 0, 1, weights.size, weights.size, 1)
    return replace(LayerProblem(layer, bits, weights, zeros, zeros, inputs, inputs, None), **changes)


def squared(task: LayerProblem, found: QuantizedWeights) -> float:
    """Mean squared error of the outputs around their means, computed with the samples themselves."""
    difference = task.inputs.astype(np.float64) @ (found.dequantized().astype(np.float64) - task.weights).T
    return float(difference.var(axis=0).sum())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(1, 2000))
def test_the_entropy_is_that_of_the_codes_shares(seed: int, bits: int, count: int) -> None:
    low, high = code_range(bits)
    codes = np.random.default_rng(seed).integers(low, high + 1, 64 * count).astype(np.int8)
    exact = stats.entropy(np.bincount(codes.astype(np.int64) - low), base=2)
    # Codes that were not seen count, too: for less than one in a hundred of many.
    assert exact - 1e-9 <= entropy(codes, bits) <= exact + (high - low + 1) / len(codes) + 1e-9


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_about_the_same_error_takes_fewer_bits(bits: int) -> None:
    rates, errors = np.zeros(2), np.zeros(2)
    for seed in range(3):
        task = problem(seed, bits)
        for index, method in enumerate((Gptq(), Rated())):
            found = method.round(task)
            low, high = code_range(bits)
            assert found.values.min() >= low
            assert found.values.max() <= high
            rates[index] += entropy(found.values, bits)
            errors[index] += squared(task, found)
    saved = (rates[0] - rates[1]) / 3
    # A bit is worth four times the error: what was saved must be worth more than what was lost.
    assert saved > 0.05
    assert 4**saved > errors[1] / errors[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 4, 6, 8]), st.floats(0.6, 1.0))
def test_a_wanted_rate_is_met(seed: int, bits: int, share: float) -> None:
    task = problem(seed, bits)
    wanted = share * entropy(Rated().round(task).values, bits)
    found = entropy(Rated().round(replace(task, rate=wanted)).values, bits)
    assert found == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("still", [slice(0, 20), slice(None)])
def test_inputs_that_never_move_are_rounded_at_the_rate_too(still: slice) -> None:
    task = problem(7, 8)
    inputs = task.inputs.copy()
    inputs[:, still] = 3
    task = replace(task, inputs=inputs, exact=inputs)
    assert entropy(Rated().round(replace(task, rate=4.0)).values, 8) == pytest.approx(4.0, rel=0.05)


def test_a_layer_that_nothing_codes_keeps_the_codes_of_gptq() -> None:
    task = problem(6, 4)
    found, plain = Rated().round(replace(task, rate=4.0)), Gptq().round(task)
    assert np.array_equal(found.values, plain.values)
    assert np.array_equal(found.scales, plain.scales)


def test_a_lower_rate_costs_error() -> None:
    task = problem(5, 4)
    plain = Rated().round(task)
    rate = entropy(plain.values, 4)
    errors = [squared(task, Rated().round(replace(task, rate=share * rate))) for share in (0.5, 0.75, 1.0)]
    assert errors[0] > errors[1] > errors[2]


def test_outputs_that_matter_less_get_coarser_steps() -> None:
    task = problem(1, 6)
    importance = np.where(np.arange(24) < 12, 1.0, 1e-2)
    found = Rated().round(replace(task, coupling=np.diag(importance)))
    plain = Rated().round(task)
    ratio = found.scales / plain.scales
    assert np.median(ratio[12:]) > 2 * np.median(ratio[:12])


def test_outputs_and_inputs_without_anything_are_left_alone() -> None:
    task = problem(2, 4)
    weights, inputs = task.weights.copy(), task.inputs.copy()
    weights[3], inputs[:, 5], inputs[:, 7] = 0, 0, 4
    found = Rated().round(replace(task, weights=weights, inputs=inputs, exact=inputs))
    assert not found.values[3].any()
    assert np.isfinite(found.scales).all()
    assert (found.scales > 0).all()
    empty = Rated().round(replace(task, weights=np.zeros_like(weights)))
    assert not empty.values.any()


def test_depthwise_layers_are_rounded_group_by_group() -> None:
    rng = np.random.default_rng(4)
    weights = rng.laplace(size=(12, 1, 3, 3)).astype(np.float32)
    inputs = rng.normal(size=(20, 12, 8, 8)).astype(np.float32)
    inputs[:, 2] = 0
    zeros = np.zeros(12)
    layer = Layer("dw", "depthwise", 0, 1, 108, 108 * 36, 36)
    task = LayerProblem(layer, 4, weights, zeros, zeros, inputs, inputs, None, groups=12)
    found = Rated().round(task)
    assert found.values.shape == weights.shape
    assert entropy(found.values, 4) <= entropy(Gptq().round(task).values, 4) + 1e-9


def test_a_network_is_rounded_at_the_rates_that_it_is_given() -> None:
    model = residual()
    network = analyse(model.onnx, "residual")
    x = np.random.default_rng(0).normal(size=(64, 3, 12, 12)).astype(np.float32)
    calibration = calibrate(model, x, seed=0)
    seen: dict[str, dict[int, QuantizedWeights]] = {}
    measured_losses(model, network, x, (4, 8), "rate",
                    lambda name, found: seen.setdefault(name, {}).update({found.bits: found}))  # fmt: skip
    assert {tuple(sorted(found)) for found in seen.values()} == {(4, 8)}
    rates = {name: 0.8 * entropy(found[4].values, 4) for name, found in seen.items()}
    bits = uniform_bits(network, 4, 8)
    got = quantize(model, network, bits, calibration, x=x, rounding="rate", rates=rates)
    for name, layer in got.layers.items():
        # Few weights have few rates.
        assert entropy(layer.weights.values, 4) == pytest.approx(rates[name], rel=0.1)
    wide = rounded_quickly(model, network, uniform_bits(network, 8, 8), calibration, x[:1], Given(seen))
    stored = [numpy_helper.to_array(tensor) for tensor in wide.graph.initializer]
    for found in seen.values():
        assert any(np.array_equal(found[8].values, tensor) for tensor in stored if tensor.dtype == np.int8)
