"""Lowering: QDQ ONNX -> integer program -> kernels -> C library."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from tapc.arithmetic import Mode
from tapc.kernels.schedule import Schedule
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.fuse import fuse
from tapc.lower.library import Library, generate
from tapc.lower.plan import Plan, plan
from tapc.lower.program import Program
from tapc.lower.steps import Step, steps_of
from tapc.target import Isa


@dataclass(frozen=True, eq=False)
class Lowered:
    """A network ready for the C compiler.

    Attributes
    ----------
    program : Program
    steps : tuple of Step
    plan : Plan
    """

    program: Program
    steps: tuple[Step, ...]
    plan: Plan

    def library(self) -> Library:
        """Generate the C sources (this is where TVM runs)."""
        return generate(self.program, self.steps, self.plan)


def lower(
    model: onnx.ModelProto,
    name: str,
    mode: Mode,
    isa: Isa,
    *,
    seed: int = 0,
    schedules: Mapping[str, Schedule] | None = None,
) -> Lowered:
    """Lower a QDQ model to steps with addresses; `schedules` name operators that have a tuned schedule."""
    program = fuse(program_from_onnx(model, name, mode, isa))
    return scheduled(program, schedules, seed=seed)


def scheduled(program: Program, schedules: Mapping[str, Schedule] | None, *, seed: int = 0) -> Lowered:
    """Select kernels with these schedules and plan their memory."""
    steps = steps_of(program, schedules)
    return Lowered(program, steps, plan(program, steps, seed=seed))


__all__ = ["Library", "Lowered", "Plan", "Program", "Step", "lower", "scheduled"]
