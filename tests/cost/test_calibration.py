"""A board's factors, from measurements whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapc.base.errors import DataError
from tapc.cost.calibration import ONE, Factors, Observation, errors, fit

KINDS = ("conv", "depthwise", "dense", "pool")


def observations(truth: Factors, seed: int, layers: int, *, noise: float = 0.0, build: str = "a") -> list[Observation]:
    """Layers whose cycles follow the truth, but for noise (a share)."""
    rng, found = np.random.default_rng(seed), []
    for index in range(layers):
        kind, instructions, stalls = KINDS[index % 4], float(rng.integers(20_000, 2_000_000)), float(rng.integers(2e5))
        cycles = truth.cycles(kind, instructions, stalls) * (1 + noise * rng.uniform(-1, 1))
        found.append(Observation(build, str(index), kind, instructions, stalls, cycles))
    return found


factors = st.builds(
    lambda rates, stalls: Factors(kinds=dict(zip(KINDS, rates, strict=True)), other=1.0, stalls=stalls),
    st.lists(st.floats(0.6, 4), min_size=4, max_size=4), st.floats(0, 1),
)  # fmt: skip


@settings(max_examples=15)
@given(factors, st.integers(0, 1000))
def test_the_truth_is_found(truth: Factors, seed: int) -> None:
    made = fit(observations(truth, seed, 24))
    for kind, rate in truth.kinds.items():
        assert made.factors.kinds[kind] == pytest.approx(rate, rel=0.2)
    assert 0.9 * min(truth.kinds.values()) <= made.factors.other <= max(truth.kinds.values()) + 1
    assert made.after.layers < 0.04
    assert made.kept_back == "layer"


def test_stalls_are_felt_where_cycles_need_them() -> None:
    for stalls in (0.0, 0.5, 1.0):
        truth = Factors(kinds=dict(zip(KINDS, (1.1, 1.7, 1.3, 2.0), strict=True)), other=1.0, stalls=stalls)
        assert fit(observations(truth, 7, 40)).factors.stalls == pytest.approx(stalls, abs=0.1)


@settings(max_examples=15)
@given(factors, st.integers(0, 1000))
def test_noise_is_told_by_what_was_kept_back(truth: Factors, seed: int) -> None:
    both = observations(truth, seed, 16, noise=0.1) + observations(truth, seed + 1, 16, noise=0.1, build="b")
    made = fit(both)
    assert made.kept_back == "build"
    assert made.held_out is not None
    assert made.after.layers < 0.1
    assert made.held_out.layers < 0.2
    assert made.before.layers == errors(both, [o.instructions for o in both]).layers


@settings(max_examples=15)
@given(factors, st.integers(0, 1000), st.floats(5, 100))
def test_a_layer_that_is_off_does_not_bend_the_others(truth: Factors, seed: int, times: float) -> None:
    seen = observations(truth, seed, 32)
    seen[5] = Observation("a", "5", seen[5].kind, seen[5].instructions, seen[5].stalls, seen[5].cycles * times)
    made = fit(seen)
    for kind, rate in truth.kinds.items():
        assert made.factors.kinds[kind] == pytest.approx(rate, rel=0.25), kind


def test_few_layers() -> None:
    """A kind that was not measured takes the common factor; of a single layer nothing can be kept back."""
    truth = Factors(kinds=dict.fromkeys(KINDS, 1.5), other=1.5, stalls=0.0)
    one = fit(observations(truth, 0, 1))
    assert one.held_out is None
    assert one.kept_back == ""
    assert one.factors.cycles("softmax", 1000, 0) == pytest.approx(1500)
    assert one.factors.cycles("conv+add", 1000, 0) == pytest.approx(1500)
    two = fit(observations(truth, 0, 2))
    assert two.held_out is not None
    assert two.held_out.layers < 1e-6  # each layer predicts the other by the common factor
    apart = fit(observations(truth, 0, 1) + observations(truth, 1, 1, build="b"))
    assert apart.kept_back == "build"


def test_what_cannot_be_learned_from() -> None:
    with pytest.raises(DataError, match="the counter stood still"):
        fit([Observation("a", "conv", "conv", 1000.0, 0.0, 0.0)])
    zero = fit([Observation("a", "x", "conv", 1000.0, 0.0, 0.0), Observation("a", "y", "pool", 1000.0, 0.0, 900.0)])
    assert min(zero.factors.kinds.values()) >= 0
    assert zero.held_out is None  # without the second layer there is nothing
    assert ONE.cycles("conv", 7, 5) == 7
