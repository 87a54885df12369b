"""The least sum of losses must stand up to the least sums of wider weights, by what the whole network loses."""

import pytest

from tapc.allocate import AllocationProblem, Budgets, Choice, GroupChoices, LayerChoices, solve
from tapc.flow.rivals import best_together
from tapc.graph.network import Bits

LOSSES = {"a": {2: 2.0, 4: 1.0, 8: 0.1}, "b": {2: 9.0, 4: 3.0, 8: 0.5}}


FOUR = {
    "a": {2: 0.1, 4: 0.0, 8: 0.0},
    "b": {2: 9.0, 4: 2.0, 8: 0.1},
    "c": {2: 1.0, 4: 0.1, 8: 0.0},
    "d": {2: 9.0, 4: 1.5, 8: 0.1},
}
"""At 2 bits "a" and "c" pay for 8 bits of one other each."""


def problem(target_bits: float, fixed: str = "", least: int = 2) -> AllocationProblem:
    layers = []
    for name, losses in LOSSES.items():
        widths = [2] if name == fixed else [width for width in (2, 4, 8) if width >= least]
        choices = tuple(Choice(width, 8, losses[width], 10 * width, 1.0, width) for width in widths)
        layers.append(LayerChoices(name, 0, 40 if name == "a" else 20, choices, "override" if name == fixed else ""))
    return AllocationProblem(tuple(layers), (GroupChoices(True, (8,)),), Budgets(target_bits=target_bits))


def widths(bits: Bits) -> tuple[int, int]:
    return bits.weights["a"], bits.weights["b"]


@pytest.mark.parametrize(("mixed", "uniform"), [(1.0, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_what_the_whole_network_loses_decides(mixed: float, uniform: float) -> None:
    stated = problem(4)
    least = solve(stated)
    assert widths(least.bits) == (2, 8)  # 2.5, where 4 bits everywhere have 4.0
    joint = {(2, 8): mixed, (4, 4): uniform}
    found = best_together(stated, least, lambda bits: joint[widths(bits)])
    if uniform < mixed:
        assert widths(found.bits) == (4, 4)
        assert (found.status, found.objective, found.bound) == ("together", 4.0, 2.5)
        assert found.gap == pytest.approx(1.5 / 4)
        assert found.used["target_bits"].used == 4
    else:
        assert found is least


@pytest.mark.parametrize("stated", [problem(3), problem(8), problem(4, least=4), problem(4, fixed="a")])
def test_without_a_rival_nothing_is_measured(stated: AllocationProblem) -> None:
    """Wider weights do not fit, all are as wide as can be, 2 bits are not on offer, or overrides hold them."""

    def measured(bits: Bits) -> float:
        raise AssertionError(bits)

    least = solve(stated)
    assert best_together(stated, least, measured) is least


def test_each_is_measured_once_the_least_sum_first() -> None:
    asked: list[tuple[int, int]] = []

    def measured(bits: Bits) -> float:
        asked.append(widths(bits))
        return float(len(asked))

    stated = problem(4)
    found = best_together(stated, solve(stated), measured)
    assert asked == [(2, 8), (4, 4)]
    assert widths(found.bits) == (2, 8)


@pytest.mark.parametrize("best", [(2, 8, 2, 8), (2, 8, 4, 4), (4, 4, 4, 4)])
def test_fewest_bits_that_gain_little_are_doubted(best: tuple[int, ...]) -> None:
    layers = tuple(
        LayerChoices(
            name, 0, 40 if name in "ac" else 20, tuple(Choice(w, 8, loss, 10 * w, 1.0, w) for w, loss in losses.items())
        )
        for name, losses in FOUR.items()
    )
    stated = AllocationProblem(layers, (GroupChoices(True, (8,)),), Budgets(target_bits=4))
    sums = {(2, 8, 2, 8): 1.3, (2, 8, 4, 4): 1.8, (4, 4, 4, 4): 3.6}
    asked: list[tuple[int, ...]] = []

    def measured(bits: Bits) -> float:
        asked.append(tuple(bits.weights.values()))
        return float(asked[-1] != best)

    found = best_together(stated, solve(stated), measured)
    assert asked == list(sums)
    assert tuple(found.bits.weights.values()) == best
    assert found.objective == pytest.approx(sums[best])
    assert found.bound == pytest.approx(1.3)
