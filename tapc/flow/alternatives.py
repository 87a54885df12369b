"""What each layer would have cost by other algorithms than its own."""

from dataclasses import replace

from tapc.base.options import Options
from tapc.flow.algorithms import forms_of
from tapc.flow.latency import Meter, meter
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.ir.program import Step
from tapc.kernels.conv import ConvSpec
from tapc.kernels.pooled import PooledSpec
from tapc.lower import Lowered
from tapc.report.alternatives import AlternativeReport


def alternatives(
    lowered: Lowered, board: Board, target: Target, options: Options
) -> dict[str, tuple[AlternativeReport, ...]]:
    """Return the ways to compute every convolution; its own is marked.

    Parameters
    ----------
    lowered : Lowered
        As it was built.
    board : Board
    target : Target
    options : Options
        What `optimize` leaves out is shown, too.
    """
    own, forms = meter(board, target, options), forms_of(target, replace(options, optimize="speed"))
    found = {}
    for step in lowered.steps:
        if not isinstance(step.spec, ConvSpec | PooledSpec):
            continue
        (plain, *_) = step.op.steps(lowered.program, {})
        usual = forms.default(plain, lowered.program)
        (direct, *_) = step.op.steps(lowered.program, {step.op.name: usual} if usual else {})
        ways = {"direct": direct}
        for schedule in forms.others(plain):
            (other, *_) = step.op.steps(lowered.program, {step.op.name: schedule})
            if isinstance(other.spec, ConvSpec) and other.spec.tuned == schedule:
                ways[schedule.algorithm] = other
        mine = "direct" if step.spec.tuned is None else step.spec.tuned.algorithm
        ways[mine] = step
        found[step.op.name] = tuple(_report(name, way, own, taken=name == mine) for name, way in ways.items())
    return found


def _report(name: str, step: Step, own: Meter, *, taken: bool) -> AlternativeReport:
    known = own.rates is not None or own.factors is not None
    return AlternativeReport(
        algorithm=name,
        taken=taken,
        instructions=own.cost.instructions(step.spec),
        cycles=round(own.cycles(step)) if known else None,
        constant_bytes=own.cost.constant_bytes(step),
        code_bytes=own.cost.code_bytes(step.spec),
        scratch_bytes=step.spec.scratch_bytes,
    )
