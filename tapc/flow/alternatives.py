"""What each layer would have cost by other algorithms than its own."""

from dataclasses import replace

from tapc.base.options import Options
from tapc.flow.algorithms import Forms, by_layer, forms_of
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
    for steps in by_layer(lowered.steps):
        step = steps[0]
        if not isinstance(step.spec, ConvSpec | PooledSpec):
            continue
        ways: dict[str, list[Step]] = {}
        for band in steps:
            for name, way in _ways(band, lowered, forms).items():
                ways.setdefault(name, []).append(way)
        mine = _own_way(step, lowered, forms)
        found[step.op.name] = tuple(_report(name, own, way, taken=name == mine) for name, way in ways.items())
    return found


def _ways(step: Step, lowered: Lowered, forms: Forms) -> dict[str, Step]:
    """Return a step by all algorithms, its own as it is."""
    (plain, *_) = step.op.steps(lowered.program, {})
    usual = forms.default(plain, lowered.program)
    (direct, *_) = step.op.steps(lowered.program, {step.op.name: usual} if usual else {})
    ways = {"direct": direct}
    for schedule in forms.others(plain):
        (other, *_) = step.op.steps(lowered.program, {step.op.name: schedule})
        if getattr(other.spec, "tuned", None) == schedule:
            ways[schedule.way] = other
    return ways | {_own_way(step, lowered, forms): step}


def _own_way(step: Step, lowered: Lowered, forms: Forms) -> str:
    """Return what a step is computed by: nested weights are direct where they are usual."""
    tuned = step.spec.tuned if isinstance(step.spec, ConvSpec | PooledSpec) else None
    (plain, *_) = step.op.steps(lowered.program, {})
    known = [schedule.way for schedule in forms.others(plain)]
    return tuned.way if tuned is not None and tuned.way in known else "direct"


def _report(name: str, own: Meter, bands: list[Step], *, taken: bool) -> AlternativeReport:
    known = own.rates is not None or own.factors is not None
    return AlternativeReport(
        algorithm=name,
        taken=taken,
        instructions=sum(own.cost.instructions(step.spec) for step in bands),
        cycles=sum(round(own.cycles(step)) for step in bands) if known else None,
        constant_bytes=max(own.cost.constant_bytes(step) for step in bands),
        code_bytes=sum(own.cost.code_bytes(spec) for spec in {step.spec for step in bands}),
        scratch_bytes=max(step.spec.scratch_bytes for step in bands),
    )
