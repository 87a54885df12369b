"""By which algorithm each convolution is computed: fewer instructions for more flash and scratch memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tapc.base.options import Options
from tapc.cost.model import CostModel
from tapc.flow.latency import Meter, meter
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.ir.program import Program, Step
from tapc.kernels.conv import ConvSpec
from tapc.kernels.packing import weights_per_word
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import SPELLED, Schedule, transformed
from tapc.kernels.spec import KernelSpec
from tapc.kernels.winograd import TRANSFORMS
from tapc.lower import Lowered, scheduled
from tapc.lower.fast import fast_region
from tapc.lower.place import constant_bytes, fetched_bytes

BALANCED = 1.25
"""Of the flash that the smallest image takes, for `--optimize balanced`."""
BALANCED_RAM = 1.15
"""Of its arena."""
ROOM = 0.02
"""Of the flash, kept free: code is predicted."""
_COMPACT = {8: 36, 4: 48, 2: 48}
"""Weight bits -> taps that a loop's body spells out, at most, where flash is what counts."""

_NESTED = {"size": 36, "balanced": 48, "ram": 48}
"""What is optimized -> the same of weights of which two share a half-word; `SPELLED` for speed."""


@dataclass(frozen=True)
class Forms:
    """How layers may be computed on a core.

    Attributes
    ----------
    single : bool
        Words may be loaded one by one: more instructions, fewer cycles.
    nested : int
        Taps that a loop's body spells out, at most, where two weights share a half-word (`tapc.kernels.nested`): more
        instructions and fewer cycles, too; 0 where none may.
    compact : bool
        Of code that is as fast, the shorter counts: loops are shorter.
    transforms : bool
        Convolutions may be computed by transforms.
    bytes : bool
        Narrow weights may be stored as bytes of which two share a half-word.
    least : bool
        Scratch memory counts before time.
    """

    single: bool
    nested: int
    compact: bool
    transforms: bool
    bytes: bool
    least: bool = False

    def default(self, step: Step, program: Program) -> Schedule | None:
        """Return the schedule that a layer has unless another is chosen; None for that of its kernel."""
        if not isinstance(step.spec, ConvSpec | PooledSpec):
            return None
        form, bits = step.spec.form, step.spec.w_bits
        nested = form.nested(self.nested, single=self.single) if self.nested and bits == 8 else None
        if nested is not None:
            (other, *_) = step.op.steps(program, {step.op.name: nested})
            if getattr(other.spec, "tuned", None) == nested:
                return nested
        own = form.schedule
        if not self.single or (own.rows, own.pixels) != (2, 2):
            return None
        unroll = own.unroll
        if self.compact:
            most = _COMPACT[bits]
            unroll = max(s.unroll for s in form.candidates() if s.unroll <= min(most // weights_per_word(bits), unroll))
        return replace(own, unroll=unroll, single=True)

    def direct(self, step: Step, program: Program) -> tuple[Schedule | None, ...]:
        """Return those of all tiles, without transforms; first the one that it has unless another is chosen."""
        if not isinstance(step.spec, ConvSpec | PooledSpec):
            return (None,)
        (plain, *_) = step.op.steps(program, {})
        assert isinstance(plain.spec, ConvSpec | PooledSpec)
        own = plain.spec.form.schedule
        tiles: dict[tuple[int, int], Schedule] = {}
        for other in plain.spec.form.candidates():
            # Larger tiles have more sums than registers hold.
            if other.unroll <= own.unroll and other.rows * other.pixels <= own.rows * own.pixels:
                tiles.setdefault((other.rows, other.pixels), other)
        found: list[Schedule | None] = [self.default(step, program), None]
        for tile in tiles.values():
            (other_step, *_) = step.op.steps(program, {step.op.name: tile})
            if isinstance(other_step.spec, ConvSpec | PooledSpec):
                usual = self.default(other_step, program)
                found += [usual, tile] if usual is not None and usual.nested else [tile]
        return tuple(dict.fromkeys(found))

    def smallest(self, step: Step, program: Program) -> Schedule | None:
        """Return the one of the least scratch memory where that counts, of equal ones the first; else the default."""
        ways = self.direct(step, program) if self.least else (self.default(step, program),)
        return min(ways, key=lambda way: _scratch(step, program, way)) if len(ways) > 1 else ways[0]

    def others(self, step: Step) -> tuple[Schedule, ...]:
        """Return those that it may have for more flash."""
        if not isinstance(step.spec, ConvSpec | PooledSpec):
            return ()
        found = []
        if self.transforms:
            found = [transformed(algorithm, single=self.single) for algorithm in TRANSFORMS]
        if self.bytes and self.nested and step.spec.w_bits < 8:
            nested = step.spec.form.nested(self.nested, single=self.single)
            found += [] if nested is None else [nested]
        return tuple(found)


def _scratch(step: Step, program: Program, schedule: Schedule | None) -> int:
    (other, *_) = step.op.steps(program, {} if schedule is None else {step.op.name: schedule})
    return other.spec.scratch_bytes


def forms_of(target: Target, options: Options) -> Forms:
    """Return what a compilation may choose from.

    Where instructions are bounded, they count: single loads take more of them. So they do where flash counts on a core
    that issues one instruction at a time.
    """
    size = options.optimize == "size"
    bounded = options.latency is not None and options.latency.unit == "instructions"
    nested = 0 if bounded or (size and not target.dual_issue) else _NESTED.get(options.optimize, SPELLED)
    least = options.optimize == "ram"
    more = not (size or least)  # flash may be spent
    return Forms(target.dual_issue and not bounded, nested, size, more, more, least)


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
        Predicted cycles less, those to wait for constants from flash among them; instructions where nothing tells
        the core's cycles.
    scratch : int
        Bytes of scratch memory.
    arena : int
        Bytes that the arena has at least: scratch memory, and what is alive beside.
    """

    layer: str
    schedule: Schedule
    flash: int
    saved: int
    scratch: int
    arena: int


def with_algorithms(lowered: Lowered, board: Board, target: Target, options: Options) -> Lowered:
    """Return the network with the algorithms that take the least time within its flash and RAM.

    Of each layer all ways are known; a small integer program chooses. Scratch memory counts as the planner lays it out:
    where the arena becomes too large, the way with the most scratch memory is given up, and all others are chosen anew.
    Balanced, it takes more flash than else where the latency's budget needs it.
    """
    forms, own = forms_of(target, options), meter(board, target, options)
    typical = [steps[len(steps) // 2] for steps in by_layer(lowered.steps)]
    defaults = {step.op.name: forms.default(step, lowered.program) for step in typical}
    singles = {name: schedule for name, schedule in defaults.items() if schedule is not None}
    if singles:
        lowered = scheduled(lowered.program, singles, source=lowered.source, seed=options.seed)
    if own.cost.coefficients.transform_stack_bytes > board.stack_bytes:
        forms = replace(forms, transforms=False)
    ways = [way for steps in by_layer(lowered.steps) for way in _ways(steps, lowered, board, target, forms, own)]
    limits = [_limits(lowered, board, own.cost, options)]
    if options.latency is not None and options.optimize == "balanced":
        limits.append(_limits(lowered, board, own.cost, replace(options, optimize="speed")))
    found = lowered
    for flash, arena in limits:
        found = _within(lowered, singles, ways, flash, arena, options.seed)
        if options.latency is None or sum(map(own.of, found.steps)) <= options.latency.amount:
            break
    return found


def _within(
    lowered: Lowered, singles: Mapping[str, Schedule], ways: list[Way], flash: float, arena: float, seed: int
) -> Lowered:
    ways = [way for way in ways if way.arena <= arena]
    while ways:
        chosen = _chosen(ways, flash)
        if not chosen:
            break
        schedules = {**singles, **{way.layer: way.schedule for way in chosen}}
        found = scheduled(lowered.program, schedules, source=lowered.source, seed=seed)
        if found.plan.size <= arena:
            return found
        worst = max(chosen, key=lambda way: way.scratch)
        ways = [way for way in ways if way.scratch < worst.scratch or way.layer != worst.layer]
    return lowered


def by_layer(steps: Sequence[Step]) -> list[list[Step]]:
    """Return the steps of every layer; in patches it has one for each band."""
    layers: dict[str, list[Step]] = {}
    for step in steps:
        layers.setdefault(step.op.name, []).append(step)
    return list(layers.values())


def _ways(steps: list[Step], lowered: Lowered, board: Board, target: Target, forms: Forms, own: Meter) -> list[Way]:
    bandwidth, found, step = board.flash.bandwidth.at(board.clocks.cpu_hz), [], steps[0]
    fast = fast_region(board, "weights", board.flash)
    beside = [_beside(band, lowered) for band in steps]
    for schedule in forms.others(step):
        known: dict[KernelSpec, Step] = {}  # equal bands are equal by any algorithm
        others = []
        for band in steps:
            if band.spec not in known:
                (known[band.spec],) = band.op.steps(lowered.program, {step.op.name: schedule})
            others.append(known[band.spec])
        if not all(getattr(other.spec, "tuned", None) == schedule for other in others):
            continue
        again = [
            # What start-up may copy to a fast memory waits for no flash.
            sum(
                fetched_bytes(s, target.dcache) - constant_bytes(s)
                for s in every
                if fast is None or constant_bytes(s) > fast.size
            )
            for every in (steps, others)
        ]
        saved = round(sum(map(own.cycles, steps)) - sum(map(own.cycles, others)) + (again[0] - again[1]) / bandwidth)
        flash = own.cost.constant_bytes(others[0]) - own.cost.constant_bytes(step)
        flash += sum(own.cost.code_bytes(other.spec) - own.cost.code_bytes(spec) for spec, other in known.items())
        if saved > 0:
            scratch = [other.spec.scratch_bytes for other in others]
            arena = max(own + rest for own, rest in zip(scratch, beside, strict=True))
            found.append(Way(step.op.name, schedule, flash, saved, max(scratch), arena))
    return found


def _beside(step: Step, lowered: Lowered) -> int:
    """Return how many bytes are alive beside a step's scratch memory, at least: its output may lie over an input."""
    place = next(i for i, other in enumerate(lowered.steps) if other is step)
    buffers = [b for b in lowered.plan.buffers if not b.name.startswith("scratch ")]
    alive = sum(b.size for b in buffers if b.first <= place <= b.last)
    own, tensors = lowered.program.tensors[step.output].bytes, lowered.program.tensors
    return alive - min(own, max(tensors[name].bytes for name in step.inputs))


def _limits(lowered: Lowered, board: Board, cost: CostModel, options: Options) -> tuple[float, float]:
    """Return how many bytes of flash all ways together may add, and how many the arena may have."""
    taken, besides = cost.flash(lowered.steps), cost.coefficients.data_bytes + cost.coefficients.transform_stack_bytes
    flash = options.flash or board.flash.size
    arena = (options.ram or board.ram_limit(besides)) - besides
    if options.optimize == "balanced":
        return min(flash, BALANCED * taken) * (1 - ROOM) - taken, min(arena, BALANCED_RAM * lowered.plan.size)
    return flash * (1 - ROOM) - taken, arena


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
