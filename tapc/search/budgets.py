"""Bits that keep a device's budgets as measured, not only as predicted."""

import math
import threading
from collections.abc import Mapping
from dataclasses import replace

from tapc.allocate import AllocationError, solve
from tapc.allocate.problem import AllocationProblem
from tapc.base.errors import BudgetError
from tapc.graph.network import WEIGHT_BITS, Bits
from tapc.search.configuration import DeviceFigures
from tapc.search.measurements import Measurements
from tapc.search.networks import Subject

SOLVER = threading.Lock()
"""HiGHS keeps global state."""

ATTEMPTS = 4
"""How often bits are chosen again because the measurement missed a budget that the prediction met."""


def within_budgets(
    measurements: Measurements, subject: Subject, problem: AllocationProblem, own: Mapping[str, int] | None
) -> tuple[Bits, DeviceFigures]:
    """Choose bits that keep the budgets as measured, and return them with their figures.

    Parameters
    ----------
    measurements : Measurements
    subject : Subject
    problem : AllocationProblem
        With the scores.
    own : mapping, optional
        Weight bits that the proxy chose itself.

    Raises
    ------
    BudgetError
    """
    budgets = problem.budgets
    if own is not None:
        problem = _fixed(problem, own)
    refused: BudgetError | None = None
    for _ in range(ATTEMPTS if own is None else 1):
        try:
            with SOLVER:
                allocation = solve(problem)
            figures = measurements.device(subject, allocation.bits)
        except AllocationError as error:
            raise refused or error from error
        pairs = {
            "flash": (figures.flash, budgets.flash),
            "ram": (figures.ram, budgets.ram),
            "latency": (figures.instructions, budgets.latency),
        }
        excess = {
            name: math.ceil(used - limit) for name, (used, limit) in pairs.items() if limit is not None and used > limit
        }
        if not excess:
            return allocation.bits, figures
        what = ", ".join(f"{value:g} too much {name}" for name, value in excess.items())
        refused = BudgetError(f"{subject.name}: the bits that fit by prediction need {what} as measured")
        limits = {name: type(value)(allocation.used[name].used - value) for name, value in excess.items()}
        problem = replace(problem, budgets=replace(problem.budgets, **limits))
    assert refused is not None
    raise refused


def _fixed(problem: AllocationProblem, weights: Mapping[str, int]) -> AllocationProblem:
    """Leave each layer only the choices with its given weight bits."""
    assert set(weights.values()) <= set(WEIGHT_BITS)
    layers = tuple(
        replace(
            layer,
            choices=tuple(c for c in layer.choices if c.w_bits == weights[layer.name]),
            fixed_by="the proxy's allocate",
        )
        for layer in problem.layers
    )
    return replace(problem, layers=layers)
