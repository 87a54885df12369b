"""Controllers against Eq. 7-8 in exact arithmetic, automatic differentiation and the published bandit rule."""

import json
import math
from collections.abc import Sequence
from fractions import Fraction as Q

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tapc.base.errors import UsageError
from tapc.search.controllers import (
    CONTROLLERS,
    FLOOR,
    OPERATORS,
    Controller,
    Dpo,
    Eq7,
    Operator,
    Results,
    Tap,
    Ucb,
    controller,
    floored,
)

INIT, MUT, CROSS = OPERATORS
FITNESS = st.one_of(st.none(), st.floats(-1, 1), st.just(-math.inf), st.just(math.nan))
RESULTS = st.dictionaries(st.sampled_from(OPERATORS), st.lists(FITNESS, max_size=6))
GENERATIONS = st.lists(RESULTS, max_size=6)
P_MIN = Q(1, 20)


def exact_update(weights: list[Q], results: dict[str, list[float | None]]) -> list[Q]:
    """Eq. 7 and 8 as printed, without a floor."""
    means = {o: sum((Q(f) if f is not None else Q(0) for f in fs), Q(0)) / len(fs) for o, fs in results.items()}
    mu = sum(means.values()) / len(means)
    new = [w * means[o] / mu if o in means else w for w, o in zip(weights, OPERATORS, strict=True)]
    return [w / sum(new) for w in new]


def close(controller: Controller, expected: Sequence[Q]) -> None:
    for o, q in zip(OPERATORS, expected, strict=True):
        assert abs(Q(controller.probabilities()[o]) - q) < Q(1, 10**12)


def test_generation_by_generation_equals_the_paper() -> None:
    generations = [
        {INIT: [0.5, 0.7], MUT: [0.8, None, 0.75], CROSS: [0.9]},
        {MUT: [0.8, 0.85], CROSS: [0.91, 0.6, 0.4]},
        {INIT: [0.3], MUT: [0.9, 0.9]},
        {CROSS: [0.2, 0.9]},
        {INIT: [0.7], MUT: [None, 0.9], CROSS: [0.5]},
    ]
    tap, weights = Eq7(), [Q(1, 3)] * 3
    close(tap, weights)
    for results in generations:
        tap, weights = tap.update(results), exact_update(weights, results)
        assert min(weights) > P_MIN  # the floor stays out of this test
        close(tap, weights)


def test_first_update_by_hand() -> None:
    # F = 0.6, 0.3, 0.9; mu = 0.6; w = 1/3 * (1, 1/2, 3/2)
    close(Eq7().update({INIT: [0.6], MUT: [0.6, None], CROSS: [0.9]}), [Q(1, 3), Q(1, 6), Q(1, 2)])
    # initialization keeps its weight 1/3; F = 0.3, 0.9; mu = 0.6; w = 1/3, 1/6, 1/2
    close(Eq7().update({MUT: [0.3], CROSS: [0.9]}), [Q(1, 3), Q(1, 6), Q(1, 2)])


@given(st.lists(st.fixed_dictionaries({o: st.lists(st.floats(0.4, 0.9), min_size=1) for o in OPERATORS}), max_size=2))
def test_the_paper_s_alpha_cancels(generations: list[dict[str, list[float]]]) -> None:
    tap, weights = Eq7(), [Q(1)] * 3
    for results in generations:
        tap = tap.update(results)
        means = [sum(map(Q, results[o])) / len(results[o]) for o in OPERATORS]
        weights = [w * Q(5, 2) * f / (sum(means) / 3) for w, f in zip(weights, means, strict=True)]
    close(tap, [w / sum(weights) for w in weights])


def test_floor_in_exact_arithmetic() -> None:
    # one operator fails: 0 -> 1/20, the others share 19/20 as 2 : 1
    close(Eq7().update({INIT: [None], MUT: [0.8], CROSS: [0.4]}), [P_MIN, Q(19, 30), Q(19, 60)])
    # two fail
    tap = Eq7().update({INIT: [None], MUT: [0.8], CROSS: [None, None]})
    close(tap, [P_MIN, Q(9, 10), P_MIN])
    # and recover: 1/20 * (0.9 / 0.6), 9/10 * (0.3 / 0.6), 1/20
    new = [Q(3, 40), Q(9, 20), Q(1, 20)]
    close(tap.update({INIT: [0.9], MUT: [0.3]}), [w / sum(new) for w in new])


def test_a_share_that_the_first_clamp_pushes_below_the_floor() -> None:
    # 0.0505 * (0.95 / 0.9995) < 0.05: clamped as well
    shares = floored([0.0005, 0.0505, 0.949])
    assert list(shares.values()) == pytest.approx([0.05, 0.05, 0.9], abs=1e-15)
    assert list(floored([0.05, 0.05, 0.9]).values()) == [0.05, 0.05, 0.9]


def test_eta() -> None:
    # (F / mu)^(1/2) with F / mu = 0.5 and 1.5
    expected = np.array([1.0, math.sqrt(0.5), math.sqrt(1.5)])
    p = Eq7(eta=0.5).update({MUT: [0.3], CROSS: [0.9]}).probabilities()
    assert list(p.values()) == pytest.approx(list(expected / expected.sum()), abs=1e-12)


@pytest.mark.parametrize("results", [{}, {INIT: []}, {INIT: [None]}, {MUT: [-0.5, None], CROSS: [0.0]}])
def test_nothing_known_changes_nothing(results: dict[str, list[float | None]]) -> None:
    tap = Eq7(weights=(0.2, 0.3, 0.5))
    assert tap.update(results) == tap


def test_negative_fitness_is_clipped_after_the_mean() -> None:
    # means 0.2 and -0.1 -> 0: mu = 0.1
    close(Eq7().update({INIT: [-0.4, 0.8], MUT: [-0.1]}), [Q(19, 30), P_MIN, Q(19, 60)])


def test_ranks_by_hand() -> None:
    # Seven rivals each: 0.9 beats all; 0.5 beats 3 and the invalid one and ties with one, (4 + 1/2) / 7; 0.2 beats one.
    results: Results = {INIT: [0.5, None], MUT: [0.9], CROSS: [0.2]}
    # In ranks 9/14, 0, 1, 1/7; their average 25/56; F = (9/14 + 25/56) / 3, (1 + 25/56) / 2, (1/7 + 25/56) / 2
    fs = [(Q(9, 14) + Q(25, 56)) / 3, (1 + Q(25, 56)) / 2, (Q(1, 7) + Q(25, 56)) / 2]
    close(Tap().update(results, [0.3, 0.5, 0.6, 0.25]), [f / sum(fs) for f in fs])
    # without a population: 2/3, 0, 1, 1/3, whose average is 1/2
    fs = [(Q(2, 3) + Q(1, 2)) / 3, Q(3, 4), (Q(1, 3) + Q(1, 2)) / 2]
    close(Tap().update(results), [f / sum(fs) for f in fs])


GRID = st.one_of(st.none(), st.integers(0, 64).map(lambda n: n / 64))  # sums with the offsets below are exact
ON_GRID = st.dictionaries(st.sampled_from(OPERATORS), st.lists(GRID, max_size=6))
WEIGHTS = st.tuples(*[st.floats(0.01, 1)] * 3).map(lambda w: tuple(floored(w).values()))


@given(WEIGHTS, ON_GRID, st.lists(GRID, max_size=8), st.integers(-4, 1000))
def test_an_offset_to_all_fitnesses_changes_nothing(
    weights: tuple[float, ...], results: Results, population: list[float | None], offset: int
) -> None:
    def moved(fitness: Sequence[float | None]) -> list[float | None]:
        return [None if f is None else f + offset for f in fitness]

    tap = Tap(weights=weights)
    assert tap.update({o: moved(fs) for o, fs in results.items()}, moved(population)) == tap.update(results, population)


@given(WEIGHTS, ON_GRID, st.lists(GRID, max_size=8), st.sampled_from(OPERATORS), st.lists(st.floats(2, 3), min_size=1))
def test_the_better_operator_gains(
    weights: tuple[float, ...], results: Results, population: list[float | None], best: Operator, fitness: list[float]
) -> None:
    others = {o: fs for o, fs in results.items() if o != best and fs}
    before = Tap(weights=weights)
    after = before.update({**others, best: fitness}, population).probabilities()
    assert after[best] >= before.probabilities()[best] - 1e-12
    if others and before.probabilities()[best] < 0.9 - 1e-9:
        assert after[best] > before.probabilities()[best]


def test_an_offset_hides_differences_from_the_literal_equation_alone() -> None:
    generation: Results = {INIT: [0.78, 0.77], MUT: [0.80, 0.81, 0.79], CROSS: [0.82, 0.83, 0.815]}
    literal, relative = Eq7(), Tap()
    for _ in range(5):
        literal, relative = literal.update(generation), relative.update(generation)
    assert max(abs(p - 1 / 3) for p in literal.probabilities().values()) < 0.06
    p = relative.probabilities()
    assert p[CROSS] > 0.6 > p[MUT] > p[INIT] == FLOOR


@pytest.mark.parametrize("name", CONTROLLERS)
@given(GENERATIONS)
def test_probabilities_and_round_trip(name: str, generations: list[dict[str, list[float | None]]]) -> None:
    current = controller(name)
    for results in generations:
        before = current.state()
        following = current.update(results, [0.1, 0.5, None])
        assert current.state() == before
        current = following
        p = current.probabilities()
        assert tuple(p) == OPERATORS
        assert math.fsum(p.values()) == pytest.approx(1, abs=1e-12)
        assert min(p.values()) >= FLOOR - 1e-12
        assert controller(name, json.loads(json.dumps(current.state()))) == current


def test_names_and_states_are_checked() -> None:
    with pytest.raises(UsageError, match="'greedy'; choose one of tap, eq7, dpo, ucb, uniform"):
        controller("greedy")
    for state in ({"theta": [0, 0, 0]}, {"weights": [1.0]}, {}):
        with pytest.raises(UsageError, match="no state of the controller 'tap'"):
            controller("tap", state)


def test_uniform_never_moves() -> None:
    p = controller("uniform").update({INIT: [1.0], MUT: [None]}).probabilities()
    assert list(p.values()) == [1 / 3] * 3


def test_dpo_pairs() -> None:
    i, m, c = range(3)
    pairs = Dpo().pairs({INIT: [0.5, None], MUT: [0.5, 0.9], CROSS: [None, math.nan]})
    # 0.5 (i): ties with 0.5 (m), loses to 0.9 (m), beats both c; None (i): loses to both m, ties with c
    assert sorted(pairs) == sorted([(m, i), (i, c), (i, c), (m, i), (m, i), (m, c), (m, c), (m, c), (m, c)])


PAIRS = st.lists(st.sampled_from([(a, b) for a in range(3) for b in range(3) if a != b]), min_size=1, max_size=30)
THETA = st.tuples(*[st.floats(-5, 5)] * 3)


def reference_loss(theta: torch.Tensor, pairs: list[tuple[int, int]], beta: float) -> torch.Tensor:
    """Equation 7 of arXiv 2305.18290 with log-probabilities of policy and uniform reference."""
    policy, reference = torch.log_softmax(theta, 0), torch.log_softmax(torch.zeros_like(theta), 0)
    w, x = (torch.tensor(indices) for indices in zip(*pairs, strict=True))
    return -torch.nn.functional.logsigmoid(beta * ((policy - reference)[w] - (policy - reference)[x])).mean()


@given(THETA, PAIRS, st.sampled_from([0.1, 1.0, 10.0]))
def test_dpo_gradient_equals_autograd(theta: tuple[float, ...], pairs: list[tuple[int, int]], beta: float) -> None:
    leaf = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    loss = reference_loss(leaf, pairs, beta)
    loss.backward()  # type: ignore[no-untyped-call]
    dpo = Dpo(theta=theta, beta=beta)
    assert leaf.grad is not None
    assert dpo.loss(pairs) == pytest.approx(loss.item(), rel=1e-9, abs=1e-12)
    assert dpo.gradient(pairs) == pytest.approx(leaf.grad.tolist(), rel=1e-9, abs=1e-12)


@given(THETA, RESULTS, st.sampled_from([0.1, 1.0, 20.0]), st.sampled_from([0.1, 1.0]))
def test_dpo_never_raises_its_loss(
    theta: tuple[float, ...], results: dict[str, list[float | None]], beta: float, rate: float
) -> None:
    dpo = Dpo(theta=theta, beta=beta, rate=rate)
    pairs = dpo.pairs(results)
    after = dpo.update(results)
    if math.hypot(*dpo.gradient(pairs) if pairs else [0.0]) > 1e-6:
        assert after.loss(pairs) < dpo.loss(pairs)
    else:
        assert after.loss(pairs) <= dpo.loss(pairs) + 1e-12


def test_dpo_prefers_what_won_and_survives_extremes() -> None:
    dpo = Dpo()
    for _ in range(3):
        dpo = dpo.update({INIT: [0.1], MUT: [0.9], CROSS: [0.5]})
    p = dpo.probabilities()
    assert p[MUT] > p[CROSS] > p[INIT] > FLOOR
    assert Dpo(theta=(1e6, -1e6, 0.0)).gradient([(1, 0)]) == [1.0, -1.0, 0.0]
    assert Dpo(theta=(1e6, -1e6, 0.0)).update({INIT: [0.1], MUT: [0.9]}).theta[0] < 1e6


def test_ucb_follows_auer() -> None:
    ucb = Ucb()
    assert list(ucb.probabilities().values()) == pytest.approx([1 / 3] * 3)
    ucb = ucb.update({MUT: [0.9, 0.7]})
    assert list(ucb.probabilities().values()) == pytest.approx([0.475, 0.05, 0.475])  # the untried ones
    ucb = ucb.update({INIT: [0.5, 0.3, None, 0.4], CROSS: [0.8] * 10})
    # n = 16: 0.3 + sqrt(2 ln 16 / 4) = 1.477, 0.8 + sqrt(2 ln 16 / 2) = 2.465, 0.8 + sqrt(2 ln 16 / 10) = 1.545
    assert list(ucb.probabilities().values()) == pytest.approx([0.05, 0.9, 0.05])
    ucb = ucb.update({MUT: [0.8] * 10})
    # n = 26: 0.3 + sqrt(2 ln 26 / 4) = 1.576, 0.8 + sqrt(2 ln 26 / 12) = 1.537, 0.8 + sqrt(2 ln 26 / 10) = 1.607
    assert list(ucb.probabilities().values()) == pytest.approx([0.05, 0.05, 0.9])


def test_ucb_s_bonus_has_the_factor_two() -> None:
    ucb = Ucb().update({INIT: [0.4] * 4, MUT: [0.8] * 10, CROSS: [0.1] * 12})
    # n = 26: 0.4 + sqrt(2 ln 26 / 4) = 1.676, 0.8 + sqrt(2 ln 26 / 10) = 1.607; sqrt(ln n / n_o): 1.302, 1.371
    assert list(ucb.probabilities().values()) == pytest.approx([0.9, 0.05, 0.05])
