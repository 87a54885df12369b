"""Explain why no allocation meets the budgets: which one is too small, by how much, and what would work."""

import math
from dataclasses import replace

from tapc.allocate.engine import QUANTITIES, Engine, Limits, Solution
from tapc.allocate.problem import (
    CONSTRAINTS,
    AllocationError,
    AllocationProblem,
    Choice,
    Constraint,
    LayerChoices,
    Violation,
)

_LAYERS_NAMED = 3


def diagnose(engine: Engine, limits: Limits) -> AllocationError:
    """Return the error for limits that no allocation keeps.

    Each limit is dropped in turn and its quantity minimized under the others. Where that works the budget is one
    that can be raised alone; the one that grows by the smallest factor comes first. Where it works for none,
    several are too small: they are added one after the other, each raised to the least that the earlier ones leave.
    """
    order: list[Constraint] = [name for name in CONSTRAINTS if name in limits]
    alone = [v for name in order if (v := _violation(engine, name, limits)) is not None]
    if alone:
        alone.sort(key=lambda violation: violation.smallest / max(violation.limit, 1e-9))
        return AllocationError(message(engine.problem, alone, alternatives=True), tuple(alone), True, engine.problem)
    kept: Limits = {}
    several: list[Violation] = []
    for name in order:
        best = _least(engine, name, kept)
        assert best is not None
        kept[name] = limits[name]
        if best.value > limits[name]:
            kept[name] = best.value
            several.append(_describe(engine, name, best))
    text = message(engine.problem, several, alternatives=False)
    return AllocationError(text, tuple(several), False, engine.problem)


def revised(error: AllocationError, constraint: Constraint, limit: float, smallest: float) -> AllocationError:
    """Return the same error with a constraint's original limit, and its smallest budget measured, not predicted."""
    violations = [
        replace(v, limit=limit, smallest=smallest) if v.constraint == constraint else v for v in error.violations
    ]
    text = message(error.problem, violations, alternatives=error.alternatives)
    return AllocationError(text, tuple(violations), error.alternatives, error.problem)


def _least(engine: Engine, name: Constraint, limits: Limits) -> Solution | None:
    others = {other: limit for other, limit in limits.items() if other != name}
    return engine.minimize_ram(others) if name == "ram" else engine.minimize(name, others)


def _violation(engine: Engine, name: Constraint, limits: Limits) -> Violation | None:
    best = _least(engine, name, limits)
    return None if best is None else _describe(engine, name, best)


def _describe(engine: Engine, name: Constraint, best: Solution) -> Violation:
    budget = getattr(engine.problem.budgets, name)
    smallest = best.value / engine.parameters if name == "target_bits" else best.value
    ram = name == "ram"
    use = engine.ram.use(best.high) if ram else None
    layers = _largest(engine.problem, name, best.choices) if use is None else use.limiting
    return Violation(name, budget, _round_up(smallest), layers, "" if use is None else use.how)


def _round_up(value: float) -> float:
    """Return a whole number unchanged, otherwise the next multiple of 0.0001, so that it works when typed in."""
    return int(value) if float(value).is_integer() else math.ceil(value * 1e4 + 1e-3) / 1e4


def _largest(problem: AllocationProblem, name: Constraint, choices: tuple[Choice, ...]) -> tuple[str, ...]:
    value = QUANTITIES[name]
    sized = [(value(layer, choice), layer, choice) for layer, choice in zip(problem.layers, choices, strict=True)]
    sized.sort(key=lambda entry: -entry[0])
    divisor = sum(layer.parameters for layer in problem.layers) if name == "target_bits" else 1
    return tuple(
        _layer(layer, choice, size / divisor, _unit(problem, name)) for size, layer, choice in sized[:_LAYERS_NAMED]
    )


def _layer(layer: LayerChoices, choice: Choice, size: float, unit: str) -> str:
    why = f", {layer.fixed_by}" if layer.fixed_by else ""
    return f"{layer.name} ({size:.10g} {unit} at w{choice.w_bits}a{choice.a_bits}{why})"


def _unit(problem: AllocationProblem, name: Constraint) -> str:
    units = {"flash": "bytes", "ram": "bytes", "bops": "BOPs", "target_bits": "bits per weight"}
    return units.get(name, problem.latency_unit)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.10g}"


def _sentence(problem: AllocationProblem, violation: Violation) -> str:
    name, unit = violation.constraint, _unit(problem, violation.constraint)
    region = f" ({problem.regions[name]})" if name in problem.regions else ""
    what = "average weight bits" if name == "target_bits" else name
    text = (
        f"{what}{region}: the budget is {_number(violation.limit)} {unit}, "
        f"{_number(violation.smallest - violation.limit)} too few; "
        f"the smallest budget that works is {_number(violation.smallest)} {unit} (--{name.replace('_', '-')})"
    )
    if violation.how:
        text += f", computed in patches: {violation.how}"
    if violation.layers:
        text += f"; {'alive at the peak' if name == 'ram' else 'largest'}: {', '.join(violation.layers)}"
    return text


def message(problem: AllocationProblem, violations: list[Violation], alternatives: bool) -> str:
    """Say which budgets fail, by how much and what would work."""
    first, *rest = (_sentence(problem, violation) for violation in violations)
    joint = "\nor keep it and raise instead: " if alternatives else "\nand also: "
    return f"no bit allocation fits. {first}" + "".join(joint + sentence for sentence in rest)
