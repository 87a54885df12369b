"""Lowering: QDQ ONNX -> integer program -> kernels -> C library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx

from tapc.base.arithmetic import Mode
from tapc.base.isa import Isa
from tapc.ir.bands import Patch
from tapc.ir.program import Program, Step
from tapc.kernels.conv import ConvSpec
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.lower.facts import Facts
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.fuse import fuse
from tapc.lower.library import Library, function_names, generate, names_of, shown_files
from tapc.lower.names import Names
from tapc.lower.patches import patched
from tapc.lower.plan import Plan, plan
from tapc.lower.prune import prune
from tapc.lower.steps import steps_of, unified


@dataclass(frozen=True, eq=False)
class Lowered:
    """A network ready for the C compiler.

    Attributes
    ----------
    program : Program
        What runs.
    steps : tuple of Step
    plan : Plan
    source : Program or None
        The network before any rewrite; None where that is `program`.
    regions : mapping of int to str
        Step -> region of its constants, of those that are not in internal flash.
    """

    program: Program
    steps: tuple[Step, ...]
    plan: Plan
    source: Program | None = None
    regions: Mapping[int, str] = field(default_factory=dict)

    @property
    def reference(self) -> Program:
        """What the device must equal, on the channels that it still has."""
        return self.program if self.source is None else self.source

    @property
    def names(self) -> Names:
        """Names of the C library."""
        return names_of(self.program)

    @property
    def functions(self) -> dict[KernelSpec, str]:
        """Kernel specification -> C function."""
        return function_names(self.steps, self.names)

    @property
    def schedules(self) -> dict[str, Schedule]:
        """Layer -> its schedule, where it is not the default."""
        specs = {step.op.name: step.spec for step in self.steps}
        convolutions = {name: spec for name, spec in specs.items() if isinstance(spec, ConvSpec | PooledSpec)}
        return {name: spec.tuned for name, spec in convolutions.items() if spec.tuned is not None}

    def library(self, facts: Facts | None = None) -> Library:
        """Generate the C sources (this is where TVM runs)."""
        return generate(self.program, self.steps, self.plan, self.regions, facts)

    def shown_files(self, facts: Facts) -> dict[str, str]:
        """Return the library's files that tell `facts`; none of them is code of the network."""
        return shown_files(self.program, self.steps, self.plan, self.regions, facts)


def lower(
    model: onnx.ModelProto,
    name: str,
    mode: Mode,
    isa: Isa,
    *,
    seed: int = 0,
    schedules: Mapping[str, Schedule] | None = None,
    patches: Sequence[Patch] = (),
    prefix: str = "",
) -> Lowered:
    """Lower a QDQ model to steps with addresses.

    Parameters
    ----------
    model : onnx.ModelProto
    name : str
        The network's.
    mode, isa
        Of the core.
    seed : int
        Of the arena's planner.
    schedules : mapping of str to Schedule, optional
        Operators that have a tuned schedule.
    patches : sequence of Patch
        What is computed in bands.
    prefix : str
        What the C library's names begin with; empty: made of `name`.
    """
    source = replace(program_from_onnx(model, name, mode, isa), prefix=prefix)
    return scheduled(patched(fuse(prune(source)), patches), schedules, source=source, seed=seed)


def scheduled(
    program: Program, schedules: Mapping[str, Schedule] | None, *, source: Program | None = None, seed: int = 0
) -> Lowered:
    """Select kernels with these schedules and plan their memory; `source` is the program before pruning."""
    steps = unified(program, steps_of(program, schedules))
    return Lowered(program, steps, plan(program, steps, seed=seed), source or program)


__all__ = ["Library", "Lowered", "Plan", "Program", "Step", "lower", "scheduled"]
