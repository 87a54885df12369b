"""Bit allocation: the least loss of accuracy under flash, peak SRAM, latency and BOPs budgets."""

from tapc.allocate.alternatives import alternatives
from tapc.allocate.build import AllocationOptions, CostModel, build_problem
from tapc.allocate.overrides import Overrides, load_overrides
from tapc.allocate.problem import (
    Allocation,
    AllocationError,
    AllocationProblem,
    Budgets,
    Choice,
    GroupChoices,
    LayerChoices,
    RamUse,
    Use,
    Violation,
)
from tapc.allocate.solve import solve, solved

__all__ = [
    "Allocation",
    "AllocationError",
    "AllocationOptions",
    "AllocationProblem",
    "Budgets",
    "Choice",
    "CostModel",
    "GroupChoices",
    "LayerChoices",
    "Overrides",
    "RamUse",
    "Use",
    "Violation",
    "alternatives",
    "build_problem",
    "load_overrides",
    "solve",
    "solved",
]
