"""By which algorithm each convolution is computed: fewer instructions for more flash and scratch memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tapc.base.options import Options
from tapc.cost.model import CostModel
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.ir.program import Step
from tapc.kernels.conv import ConvSpec
from tapc.kernels.packing import weights_per_word
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import Schedule, transformed
from tapc.kernels.winograd import TRANSFORMS
from tapc.lower import Lowered, scheduled
from tapc.lower.place import fetched_bytes

BALANCED = 1.25
"""Of the flash that the smallest image takes, for `--optimize balanced`."""
BALANCED_RAM = 1.15
"""Of its arena."""
_ROOM = 0.02
"""Of the flash, kept free: code is predicted."""
_COMPACT = {8: 36, 4: 48, 2: 48}
"""Weight bits -> taps that a loop's body spells out, at most, where flash is what counts."""


@dataclass(frozen=True)
class Way:
    """One way to compute a layer.

    Attributes
    ----------
    layer : str
    schedule : Schedule
    flash : int
        Bytes of constants and code more than directly.
    saved : int
        Predicted instructions less, and cycles less to wait for constants from flash.
    scratch : int
        Bytes of scratch memory.
    """

    layer: str
    schedule: Schedule
    flash: int
    saved: int
    scratch: int


def with_algorithms(lowered: Lowered, board: Board, target: Target, cost: CostModel, options: Options) -> Lowered:
    """Return the network with the algorithms that take the fewest instructions within its flash and RAM.

    Of each layer all ways are known; a small integer program chooses. Scratch memory counts as the planner lays it out:
    where the arena becomes too large, the way with the most scratch memory is given up, and all others are chosen anew.
    """
    size = options.optimize == "size"
    singles = {name: schedule for step in lowered.steps for name, schedule in _single(step, target, compact=size)}
    if singles:
        lowered = scheduled(lowered.program, singles, source=lowered.source, seed=options.seed)
    if size:
        return lowered
    roomy = cost.coefficients.transform_stack_bytes <= board.stack_bytes
    ways = [way for step in lowered.steps if roomy for way in _ways(step, lowered, board, target, cost)]
    flash, arena = _limits(lowered, board, cost, options)
    while ways:
        chosen = _chosen(ways, flash)
        if not chosen:
            break
        schedules = singles | {way.layer: way.schedule for way in chosen}
        found = scheduled(lowered.program, schedules, source=lowered.source, seed=options.seed)
        if found.plan.size <= arena:
            return found
        worst = max(chosen, key=lambda way: way.scratch)
        ways = [way for way in ways if way.scratch < worst.scratch or way.layer != worst.layer]
    return lowered


def _single(step: Step, target: Target, *, compact: bool) -> Iterator[tuple[str, Schedule]]:
    """Yield the schedule of a convolution whose words are loaded one by one, where that takes fewer cycles.

    Compact, its loop is shorter: less code than that of pairs of words, and still fewer cycles.
    """
    if not (target.dual_issue and isinstance(step.spec, ConvSpec | PooledSpec)):
        return
    own, bits = step.spec.form.schedule, step.spec.w_bits
    if (own.rows, own.pixels) != (2, 2):
        return
    unroll = own.unroll
    if compact:
        most = _COMPACT[bits] // weights_per_word(bits)
        unroll = max(s.unroll for s in step.spec.form.candidates() if s.unroll <= min(most, own.unroll))
    yield step.op.name, replace(own, unroll=unroll, single=True)


def _ways(step: Step, lowered: Lowered, board: Board, target: Target, cost: CostModel) -> list[Way]:
    direct, bandwidth = step.spec, board.flash.bandwidth.at(board.clocks.cpu_hz)
    if not isinstance(direct, ConvSpec):
        return []
    found = []
    for algorithm in TRANSFORMS:
        schedule = transformed(algorithm, single=target.dual_issue)
        (other,) = step.op.steps(lowered.program, {step.op.name: schedule})
        if not isinstance(other.spec, ConvSpec) or other.spec.tuned != schedule:
            continue
        saved = cost.instructions(direct) - cost.instructions(other.spec)
        saved += round((fetched_bytes(step, target.dcache) - fetched_bytes(other, target.dcache)) / bandwidth)
        flash = cost.constant_bytes(other) - cost.constant_bytes(step)
        flash += cost.code_bytes(other.spec) - cost.code_bytes(direct)
        if saved > 0:
            found.append(Way(step.op.name, schedule, flash, saved, other.spec.scratch_bytes))
    return found


def _limits(lowered: Lowered, board: Board, cost: CostModel, options: Options) -> tuple[float, float]:
    """Return how many bytes of flash all ways together may add, and how many the arena may have."""
    taken, besides = cost.flash(lowered.steps), cost.coefficients.data_bytes + cost.coefficients.transform_stack_bytes
    flash = options.flash or board.flash.size
    arena = (options.ram or board.ram_limit(besides)) - besides
    if options.optimize == "balanced":
        return min(flash, BALANCED * taken) * (1 - _ROOM) - taken, min(arena, BALANCED_RAM * lowered.plan.size)
    return flash * (1 - _ROOM) - taken, arena


def _chosen(ways: list[Way], room: float) -> list[Way]:
    """Return at most one way of each layer: those that save the most with at most `room` bytes of flash more."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    layers = list(dict.fromkeys(way.layer for way in ways))
    one = np.array([[way.layer == layer for way in ways] for layer in layers], float)
    flash = np.array([[way.flash for way in ways]], float)
    if room <= 0 and flash.min() > room:
        return []
    result = milp(
        -np.array([way.saved for way in ways], float),
        constraints=[LinearConstraint(one, -np.inf, 1), LinearConstraint(flash, -np.inf, room)],
        integrality=np.ones(len(ways), np.int64),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    return [way for way, x in zip(ways, result.x if result.x is not None else (), strict=False) if x > 0.5]
