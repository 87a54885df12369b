"""Lowering: QDQ ONNX -> integer program -> kernels -> C library."""

from dataclasses import dataclass

import onnx

from tapc.arithmetic import Mode
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


def lower(model: onnx.ModelProto, name: str, mode: Mode, isa: Isa, *, seed: int = 0) -> Lowered:
    """Lower a QDQ model to steps with addresses."""
    program = fuse(program_from_onnx(model, name, mode, isa))
    steps = steps_of(program)
    return Lowered(program, steps, plan(program, steps, seed=seed))


__all__ = ["Library", "Lowered", "Plan", "Program", "Step", "lower"]
