"""Proofs about sums against the inputs that make them largest."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng

from kernels.programs import conv_op, tensor
from tapc.ir.program import Tensor
from tapc.kernels.conv import Runs
from tapc.operators.weighted import Conv
from tapc.operators.weighted.widths import fits_shifted, proved_run


def dense(seed: int, taps: int, w_bits: int, a_bits: int) -> tuple[Conv, Tensor]:
    rng = default_rng(seed)
    x, y = tensor("x", (1, 1, taps), a_bits, rng), tensor("y", (1, 1, 3), 8, rng)
    return conv_op(rng, x, y, (1, 1), (1, 1), (0,) * 4, 1, w_bits), x


def extremes(weights: np.ndarray, x: Tensor, run: int) -> tuple[int, int]:
    """Return the least and the largest sum of any run of taps, by choosing each code as a bad input would."""
    least = most = 0
    for row in weights.reshape(len(weights), -1).tolist():
        for start in range(0, len(row), run):
            part = row[start : start + run]
            least = min(least, sum(w * (x.low if w > 0 else x.high) for w in part))
            most = max(most, sum(w * (x.high if w > 0 else x.low) for w in part))
    return least, most


CASES = (st.integers(0, 10**6), st.integers(1, 80), st.sampled_from([2, 4, 8]), st.sampled_from([4, 8]))


@given(*CASES)
def test_packed_runs_stay_within_16_bits_and_are_the_longest(seed: int, taps: int, w_bits: int, a_bits: int) -> None:
    op, x = dense(seed, taps, w_bits, a_bits)
    per_word = 32 // w_bits
    words = -(-taps // per_word)
    run = proved_run(op, x, per_word, Runs(16, words, np.arange(taps), None))

    def fits(n: int) -> bool:
        low, high = extremes(op.weights, x, n * per_word)
        return low >= -(2**15) and high < 2**15

    divisors = [n for n in range(1, words + 1) if words % n == 0]
    assert run == max((n for n in divisors if fits(n)), default=0)


@given(*CASES)
def test_top_runs_stay_within_the_accumulator(seed: int, taps: int, w_bits: int, a_bits: int) -> None:
    op, x = dense(seed, taps, w_bits, a_bits)
    op = replace(op, bias=np.full(3, 2**24, np.int32))  # no room for the whole sum
    order, per_word = default_rng(seed).permutation(taps), 32 // w_bits
    shift = 16 - w_bits
    run = proved_run(op, x, per_word, Runs(32 - shift, max(taps // per_word, 1), order, shift))
    assert run >= 1
    packed = op.weights.reshape(3, -1)[:, order]
    low, high = extremes(packed, x, run * per_word)
    assert max(high, -low) << shift <= 2**31


@pytest.mark.parametrize("taps", [8, 800, 8000])
def test_whole_sums_fit_as_long_as_they_are_short(taps: int) -> None:
    op, x = dense(0, taps, 4, 8)
    op = replace(op, weights=np.full_like(op.weights, -8), bias=np.zeros(3, np.int32), ratios=np.ones(3, np.float32))
    x = replace(x, zero=0)
    assert fits_shifted(op, x, 12) == (taps * 8 * 128 * 2**12 < 2**31)
