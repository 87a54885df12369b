from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from allocate.problems import brute_force, fits, greedy, problems, totals
from tapc.allocate import (
    AllocationError,
    AllocationProblem,
    Budgets,
    Choice,
    GroupChoices,
    LayerChoices,
    RamUse,
    solve,
    solved,
)
from tapc.base.errors import BudgetError, UsageError

SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def measured(problem, allocation):
    groups = tuple(allocation.bits.activations[i] for i in range(len(problem.groups)))
    choices = tuple(
        next(
            c
            for c in layer.choices
            if (c.w_bits, c.a_bits) == (allocation.bits.weights[layer.name], groups[layer.input_group])
        )
        for layer in problem.layers
    )
    return totals(problem, (choices, groups))


@SETTINGS
@given(problems())
def test_equals_brute_force_ties_included(problem):
    best = brute_force(problem)
    if best is None:
        with pytest.raises(AllocationError):
            solve(problem)
        return
    allocation = solve(problem)
    used = measured(problem, allocation)
    assert (used["loss"], used["flash"], used["bits"]) == (best["loss"], best["flash"], best["bits"])
    assert allocation.objective == pytest.approx(best["loss"])
    assert allocation.bound <= allocation.objective
    assert allocation.gap == pytest.approx(0, abs=1e-6)
    for name, use in allocation.used.items():
        assert use.used == pytest.approx(used[name])
        assert use.limit == getattr(problem.budgets, name)


@SETTINGS
@given(problems())
def test_never_worse_than_greedy(problem):
    baseline = greedy(problem)
    if baseline is not None:
        assert solve(problem).objective <= baseline["loss"] + 1e-9


@SETTINGS
@given(problems(("ram", "flash"), tight=True))
def test_infeasible_names_the_smallest_budget_and_it_works(problem):
    if brute_force(problem) is not None:
        return
    with pytest.raises(AllocationError) as caught:
        solve(problem)
    error = caught.value
    if error.alternatives:
        for violation in error.violations:
            name, smallest = violation.constraint, int(violation.smallest)
            assert f"{smallest} bytes" in str(error)
            assert f"{smallest - getattr(problem.budgets, name)} too few" in str(error)
            solve(replace(problem, budgets=replace(problem.budgets, **{name: smallest})))
            with pytest.raises(AllocationError):
                solve(replace(problem, budgets=replace(problem.budgets, **{name: smallest - 1})))
    else:
        raised = {v.constraint: int(v.smallest) for v in error.violations}
        assert len(raised) > 1
        solve(replace(problem, budgets=replace(problem.budgets, **raised)))
        for name, value in raised.items():
            tighter = replace(problem.budgets, **{**raised, name: value - 1})
            assert brute_force(replace(problem, budgets=tighter)) is None


@SETTINGS
@given(problems(("latency", "bops", "target_bits"), tight=True))
def test_smallest_budgets_of_other_constraints_work(problem):
    if brute_force(problem) is not None:
        return
    with pytest.raises(AllocationError) as caught:
        solve(problem)
    raised = {v.constraint: v.smallest for v in caught.value.violations}
    if caught.value.alternatives:
        raised = dict([next(iter(raised.items()))])
    for name, value in raised.items():
        assert value > getattr(problem.budgets, name)
    solve(replace(problem, budgets=replace(problem.budgets, **raised)))


def layer(name, group, parameters, losses, a_bits=(8,), fixed_by=""):
    choices = tuple(
        Choice(w, a, loss * (1 if a == 8 else 3), parameters * w // 8, 1.5 * parameters * w, parameters * w * a)
        for a in a_bits
        for w, loss in zip((2, 4, 8), losses, strict=True)
    )
    return LayerChoices(name, group, parameters, choices, fixed_by)


def residual_like(count, seed=0, budget=None, ram_budget=None):
    """A network of the size of a ResNet: each free group read by two layers, memory peaks at neighbouring groups."""
    rng = np.random.default_rng(seed)
    groups = (GroupChoices(True, (8,)), *(GroupChoices(False, (4, 8)) for _ in range(count // 2)))
    layers = tuple(
        layer(
            f"layer{i}",
            (i + 1) // 2,
            int(rng.integers(1, 200)) * 144,
            rng.lognormal(0, 1) * np.array([1, 0.05, 2e-4]) * rng.uniform(0.8, 1.2, 3),
            groups[(i + 1) // 2].allowed,
        )
        for i in range(count)
    )
    sizes = [int(s) for s in rng.integers(1, 9, len(groups)) * 1024]

    def ram(bits):
        return RamUse(max(sizes[i] * bits[i] + sizes[i + 1] * bits[i + 1] for i in range(len(sizes) - 1)) // 8)

    return AllocationProblem(layers, groups, Budgets(target_bits=budget, ram=ram_budget), ram=ram)


def test_is_deterministic_and_proved_at_resnet_size():
    problem = residual_like(21, budget=4)
    allocations = [solve(problem) for _ in range(3)]
    assert allocations[0] == allocations[1] == allocations[2]
    assert allocations[0].status == "optimal"
    assert allocations[0].gap < 1e-8
    assert 3.5 < allocations[0].used["target_bits"].used <= 4


def test_ram_cuts_reach_a_tight_budget():
    problem = residual_like(21, budget=4)
    least = problem.ram(dict.fromkeys(range(len(problem.groups)), 4) | {0: 8}).bytes
    most = problem.ram(dict.fromkeys(range(len(problem.groups)), 8)).bytes
    budget = (least + most) // 2
    calls = []

    def counting(bits):
        calls.append(dict(bits))
        return problem.ram(bits)

    tight = replace(problem, budgets=replace(problem.budgets, ram=budget), ram=counting)
    allocation = solve(tight)
    assert allocation.used["ram"].used <= budget
    assert allocation.objective > solve(problem).objective
    assert set(allocation.bits.activations.values()) == {4, 8}
    assert len(calls) < 150
    assert len({tuple(sorted(c.items())) for c in calls}) == len(calls)


def test_ram_is_asked_once_where_everything_fits():
    calls = []
    problem = residual_like(8, budget=4)

    def counting(bits):
        calls.append(bits)
        return problem.ram(bits)

    solve(replace(problem, budgets=Budgets(target_bits=4, ram=10**6), ram=counting))
    assert len(calls) <= 2


def test_small_losses_beside_large_ones_are_not_lost():
    layers = (
        layer("huge", 0, 10, (1e9, 1e8, 0)),
        layer("a", 0, 10, (3e-9, 2e-9, 0)),
        layer("b", 0, 10, (5e-9, 2.5e-9, 0)),
    )
    problem = AllocationProblem(layers, (GroupChoices(True, (8,)),), Budgets(flash=10 + 10 + 5))
    allocation = solve(problem)
    assert allocation.bits.weights == {"huge": 8, "a": 4, "b": 8}
    assert allocation.objective == pytest.approx(2e-9)


def test_uniform_needs_no_solver_but_keeps_budgets(monkeypatch):
    monkeypatch.setattr("tapc.allocate.engine.milp", None)
    one = LayerChoices("conv", 0, 100, (Choice(4, 8, 0.5, 50, 10, 3200),))
    problem = AllocationProblem((one,), (GroupChoices(True, (8,)),), Budgets(flash=60), fixed_flash=10)
    allocation = solve(problem)
    assert allocation.status == "uniform"
    assert allocation.bits.weights == {"conv": 4}
    assert allocation.used["flash"].used == 60
    monkeypatch.undo()
    with pytest.raises(BudgetError, match=r"budget is 59 bytes, 1 too few.*works is 60 bytes \(--flash\)"):
        solve(replace(problem, budgets=Budgets(flash=59)))


def test_message_names_region_layers_and_pins():
    layers = (layer("stem", 0, 80, (1, 1, 1)), layer("head", 0, 160, (3, 2, 1)))
    pinned = replace(layers[1], choices=layers[1].choices[2:], fixed_by="pinned")
    problem = AllocationProblem(
        (layers[0], pinned), (GroupChoices(True, (8,)),), Budgets(flash=100), regions={"flash": "region FLASH"}
    )
    with pytest.raises(AllocationError) as caught:
        solve(problem)
    text = str(caught.value)
    assert "flash (region FLASH): the budget is 100 bytes, 80 too few" in text
    assert "smallest budget that works is 180 bytes (--flash)" in text
    assert text.index("head (160 bytes at w8a8, pinned)") < text.index("stem (20 bytes at w2a8)")
    assert caught.value.exit_code == 5


def test_two_budgets_in_conflict_are_both_offered():
    # flash falls with fewer weight bits, latency rises: either budget can be raised alone
    choices = (Choice(2, 8, 2, 25, 400, 1), Choice(8, 8, 1, 100, 100, 1))
    one = LayerChoices("conv", 0, 100, choices)
    problem = AllocationProblem((one,), (GroupChoices(True, (8,)),), Budgets(flash=50, latency=200))
    with pytest.raises(AllocationError) as caught:
        solve(problem)
    assert caught.value.alternatives
    assert {(v.constraint, v.smallest) for v in caught.value.violations} == {("flash", 100), ("latency", 400)}
    assert "raise instead" in str(caught.value)


def test_budgets_that_are_all_too_small_are_all_named():
    problem = AllocationProblem(
        (layer("conv", 0, 80, (2, 1, 0)),), (GroupChoices(True, (8,)),), Budgets(flash=10, bops=1000)
    )
    with pytest.raises(AllocationError, match="and also: bops: the budget is 1000 BOPs, 280 too few") as caught:
        solve(problem)
    assert not caught.value.alternatives
    assert {v.constraint: v.smallest for v in caught.value.violations} == {"flash": 20, "bops": 1280}


def test_smallest_ram_budget_is_not_that_of_the_fewest_wide_groups():
    # 4-bit inputs are slow: latency needs group 0 wide, or both of groups 1 and 2, which take less memory together
    saved, sizes = (20, 10, 10), (500, 100, 120)
    layers = tuple(
        LayerChoices(f"conv{i}", i, 1, (Choice(8, 4, 0, 1, 100, 1), Choice(8, 8, 0, 1, 100 - saved[i], 1)))
        for i in range(3)
    )
    problem = AllocationProblem(
        layers,
        (GroupChoices(False, (4, 8)),) * 3,
        Budgets(latency=280, ram=150),
        ram=lambda bits: RamUse(sum(sizes[i] for i in range(3) if bits[i] == 8)),
    )
    with pytest.raises(AllocationError) as caught:
        solve(problem)
    smallest = {v.constraint: v.smallest for v in caught.value.violations}
    assert smallest == {"ram": 220, "latency": 290}


def test_ram_violation_names_the_layers_at_the_peak():
    problem = AllocationProblem(
        (layer("conv", 0, 8, (2, 1, 0)),),
        (GroupChoices(True, (8,)), GroupChoices(False, (4, 8))),
        Budgets(ram=100),
        ram=lambda bits: RamUse(100 * sum(bits.values()), ("conv", "pool")),
    )
    with pytest.raises(AllocationError, match=r"ram.*1100 too few.*1200 bytes \(--ram\).*peak: conv, pool"):
        solve(problem)


def test_time_limit_without_a_solution_is_an_error():
    with pytest.raises(UsageError, match="within 0 s"):
        solve(residual_like(8, budget=4), time_limit=0)


def test_a_ram_budget_needs_a_ram_model():
    with pytest.raises(ValueError, match="RAM model"):
        AllocationProblem((), (), Budgets(ram=1))


def test_fractional_latency_budget_that_is_exactly_met():
    problem = residual_like(6)
    value = solve(problem).used["latency"].used
    again = solve(replace(problem, budgets=Budgets(latency=value)))
    assert again.used["latency"].used == value
    assert fits(replace(problem, budgets=Budgets(latency=value)), {"latency": value})


@SETTINGS
@given(problems())
def test_solved_is_the_same_and_none_where_nothing_fits(problem: AllocationProblem) -> None:
    found = solved(problem)
    try:
        assert found == solve(problem)
    except AllocationError:
        assert found is None
