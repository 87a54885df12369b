"""Factors of tied channels: the error's gradient, its minimum, and what cannot be gained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.special import logsumexp, softmax

from tapc.quantize.burden import Doubles, Error, Reader, Tensor, least_error, smooth_maximum


def problem(seed: int, bits: int, depthwise: bool = False) -> tuple[list[Tensor], list[Reader]]:
    rng = np.random.default_rng(seed)
    channels = 7
    peaks = np.exp(rng.normal(0, 1.5, channels))
    weights = np.abs(rng.normal(0, 1, (5, channels))) * np.exp(rng.normal(0, 0.5, channels))
    step = 1 / (2 ** (bits - 1) - 1)
    reader = Reader(weights, np.square(weights).sum(axis=0), np.square(peaks / 3), step, depthwise)
    other = Reader(weights[:2], np.square(weights[:2]).sum(axis=0), np.square(peaks / 4), step, depthwise)
    return [Tensor(peaks, 2 / 255, (0, 1)), Tensor(peaks[::-1].copy(), 1 / 255, (1,))], [reader, other]


def error(logs: Doubles, bits: int, depthwise: bool = False) -> float:
    return Error(*problem(0, bits, depthwise))(logs)[0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_gradient_is_that_of_the_error(bits: int) -> None:
    error = Error(*problem(1, bits))
    logs = np.random.default_rng(2).normal(0, 0.5, 7)
    value, gradient = error(logs)
    difference = check_grad(lambda z: error(z)[0] / value, lambda z: error(z)[1] / value, logs)
    assert difference < 1e-4 * np.linalg.norm(gradient / value)


@given(st.data())
def test_the_smooth_maximum_is_scipys(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(1,), (2,), (9,), (200,), (1, 1), (5, 8), (3, 129), (64, 40)]))
    scale = data.draw(st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1000.0]))
    rows = np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, scale, shape)
    if data.draw(st.booleans()):
        rows = np.round(rows)  # several greatest
    greatest, shares = smooth_maximum(rows)
    np.testing.assert_array_equal(greatest, logsumexp(rows, axis=-1))
    np.testing.assert_array_equal(shares, softmax(rows, axis=-1))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_small_change_of_a_factor_is_better(bits: int) -> None:
    wide = np.full(7, 4.0)
    logs = np.log(least_error(*problem(0, bits), -wide, wide, np.zeros(7)))
    best = error(logs, bits)
    assert best < error(np.zeros(7), bits)
    for channel in range(7):
        for move in (-0.1, 0.1):
            changed = logs.copy()
            changed[channel] += move
            assert error(changed, bits) > 0.999 * best


def test_wide_weights_bear_more_of_the_burden() -> None:
    """With 8-bit weights the ranges of activations end nearer to each other than with 2-bit ones."""
    wide = np.full(7, 4.0)
    spread = []
    for bits in (8, 2):
        tensors, readers = problem(0, bits)
        logs = np.log(least_error(tensors[:1], readers, -wide, wide, np.zeros(7)))
        spread.append(float(np.std(logs + np.log(tensors[0].peaks))))
    assert spread[0] < 0.7 * spread[1]


def test_factors_stay_within_their_bounds() -> None:
    low, high = np.full(7, -0.2), np.array([0.3, 0, 0.3, 0.3, 0, 0.3, 0.3])
    factors = least_error(*problem(0, 8), low, high, np.zeros(7))
    assert np.all((np.log(factors) >= low - 1e-12) & (np.log(factors) <= high + 1e-12))


def test_depthwise_readers_cost_nothing() -> None:
    """Only the activations' error counts, which is least where the largest steps meet the smallest weights."""
    wide = np.full(7, 4.0)
    tensors, readers = problem(3, 2, depthwise=True)
    logs = np.log(least_error(tensors[:1], readers, -wide, wide, np.zeros(7)))
    ranges = logs + np.log(tensors[0].peaks)
    assert float(np.ptp(ranges)) < 0.25 * float(np.ptp(np.log(tensors[0].peaks)))
