"""The two-instruction requantization equals the float form for every accumulator, and only within its intervals."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tapc.base.arithmetic import smm

SCALES = st.floats(2.0**-16, 0.875, width=32)
ENDS = st.sampled_from([(-128, 127), (0, 15), (-20, 90), (3, 4), (7, 7)])


def codes(acc: Any, scale: float, zero: int, low: int, high: int) -> Any:
    """Return codes as onnxruntime has them: float32 conversion and product, half to even."""
    return np.clip(np.rint(acc.astype(np.float32) * np.float32(scale)).astype(np.int64) + zero, low, high)


@given(SCALES, st.integers(-128, 127), ENDS, st.integers(1, 1 << 17), st.sampled_from([0, 12, 14]))
@example(2.0**-4, 0, (-128, 127), 5000, 0)  # ties at every other code
@example(0.5, 3, (-128, 127), 1 << 17, 14)
def test_every_accumulator_has_its_code(
    scale: float, zero: int, ends: tuple[int, int], largest: int, spare: int
) -> None:
    largest = min(largest, (1 << 31 - spare) - 1)
    found = smm.find(np.array([scale], np.float32), zero, *ends, np.array(largest), spare)
    acc = np.arange(-largest, largest + 1)
    expected = codes(acc, scale, zero, *ends)
    if found is None:
        assert scale > 0.12 or spare == 0
        return
    form, exact = found
    if exact[0]:
        np.testing.assert_array_equal(form.codes((acc << spare)[:, None], *ends)[:, 0], expected)
        wide = acc * int(form.factors[0]) >> 32 if spare == 0 else acc[:0]
        assert np.all(np.abs(wide + form.added) < 2**31)


@given(SCALES, st.integers(-128, 127), st.integers(1000, 1 << 17))
def test_the_least_accumulators_are_where_codes_begin(scale: float, zero: int, largest: int) -> None:
    acc = np.arange(-largest, largest + 1)
    reached = smm.least(np.array([scale], np.float32), zero, -128, 127, np.array([largest]))[0]
    own = codes(acc, scale, zero, -128, 127)
    np.testing.assert_array_equal(reached, [np.searchsorted(own, q) - largest for q in range(-127, 128)])


def test_a_factor_beside_its_interval_is_wrong() -> None:
    rng = np.random.default_rng(0)
    tried = 0
    for scale in rng.uniform(2.0**-10, 2.0**-5, 40).astype(np.float32):
        zero, largest = int(rng.integers(-128, 128)), 1 << 16
        reached = smm.least(scale[None], zero, -128, 127, np.array([largest]))
        first, last = smm.intervals(reached, zero, -128, 127, np.array([largest]), 4, 0)
        if first[0] > last[0] or last[0] - first[0] > 1 << 20:
            continue
        tried += 1
        acc = np.arange(-largest, largest + 1)
        own = codes(acc, scale, zero, -128, 127)
        for factor, right in ((first[0], True), (last[0], True), (first[0] - 1, False), (last[0] + 1, False)):
            form = smm.Smm(np.array([factor], np.int32), 4, (zero << 4) + 8)
            assert np.array_equal(form.codes(acc[:, None], -128, 127)[:, 0], own) == right
    assert tried > 20


def test_most_layers_have_factors() -> None:
    """Of scales between 2^-6 and 2^-12, the more the larger the scale."""
    rng = np.random.default_rng(1)
    scales = (2.0 ** rng.uniform(-12, -6, 500)).astype(np.float32)
    found = smm.find(scales, -7, -128, 127, np.full(500, 1 << 20))
    assert found is not None
    assert found[1].mean() > 0.85


def test_scales_move_by_little() -> None:
    """Nearly all that have no factors have some close by, where every accumulator is right."""
    rng = np.random.default_rng(2)
    weights = (2.0 ** rng.uniform(-10, -7, 64)).astype(np.float32)
    largest, acc = np.full(64, 1 << 16), np.arange(-(1 << 16), (1 << 16) + 1)
    found = smm.find(weights * np.float32(0.37), 5, -128, 127, largest)
    assert found is not None
    assert not found[1].all()
    result = smm.moved(lambda scales: scales * np.float32(0.37), weights, 5, -128, 127, largest)
    assert result is not None
    assert np.abs(result.view(np.int32) - weights.view(np.int32)).max() <= smm.MOVES
    assert np.array_equal(result[found[1]], weights[found[1]])
    again = smm.find(result * np.float32(0.37), 5, -128, 127, largest)
    assert again is not None
    assert again[1].all()
    found_codes = again[0].codes(acc[:, None], -128, 127)
    for channel in range(64):
        own = codes(acc, result[channel] * np.float32(0.37), 5, -128, 127)
        np.testing.assert_array_equal(found_codes[:, channel], own)


@pytest.mark.parametrize(("quick", "shift"), [("_smm12", 12), ("_right", None), ("", None)])
def test_names(quick: str, shift: int | None) -> None:
    assert smm.shift_of(quick) == shift


def test_scales_that_suit_accumulators_of_several_sizes() -> None:
    """One move of the scales serves sums as they are and 2^8 and 2^12 times as large; each gives every code."""
    rng = np.random.default_rng(3)
    weights, largest = (2.0 ** rng.uniform(-10, -7, 24)).astype(np.float32), np.full(24, 1 << 17)
    result = smm.moved(lambda scales: scales, weights, 5, -128, 127, largest, (0, 8, 12))
    assert result is not None
    assert np.abs(result.view(np.int32) - weights.view(np.int32)).max() <= smm.MOVES
    acc = np.arange(-(1 << 17), (1 << 17) + 1)
    for spare in (0, 8, 12):
        found = smm.find(result, 5, -128, 127, largest, spare)
        assert found is not None
        form, exact = found
        assert exact.all()
        for channel, scale in enumerate(result):
            one = smm.Smm(form.factors[channel : channel + 1], form.shift, form.added)
            own = one.codes((acc << spare)[:, None], -128, 127)[:, 0]
            np.testing.assert_array_equal(own, codes(acc, scale, 5, -128, 127))


def test_a_size_that_nothing_suits_leaves_the_others() -> None:
    """Sums of a ratio above a half have no shift at 2^0, but at 2^8."""
    rng = np.random.default_rng(0)
    weights, largest = rng.uniform(0.6, 0.8, 4).astype(np.float32), np.full(4, 60_000)
    assert smm.find(weights, 0, -128, 127, largest, 0) is None
    result = smm.moved(lambda scales: scales, weights, 0, -128, 127, largest, (0, 8))
    found = smm.find(weights if result is None else result, 0, -128, 127, largest, 8)
    assert found is not None
    assert found[1].all()
