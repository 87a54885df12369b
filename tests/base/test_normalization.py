"""Integer layer normalization against exact fractions, and its C form against the reference executor."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapc.base.arithmetic import Mode, norm_factors, normalize


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    channels = draw(st.integers(2, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0, 1, 5, 60, 255]))
    middle = draw(st.integers(-128, 127))
    x = np.clip(middle + rng.integers(-spread, spread + 1, (4, channels)), -128, 127).astype(np.int64)
    gain = rng.uniform(-60, 60, channels).astype(np.float32)
    offset = rng.uniform(-100, 100, channels).astype(np.float32)
    return x, gain, offset, draw(st.sampled_from([1e-6, 1e-5, 1e-3])), draw(st.sampled_from([0.001, 0.02, 0.5]))


@pytest.mark.parametrize("mode", ["float", "fixed"])
@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_within_a_rounding_of_the_exact_value(
    mode: Mode, case: tuple[np.ndarray, np.ndarray, np.ndarray, float, float]
) -> None:
    x, gain, offset, epsilon, scale = case
    codes = normalize(x, norm_factors(gain, offset, epsilon, scale, mode), 3, -128, 127)
    channels = x.shape[1]
    for row, result in zip(x.tolist(), codes.tolist(), strict=True):
        mean = Fraction(sum(row), channels)
        variance = sum((value - mean) ** 2 for value in row) / channels
        added = Fraction(epsilon) / Fraction(scale) ** 2
        root = float(variance + added) ** 0.5
        for i, value in enumerate(row):
            exact = float(value - mean) / root * float(gain[i]) + float(offset[i])
            # Half a code for rounding; fixed point adds what 12 bits of a scale of 60 leave.
            slack = 0.5 + (1e-3 if mode == "float" else 0.3)
            assert abs(result[i] - np.clip(exact + 3, -128, 127)) <= slack


@pytest.mark.parametrize("mode", ["float", "fixed", "tflite"])
@settings(max_examples=50, deadline=None)
@given(case=cases(), zero=st.integers(-128, 127))
def test_the_root_of_the_mean_square(
    mode: Mode, case: tuple[np.ndarray, np.ndarray, np.ndarray, float, float], zero: int
) -> None:
    x, gain, offset, epsilon, scale = case
    codes = normalize(x - zero, norm_factors(gain, offset, epsilon, scale, mode), 3, -128, 127, mean=False)
    channels = x.shape[1]
    for row, result in zip((x - zero).tolist(), codes.tolist(), strict=True):
        added = Fraction(epsilon) / Fraction(scale) ** 2
        root = float(Fraction(sum(value * value for value in row), channels) + added) ** 0.5
        exact = np.array(row) / root * gain + offset
        assert np.all(np.abs(result - np.clip(exact + 3, -128, 127)) <= 0.5 + (1e-3 if mode == "float" else 0.3))


@pytest.mark.parametrize("mode", ["fixed", "tflite"])
def test_an_epsilon_of_less_than_a_code_does_not_count_as_one(mode: Mode) -> None:
    x, one = np.array([[[1], [-1], [0], [2]]]), np.full(1, 100, np.float32)
    codes = normalize(x, norm_factors(one, 0 * one, 1e-12, 0.1, mode), 0, -128, 127, mean=False)
    assert codes.ravel().tolist() == [100, -100, 0, 100]
    pair = np.array([[1, 0]])
    codes = normalize(pair, norm_factors(one.repeat(2), 0 * one.repeat(2), 1e-6, 0.5, mode), 0, -128, 127)
    assert codes.ravel().tolist() == [100, -100]


def test_scales_beyond_fixed_point() -> None:
    with pytest.raises(ValueError, match="out of range"):
        norm_factors(np.full(4, 1e9, np.float32), np.zeros(4, np.float32), 1e-5, 0.1, "fixed")
