"""Collects what a compilation did not take: what the stages refused, and what their results say of it."""

from collections.abc import Iterator

from tapc.allocate import alternatives
from tapc.base.refusal import Refusal
from tapc.report.compilation import Compilation
from tapc.report.refused import RefusedReport


def refused_reports(c: Compilation) -> tuple[RefusedReport, ...]:
    """Report every alternative that is known: builds, memory, kernels, firmware, training; then bits."""
    bits = () if c.problem is None else alternatives(c.problem, c.allocation)
    found = (*c.refused, *_outside(c), *_silent(c), *_rates(c), *bits)
    return tuple(RefusedReport(kind=one.kind, what=one.what, why=one.why) for one in found)


def _outside(c: Compilation) -> Iterator[Refusal]:
    for index, region in sorted(c.lowered.regions.items()):
        placed, name = c.placed[index], c.lowered.steps[index].op.name
        if not placed.bytes:  # an earlier band has them
            continue
        yield Refusal(
            "memory",
            f"constants of {name} ({placed.bytes:,} bytes) in {c.board.flash.name}",
            f"not all fit; reading these from {region} costs about {placed.stalls:,.0f} cycles, others would cost more",
        )


def _silent(c: Compilation) -> Iterator[Refusal]:
    if c.board.support is not None and not c.images.speaks:
        yield Refusal("firmware", "commands over UART", "no room beside the network: it runs one inference and sleeps")


def _rates(c: Compilation) -> Iterator[Refusal]:
    training = c.training
    for run in () if training is None else training.runs:
        if training is not None and run.rate != training.used_rate:
            why = f"loss {run.loss:.4g} on the samples kept back, {training.loss_before:.4g} before"
            yield Refusal("training", f"training at rate {run.rate:g}", why)
