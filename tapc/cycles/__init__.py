"""Estimated cycles: how often each basic block ran, times what a model of the core's pipeline says about it."""

from tapc.cycles.estimate import Estimate, available, estimate, source
from tapc.cycles.steps import flash_stalls, step_cycles

__all__ = ["Estimate", "available", "estimate", "flash_stalls", "source", "step_cycles"]
