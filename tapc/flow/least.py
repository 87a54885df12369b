"""`--optimize ram`: the least arena that patches and scratch memory allow, and of all that has it, the fastest."""

from collections.abc import Mapping
from dataclasses import dataclass

from tapc.base.options import Options
from tapc.cost.patches import Patched, least
from tapc.flow.algorithms import ROOM, by_layer, forms_of
from tapc.flow.latency import Meter, meter
from tapc.flow.patches import MOST_EXTRA
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.ir.program import Step
from tapc.kernels.schedule import Schedule
from tapc.lower import Lowered, scheduled
from tapc.lower.steps import steps_of

_MARGIN = 0.05
"""Of a budget of time, kept free: what patches take is predicted."""

Ways = Mapping[str, list[Schedule | None]]
"""Layer -> its schedules, the fastest first and that of the least scratch memory last."""


def with_least_ram(lowered: Lowered, board: Board, target: Target, options: Options) -> Lowered:
    """Return the network with the least arena that is found, and of its layers' schedules the fastest that keep it.

    Patches may add `MOST_EXTRA` of the instructions, no more than a budget of time leaves, and no code that does not
    fit the flash.

    Parameters
    ----------
    lowered : Lowered
        Without patches.
    board, target, options
        As for `tapc.flow.algorithms.with_algorithms`.
    """
    forms, own = forms_of(target, options), meter(board, target, options)
    smallest = {step.op.name: forms.smallest(step, lowered.program) for step in lowered.steps}
    schedules = _given(smallest)
    if options.no_patches:
        program = lowered.program
    else:
        usual = _given({step.op.name: forms.default(step, lowered.program) for step in lowered.steps})
        most = _most(steps_of(lowered.program, usual), own, options)
        total = own.cost.total_instructions(steps_of(lowered.program, schedules))
        flash = (options.flash or board.flash_bytes(not options.no_external)) * (1 - ROOM)

        def allowed(found: Patched) -> bool:
            within = found.instructions <= most * total
            return within and own.cost.flash(scheduled(found.program, schedules).steps) <= flash

        program = least(lowered.program, own.cost, allowed, schedules).program
    found = scheduled(program, schedules, source=lowered.source, seed=options.seed)
    ways: dict[str, list[Schedule | None]] = {}
    for steps in by_layer(found.steps):
        step = steps[len(steps) // 2]
        timed = []
        for schedule in forms.direct(step, found.program):
            (other, *_) = step.op.steps(found.program, {} if schedule is None else {step.op.name: schedule})
            timed.append((_time(own, other), schedule))
        mine = smallest[step.op.name]
        limit = next((time for time, schedule in timed if schedule == mine), None)
        if limit is not None:
            faster = [schedule for time, schedule in sorted(timed, key=lambda way: way[0]) if time < limit]
            ways[step.op.name] = [*faster, mine]
    return _Raising(found, ways, smallest, options.seed).done()


def _given(schedules: Mapping[str, Schedule | None]) -> dict[str, Schedule]:
    return {name: schedule for name, schedule in schedules.items() if schedule is not None}


def _time(own: Meter, step: Step) -> float:
    return own.of(step) if own.unit == "instructions" and own.rates is None else own.cycles(step)


def _most(steps: tuple[Step, ...], own: Meter, options: Options) -> float:
    """Return how many instructions patches may add, relative to all."""
    if options.latency is None:
        return MOST_EXTRA
    room = options.latency.amount * (1 - _MARGIN) / max(sum(map(own.of, steps)), 1e-9) - 1
    return min(MOST_EXTRA, max(room, 0.0))


@dataclass
class _Raising:
    """Gives layers faster schedules while the arena stays as it is: many at once, half where they do not fit."""

    found: Lowered
    ways: Ways
    chosen: dict[str, Schedule | None]
    seed: int

    def done(self) -> Lowered:
        """Return the network with all that fit."""
        self._raise([name for name, ways in self.ways.items() if len(ways) > 1], 0)
        return self.found

    def _raise(self, layers: list[str], place: int) -> None:
        if not layers or self._tried({name: self.ways[name][place] for name in layers}):
            return
        if len(layers) == 1:
            (name,) = layers
            if place + 1 < len(self.ways[name]) - 1:
                self._raise(layers, place + 1)
            return
        middle = len(layers) // 2
        self._raise(layers[:middle], place)
        self._raise(layers[middle:], place)

    def _tried(self, changes: Mapping[str, Schedule | None]) -> bool:
        chosen = {**self.chosen, **changes}
        trial = scheduled(self.found.program, _given(chosen), source=self.found.source, seed=self.seed)
        if trial.plan.size > self.found.plan.size:
            return False
        self.found, self.chosen = trial, chosen
        return True
