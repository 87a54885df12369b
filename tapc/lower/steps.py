"""Integer program -> steps: which kernel instance runs when, on which tensors, with which constants."""

from collections.abc import Mapping

from tapc.ir.program import Program, Step
from tapc.kernels.schedule import Schedule


def steps_of(program: Program, schedules: Mapping[str, Schedule] | None = None) -> tuple[Step, ...]:
    """Select a kernel for every operator; reshapes that move nothing need none.

    Parameters
    ----------
    program : Program
    schedules : mapping of str to Schedule, optional
        Operator -> schedule, in place of the default.
    """
    return tuple(step for op in program.ops for step in op.steps(program, schedules or {}))
