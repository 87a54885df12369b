"""Choose every layer's bits: the least loss under the budgets, ties broken the same way every time."""

from dataclasses import replace

from tapc.allocate.diagnose import diagnose
from tapc.allocate.engine import Engine, Limits, Solution, TimeLimitError
from tapc.allocate.listing import best_listed
from tapc.allocate.problem import CONSTRAINTS, HIGH_BITS, LOW_BITS, Allocation, AllocationProblem, Status, Use
from tapc.graph.network import Bits


def solve(problem: AllocationProblem, *, time_limit: float = 60.0) -> Allocation:
    """Minimize the sum of sensitivity x distortion under the problem's budgets.

    Among allocations whose objectives differ by less than a relative 1e-9 the one with the fewest bytes of flash
    wins, then the one with the most bits (weight bits over layers plus activation bits over groups).

    Parameters
    ----------
    problem : AllocationProblem
    time_limit : float
        Seconds. An allocation that was found but not proved optimal by then has status "time_limit"; only such
        a result can differ between runs.

    Returns
    -------
    Allocation

    Raises
    ------
    AllocationError
        No allocation meets every budget; names the constraint, what is missing and the smallest workable budget.
    UsageError
        The time limit passed before any allocation was found.
    """
    engine = Engine(problem, time_limit)
    found = _solved(engine)
    if found is None:
        raise diagnose(engine, engine.limits())
    return found


def solved(problem: AllocationProblem, *, time_limit: float = 60.0) -> Allocation | None:
    """Return what `solve` returns, or None where no allocation meets every budget, without finding out why."""
    return _solved(Engine(problem, time_limit))


def _solved(engine: Engine) -> Allocation | None:
    problem, limits = engine.problem, engine.limits()
    status: Status = "uniform"
    if engine.ram.free or any(len(layer.choices) > 1 for layer in problem.layers):
        solution = best_listed(engine, limits)
        if solution is None:
            solution = engine.minimize("loss", limits)
            if solution is None:
                return None
            solution = _break_ties(engine, limits, solution)
        status = "optimal" if solution.proved else "time_limit"
    else:
        only = tuple(layer.choices[0] for layer in problem.layers)
        if engine.exceeded(only, frozenset(), limits):
            return None
        value = engine.total("loss", only)
        solution = Solution(only, frozenset(), value, value, proved=True)
    return _allocation(engine, solution, status)


def _break_ties(engine: Engine, limits: Limits, best: Solution) -> Solution:
    if not best.proved:
        return best
    try:
        fewest = engine.minimize("flash", {**limits, "loss": best.value})
        if fewest is None:
            return best
        widest = engine.minimize("narrowness", {**limits, "loss": best.value, "flash": fewest.value})
    except TimeLimitError:
        return replace(best, proved=False)
    chosen = widest or fewest
    proved = fewest.proved and chosen.proved
    value = engine.total("loss", chosen.choices)
    return Solution(chosen.choices, chosen.high, value, min(best.bound, value), proved)


def _allocation(engine: Engine, solution: Solution, status: Status) -> Allocation:
    problem, budgets = engine.problem, engine.problem.budgets
    used: dict[str, Use] = {}
    for name in CONSTRAINTS:
        if name == "ram":
            if problem.ram is not None:
                used[name] = Use(engine.ram.use(solution.high).bytes, budgets.ram)
            continue
        total = engine.total(name, solution.choices)
        if name == "target_bits":
            total /= max(engine.parameters, 1)
        elif name in ("flash", "bops"):
            total = int(total)
        used[name] = Use(total, getattr(budgets, name))
    weights = {layer.name: choice.w_bits for layer, choice in zip(problem.layers, solution.choices, strict=True)}
    activations = {
        i: group.allowed[0] if len(set(group.allowed)) == 1 else HIGH_BITS if i in solution.high else LOW_BITS
        for i, group in enumerate(problem.groups)
    }
    gap = (solution.value - solution.bound) / solution.value if solution.value > 0 else 0.0
    return Allocation(Bits(weights, activations), solution.value, solution.bound, gap, used, status)
