"""Why other bits were not chosen: each reason against plain sums over the layers."""

import re
from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from allocate.problems import fits, problems, totals
from tapc.allocate import (
    Allocation,
    AllocationError,
    AllocationProblem,
    Budgets,
    Choice,
    GroupChoices,
    LayerChoices,
    RamUse,
    alternatives,
    solve,
)

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
UNITS = {"bytes of flash": "flash", "bytes of RAM": "ram", "instructions": "latency", "BOPs": "bops",
         "weight bits on average": "target_bits"}  # fmt: skip


def used(problem: AllocationProblem, weights: dict[str, int], groups: dict[int, int]) -> dict[str, float]:
    choices = tuple(
        next(c for c in layer.choices if (c.w_bits, c.a_bits) == (weights[layer.name], groups[layer.input_group]))
        for layer in problem.layers
    )
    return totals(problem, (choices, tuple(groups[i] for i in range(len(problem.groups)))))


@SETTINGS
@given(problems())
def test_a_layer_with_more_bits_fits_or_not(problem: AllocationProblem) -> None:
    try:
        allocation = solve(problem)
    except AllocationError:
        return
    own = [one for one in alternatives(problem, allocation) if one.kind == "layer"]
    narrow = [
        layer.name for layer in problem.layers
        if allocation.bits.weights[layer.name] < max(choice.w_bits for choice in layer.choices)
    ]  # fmt: skip
    assert [one.what.partition(":")[0] for one in own] == narrow
    for one in own:
        found = re.fullmatch(r"(\w+): (\d) bits for its weights, not (\d)", one.what)
        assert found is not None
        assert int(found[3]) == allocation.bits.weights[found[1]]
        weights = {**allocation.bits.weights, found[1]: int(found[2])}
        sums = used(problem, weights, dict(allocation.bits.activations))
        assert one.why.startswith("fits") == fits(problem, sums)
        if one.why.startswith("fits"):
            assert "within the gap" not in one.why
            assert ("loses more" in one.why) == (sums["loss"] > allocation.objective)
        for reason in () if one.why.startswith("fits") else one.why.split("; "):
            amount, unit, over = re.fullmatch(r"([\d,.]+) (.*), ([\d,.]+) too many", reason).groups()  # type: ignore[union-attr]
            name = UNITS[unit]
            limit = getattr(problem.budgets, name)
            assert float(amount.replace(",", "")) == float(f"{sums[name]:.{2 if name == 'target_bits' else 0}f}")
            assert abs(float(over.replace(",", "")) - (sums[name] - limit)) <= 0.51


def small(**budgets: int) -> tuple[AllocationProblem, Allocation]:
    """A layer of 100 weights and a pinned one of 10, of which each bit takes a byte; losses are known."""
    free = tuple(Choice(w, a, 8.0 / w + 8.0 / a, 100 * w, 1, w * a) for a in (4, 8) for w in (2, 4, 8))
    pinned = tuple(Choice(8, a, 0.0, 80, 1, 8 * a) for a in (4, 8))
    layers = (LayerChoices("a", 0, 100, free), LayerChoices("b", 0, 10, pinned, "pinned"))
    problem = AllocationProblem(layers, (GroupChoices(False, (4, 8)),), Budgets(**budgets),  # type: ignore[arg-type]
                                ram=lambda bits: RamUse(1000 * bits[0]))  # fmt: skip
    return problem, solve(problem)


def test_uniform_bits() -> None:
    problem, allocation = small(flash=500, ram=4000)
    assert (allocation.bits.weights["a"], allocation.bits.activations[0]) == (4, 4)
    found = {one.what: one.why for one in alternatives(problem, allocation)}
    assert found == {
        "2 bits for all weights": "fits, and loses more: 6 instead of 4",
        "8 bits for all weights": "880 bytes of flash, 380 too many",
        "8 bits for all activations": "8,000 bytes of RAM, 4,000 too many",
        "a: 8 bits for its weights, not 4": "880 bytes of flash, 380 too many",
    }


def test_a_solution_that_is_not_the_best_is_told() -> None:
    problem, allocation = small(flash=500, ram=4000)
    worse = replace(allocation, bits=replace(allocation.bits, weights={"a": 2, "b": 8}))
    found = {one.what: one.why for one in alternatives(problem, worse)}
    assert found["a: 4 bits for its weights, not 2"] == "fits, and loses less: 4 instead of 6; it lies within the gap"
