"""Rounding methods that look at a layer's inputs: against brute force, onnxruntime and plain least squares."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graph_builder import residual
from tapc.graph.analysis import Graph, analyse
from tapc.graph.network import Layer
from tapc.quantize import calibrate, evaluate, quantize
from tapc.quantize.codes import descend, gptq, order_of, refitted_scales
from tapc.quantize.gptq import Gptq, compensated
from tapc.quantize.model import uniform_bits
from tapc.quantize.problem import LayerProblem, moments
from tapc.quantize.rounding import rounding_method
from tapc.quantize.runtime import Float, NodeRunner
from tapc.quantize.weights import code_range

Doubles = NDArray[np.float64]


def correlated(rng: np.random.Generator, length: int, rows: int = 500) -> Doubles:
    mixing = rng.normal(size=(length, length))
    return rng.normal(size=(rows, length)) @ mixing


def loss(weights: Doubles, codes: Doubles, scales: Doubles, hessian: Doubles) -> Doubles:
    difference = weights - codes * scales[:, None]
    return np.asarray(np.einsum("oi,ij,oj->o", difference, hessian, difference))


@pytest.mark.parametrize("seed", range(5))
def test_gptq_and_descent_come_near_the_best_codes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = correlated(rng, 5)
    hessian = x.T @ x / len(x)
    weights = rng.normal(size=(6, 5))
    scales = np.full(6, 0.7, np.float32)
    every = np.array(list(itertools.product(range(-2, 2), repeat=5)), np.float64)
    best = np.array(
        [loss(np.tile(w, (len(every), 1)), every, np.full(len(every), 0.7), hessian).min() for w in weights]
    )
    nearest = np.clip(np.rint(weights / 0.7), -2, 1)
    grouped = weights[None], scales[None], 2
    first = gptq(*grouped, order_of(hessian[None]))
    second = descend(first, *grouped, hessian[None], 20)[0]
    first = first[0]
    errors = [loss(weights, codes, scales.astype(np.float64), hessian) for codes in (nearest, first, second)]
    assert errors[1].sum() < errors[0].sum()
    assert np.all(errors[2] <= errors[1] + 1e-9)
    assert np.all(errors[2] >= best - 1e-6)
    assert errors[2].sum() < best.sum() + 0.5 * (errors[0].sum() - best.sum())


def test_descent_ends_where_no_single_code_helps() -> None:
    rng = np.random.default_rng(3)
    x = correlated(rng, 12)
    hessian = x.T @ x / len(x)
    weights, scales = rng.normal(size=(4, 12)), np.full(4, 0.4, np.float32)
    codes = descend(np.zeros((1, 4, 12)), weights[None], scales[None], 4, hessian[None], 100)[0]
    ended = loss(weights, codes, scales.astype(np.float64), hessian)
    low, high = code_range(4)
    for column, step in itertools.product(range(12), (-1, 1)):
        other = codes.copy()
        other[:, column] = np.clip(other[:, column] + step, low, high)
        assert np.all(loss(weights, other, scales.astype(np.float64), hessian) >= ended - 1e-9)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_stay_in_range_and_zero_inputs_do_no_harm(bits: int) -> None:
    rng = np.random.default_rng(0)
    hessian = np.zeros((6, 6))
    hessian[:3, :3] = np.eye(3)
    codes = gptq(rng.normal(size=(1, 3, 6)) * 10, np.full((1, 3), 0.01, np.float32), bits, order_of(hessian[None]))
    low, high = code_range(bits)
    assert codes.min() >= low
    assert codes.max() <= high
    assert np.array_equal(codes, np.rint(codes))


def problem(
    stride: tuple[int, int], groups: int, seed: int = 0, dilation: tuple[int, int] = (1, 1)
) -> tuple[LayerProblem, Float]:
    """A convolution, and what it should give as onnxruntime says."""
    from onnx import helper

    rng = np.random.default_rng(seed)
    exact = rng.normal(size=(9, 4, 6, 5)).astype(np.float32)
    inputs = exact + rng.normal(0, 0.2, exact.shape).astype(np.float32)
    weights = rng.normal(size=(8, 4 // groups, 3, 2)).astype(np.float32)
    pads = (1, 0, 1, 1)
    place = {"strides": list(stride), "pads": list(pads), "dilations": list(dilation)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, **place)
    goal = NodeRunner(21)(node, [exact, weights])
    excess = rng.normal(size=goal.shape).astype(np.float32)
    layer = Layer("l", "conv", weights.shape, 1, 0, 1, 0)
    zeros = np.zeros(8)
    return LayerProblem(
        layer, 4, weights, zeros, zeros, inputs, exact, excess, stride, pads, groups, dilation
    ), goal + excess


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("stride", "groups", "dilation"), [((1, 1), 1, (1, 1)), ((2, 1), 2, (2, 1)), ((1, 2), 4, (1, 3))]
)
def test_moments_are_those_of_the_layers_outputs(
    stride: tuple[int, int], groups: int, dilation: tuple[int, int], known: bool
) -> None:
    """E[(W y - goal)^2] around the means, from the moments and from outputs that onnxruntime computes."""
    from onnx import helper

    given, goal = problem(stride, groups, dilation=dilation)
    place = {"strides": list(stride), "pads": list(given.pads), "dilations": list(dilation)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, **place)
    actual = NodeRunner(21)(node, [given.inputs, given.weights]).astype(np.float64) - goal
    variance = np.moveaxis(actual, 1, 0).reshape(8, -1).var(axis=1)
    flat = given.weights.reshape(groups, 8 // groups, -1).astype(np.float64)
    if known:  # what the layer gives in the float network, its bias included
        given = replace(given, target=goal - np.asarray(given.excess) + np.arange(8, dtype=np.float32)[:, None, None])
    found = given.moments
    assert given.at(2).moments is found
    for group, item in enumerate(found):
        own = slice(group * (8 // groups), (group + 1) * (8 // groups))
        assert item.whole.error(flat[group]) == pytest.approx(variance[own].sum(), rel=1e-5)
        assert item.halves[0].rows + item.halves[1].rows == item.whole.rows


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("value", [0.1, 0.7, 1.4e3])
def test_a_group_whose_inputs_are_always_the_same_is_rounded(bits: int, value: float) -> None:
    """What is left of its moments is rounding, which no method may invert."""
    given, _ = problem((1, 1), 2)
    inputs = given.inputs.copy()
    inputs[:, 0], inputs[:, 1] = value, value / 3
    same = replace(given, bits=bits, inputs=inputs, exact=inputs, excess=None, pads=(0, 0, 0, 0))
    still, moving = (item.whole.inputs for item in moments(same))
    assert not still.any()
    assert moving.any()
    low, high = code_range(bits)
    codes = rounding_method("gptq").round(same).values
    assert codes.min() >= low
    assert codes.max() <= high


def test_compensation_recovers_what_correlated_noise_took_and_ignores_plain_noise() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(3, 8))

    def fit(inputs: Doubles, exact: Doubles) -> Doubles:
        layer = Layer("l", "dense", (3, 8), 24, 0, 1, 0)
        zeros = np.zeros(3)
        w = weights.astype(np.float32)
        found = moments(
            LayerProblem(layer, 4, w, zeros, zeros, inputs.astype(np.float32), exact.astype(np.float32), None)
        )[0]
        return compensated(weights, found)

    exact = rng.normal(size=(400, 8))
    # Every input lost a tenth: the fit gives it back.
    assert np.allclose(fit(0.9 * exact, exact), weights / 0.9, rtol=0.01)
    # Ten samples of noise that nothing predicts: the float weights stay, or nearly.
    few = rng.normal(size=(10, 8))
    change = fit(few + rng.normal(0, 0.1, few.shape), few) - weights
    assert np.linalg.norm(change) < 0.1 * np.linalg.norm(weights)


def test_codes_are_loaded_against_directions_that_few_samples_do_not_show() -> None:
    """On fresh inputs: with few samples of many inputs loading helps, with many samples none is chosen."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(48, 48)) / 7
    weights = rng.normal(size=(16, 48)).astype(np.float32)
    layer, zeros = Layer("l", "dense", weights.shape, 16 * 48, 0, 1, 0), np.zeros(16)
    fresh = rng.normal(size=(4000, 48)) @ mixing

    def error(samples: int, method: Gptq) -> float:
        inputs = (np.random.default_rng(1).normal(size=(samples, 48)) @ mixing).astype(np.float32)
        rounded = method.round(LayerProblem(layer, 2, weights, zeros, zeros, inputs, inputs, None)).dequantized()
        return float(np.square((fresh - fresh.mean(axis=0)) @ (rounded - weights).T.astype(np.float64)).sum())

    assert error(24, Gptq()) < 0.95 * error(24, Gptq(loadings=()))
    assert error(4000, Gptq()) == pytest.approx(error(4000, Gptq(loadings=())), rel=0.02)


def test_refitted_scales_are_the_least_squares_ones() -> None:
    rng = np.random.default_rng(2)
    x, codes = correlated(rng, 6), np.rint(rng.normal(size=(2, 6)) * 2)
    goal = rng.normal(size=(len(x), 2)) + x @ codes.T * 0.3
    x, goal = x - x.mean(axis=0), goal - goal.mean(axis=0)
    moments_ = (x.T @ x / len(x))[None], (x.T @ goal / len(x))[None]
    scales = refitted_scales(codes[None], np.ones((1, 2), np.float32), *moments_)[0]
    for row in range(2):
        exact = np.linalg.lstsq((x @ codes[row])[:, None], goal[:, row], rcond=None)[0][0]
        assert scales[row] == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("bits", [2, 4])
def test_methods_in_the_order_of_what_they_know(bits: int) -> None:
    """On fresh samples: mse beats nearest, gptq beats both."""
    model = residual()
    network = analyse(model.onnx, "net")
    rng = np.random.default_rng(0)
    shape = Graph(model.onnx).shape("x")[1:]
    x, fresh = (rng.normal(0, 1, (n, *shape)).astype(np.float32) for n in (256, 128))
    calibration = calibrate(model, x, seed=0)
    exact = evaluate(model.onnx, fresh, optimized=True)
    errors = {}
    for name in ("nearest", "mse", "gptq"):
        quantized = quantize(model, network, uniform_bits(network, bits, 8), calibration, x=x, rounding=name)
        errors[name] = float(np.square(evaluate(quantized.onnx, fresh, optimized=False) - exact).mean())
    assert errors["gptq"] < 0.8 * errors["nearest"]
    assert errors["mse"] < errors["nearest"]


def test_same_inputs_same_codes() -> None:
    given, _ = problem((1, 1), 1)
    first, second = (rounding_method("gptq").round(given) for _ in range(2))
    assert np.array_equal(first.values, second.values)
    assert np.array_equal(first.scales, second.scales)


def test_groups_do_not_know_of_each_other() -> None:
    rng = np.random.default_rng(4)
    inputs = [correlated(rng, 7) * size for size in (0.1, 1, 30)]
    hessians = np.stack([x.T @ x / len(x) for x in inputs])
    weights, scales = rng.normal(size=(3, 5, 7)), np.full((3, 5), 0.4, np.float32)
    together = descend(gptq(weights, scales, 4, order_of(hessians)), weights, scales, 4, hessians, 50)
    for group in range(3):
        own = slice(group, group + 1)
        first = gptq(weights[own], scales[own], 4, order_of(hessians[own]))
        alone = descend(first, weights[own], scales[own], 4, hessians[own], 50)
        assert np.array_equal(together[own], alone)


@pytest.mark.parametrize("sweeps", [1, 3, 50])
def test_descent_in_blocks_is_descent_column_by_column(sweeps: int) -> None:
    """Longer than a block, with outputs that end early, a column without power and groups of different size."""
    rng = np.random.default_rng(sweeps)
    inputs = [correlated(rng, 75) * size for size in (0.3, 4)]
    hessians = np.stack([x.T @ x / len(x) for x in inputs])
    hessians[1, 40, :] = hessians[1, :, 40] = 0
    weights, scales = rng.normal(size=(2, 9, 75)), rng.uniform(0.2, 0.6, (2, 9)).astype(np.float32)
    start = np.clip(np.rint(weights / scales[:, :, None]), -8, 7)
    expected = start.copy()
    for group, row in itertools.product(range(2), range(9)):
        w, q, step, hessian = weights[group, row], expected[group, row], float(scales[group, row]), hessians[group]
        for _ in range(sweeps):
            for column in np.flatnonzero(np.diagonal(hessian) > 0):
                gradient = float((w - q * step) @ hessian[:, column])
                q[column] = np.clip(np.rint(q[column] + gradient / (hessian[column, column] * step)), -8, 7)
    np.testing.assert_array_equal(descend(start, weights, scales, 4, hessians, sweeps), expected)
    np.testing.assert_array_equal(start, np.clip(np.rint(weights / scales[:, :, None]), -8, 7))


def test_only_the_best_first_scales_of_an_output_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given, _ = problem((1, 1), 1)
    rows: list[int] = []

    def counted(weights: Doubles, scales: Float, *rest: Any) -> Doubles:
        rows.append(scales.shape[1])
        return gptq(weights, scales, *rest)

    monkeypatch.setattr("tapc.quantize.gptq.gptq", counted)
    Gptq(loadings=()).round(given.at(4))
    outputs = len(given.weights)
    assert rows[0] == 6 * outputs
    assert rows[1:]
    assert set(rows[1:]) == {2 * outputs}


def test_constant_inputs_have_an_order() -> None:
    """Their moments are nil but for rounding, which may be negative."""
    noise = np.random.default_rng(0).normal(0, 1e-18, (2, 6, 6))
    order = order_of(noise + noise.transpose(0, 2, 1) - 1e-17 * np.eye(6))
    assert np.isfinite(order.factor).all()
    assert (np.diagonal(order.factor, axis1=1, axis2=2) > 0).all()
