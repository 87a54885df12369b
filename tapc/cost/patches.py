"""Which parts of a network are computed in bands so that its arena fits: those that compute the least twice.

Every part between two tensors, in bands of any height, is an edge of a graph whose nodes are the places between
operators; so is every operator alone. What an edge needs and costs is estimated from rows and bytes at first. The
cheapest way through the graph is planned as it will run, which tells both exactly, and sought again until it is known.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tapc.cost.model import CostModel
from tapc.ir.bands import Patch
from tapc.ir.program import Program, Step
from tapc.kernels.schedule import Schedule
from tapc.lower.patches import Part, banded, bands_of, needs_of, parts, patched, summaries, windows_of
from tapc.lower.plan import Plan, places_of, plan
from tapc.lower.steps import steps_of

_MEASURED = 60
"""Most parts that are planned as they will run."""
_TRIES = 6


@dataclass(frozen=True)
class Patched:
    """Parts of a network in bands.

    Attributes
    ----------
    patches : tuple of Patch
        None of them where the network fits as it is.
    program : Program
        That has them.
    plan : Plan
    instructions : int
        Predicted ones that are computed twice.
    """

    patches: tuple[Patch, ...]
    program: Program
    plan: Plan
    instructions: int

    @property
    def arena(self) -> int:
        """Bytes."""
        return self.plan.size

    def __str__(self) -> str:
        return "; ".join(map(str, summaries(self.program)))


@dataclass
class _Edge:
    """A way from one place to a later one."""

    start: int
    stop: int
    need: int
    cost: int
    part: Part | None = None
    rows: int = 0
    known: bool = True


Schedules = Mapping[str, Schedule]
Way = list[_Edge]
Add = Callable[[_Edge, tuple[int, int]], tuple[int, int]]
"""Need and cost of a way with one edge more."""


def fitting(
    program: Program, limit: int, cost: CostModel, *, most: float | None = None, schedules: Schedules | None = None
) -> Patched:
    """Choose the parts of a program that are computed in bands; where none fit, those that need the least arena.

    Parameters
    ----------
    program : Program
    limit : int
        Bytes of the arena.
    cost : CostModel
    most : float, optional
        Most instructions that are computed twice, relative to all.
    schedules : mapping of str to Schedule, optional
        Operator -> schedule, in place of the default.
    """
    steps = steps_of(program, schedules)
    plain = Patched((), program, plan(program, steps), 0)
    if plain.arena <= limit:
        return plain
    search = _Search(program, steps, cost, schedules)
    allowed = limit
    for _ in range(_TRIES):
        way = search.cheapest(allowed)
        if way is None:
            break
        found = search.planned(way)
        if found.arena <= limit:
            within = most is None or found.instructions <= most * cost.total_instructions(steps)
            return found if within else plain
        allowed -= found.arena - limit
    least = search.planned(search.smallest())
    if least.arena <= limit and most is not None and least.instructions > most * cost.total_instructions(steps):
        return plain
    return min(least, plain, key=lambda found: found.arena)


def least(
    program: Program, cost: CostModel, allowed: Callable[[Patched], bool], schedules: Schedules | None = None
) -> Patched:
    """Choose the parts that are computed in bands so that the arena is the least that is found.

    Parameters
    ----------
    program : Program
    cost : CostModel
    allowed : callable
        Whether a network in bands may be so; what takes less arena is taken to be allowed less often.
    schedules : mapping of str to Schedule, optional
        As for `fitting`.
    """
    steps = steps_of(program, schedules)
    best = Patched((), program, plan(program, steps), 0)
    search = _Search(program, steps, cost, schedules)
    limits = search.limits(best.arena)
    low, high = 0, len(limits)
    while low < high:
        middle = (low + high) // 2
        way = search.cheapest(limits[middle])
        found = None if way is None else search.planned(way)
        if found is None or not allowed(found):
            low = middle + 1
        else:
            best, high = min(best, found, key=lambda one: (one.arena, one.instructions)), middle
    return best


class _Search:
    """The graph of a program."""

    def __init__(
        self, program: Program, steps: tuple[Step, ...], cost: CostModel, schedules: Schedules | None = None
    ) -> None:
        self.program, self.cost, self.schedules = program, cost, schedules
        self.own = _Own.of(program, steps, cost)
        self.alone = [_Edge(place, place + 1, need, 0) for place, need in enumerate(self.own.needs)]
        self.parts = list(parts(program))
        self.estimated: dict[Part, list[_Edge]] = {}
        self.measured = 0

    def _edges(self, limit: int | None = None) -> list[_Edge]:
        """Return the edges that may be of use within a limit, in the order of their starts."""
        found = list(self.alone)
        for part in self.parts:
            # Where every operator fits as it is, bands are of no use.
            if limit is None or max(self.own.needs[part.ops.start : part.ops.stop]) > limit:
                if part not in self.estimated:
                    self.estimated[part] = list(self._estimates(part))
                found += self.estimated[part]
        fitting = (edge for edge in found if limit is None or edge.need <= limit)
        return sorted(fitting, key=lambda edge: (edge.start, edge.stop))

    def _estimates(self, part: Part) -> Iterator[_Edge]:
        """Yield a part in bands of every height that is the least for some number of bands."""
        height = self.program.tensors[part.result].shape[0]
        for rows in sorted({-(-height // count) for count in range(2, height + 1)}):
            estimate = self.own.estimate(self.program, part, rows)
            if estimate is not None:
                yield _Edge(part.ops.start, part.ops.stop, *estimate, part, rows, known=False)

    def limits(self, most: int) -> list[int]:
        """Return what single parts need, up to `most`: between two of them a limit allows the same."""
        return sorted({edge.need for edge in self._edges() if edge.need <= most})

    def cheapest(self, limit: int) -> Way | None:
        """Return the way of the least instructions whose parts fit; None where there is none."""
        while True:
            way = self._way(self._edges(limit), lambda edge, so_far: (0, so_far[1] + edge.cost))
            if way is None or not self._measure(way):
                return way

    def smallest(self) -> Way:
        """Return the way whose largest need is least."""
        while True:
            way = self._way(self._edges(), lambda edge, so_far: (max(so_far[0], edge.need), so_far[1] + edge.cost))
            assert way is not None
            if not self._measure(way):
                return way

    def _way(self, edges: list[_Edge], add: Add) -> Way | None:
        """Return the way of the least sum, as `add` adds an edge to what a way has so far."""
        best: dict[int, tuple[tuple[int, int], Way]] = {0: ((0, 0), [])}
        for edge in edges:  # in the order of their starts
            if edge.start in best:
                value = add(edge, best[edge.start][0])
                if edge.stop not in best or value < best[edge.stop][0]:
                    best[edge.stop] = value, [*best[edge.start][1], edge]
        end = len(self.program.ops)
        return best[end][1] if end in best else None

    def _measure(self, way: Way) -> bool:
        """Plan the parts of a way that are estimates; return whether there were any."""
        unknown = [edge for edge in way if not edge.known]
        for edge in unknown:
            edge.known = True
            assert edge.part is not None
            if self.measured >= _MEASURED:
                continue
            self.measured += 1
            found = self._exactly(edge.part, edge.rows)
            if found is None:
                self.estimated[edge.part].remove(edge)
            else:
                edge.need, edge.cost = found
        return bool(unknown)

    def _exactly(self, part: Part, rows: int) -> tuple[int, int] | None:
        """Return what a part in bands needs and costs more than as a whole, or None where it cannot be."""
        alone = replace(self.program, inputs=(part.source,), outputs=(part.result,), input_names=(), output_names=())
        alone = alone.with_ops(tuple(self.program.ops[place] for place in part.ops))
        found = banded(alone, replace(part, ops=range(len(part.ops))), rows)
        if found is None:
            return None
        steps = steps_of(found, self.schedules)
        before = sum(self.own.instructions[place] for place in part.ops)
        return plan(found, steps, rounds=0).size, max(self.cost.total_instructions(steps) - before, 1)

    def planned(self, way: Way) -> Patched:
        """Return a way as it will run."""
        chosen = tuple(Patch(e.part.source, e.part.result, e.rows) for e in way if e.part is not None)
        found = patched(self.program, chosen)
        return Patched(chosen, found, plan(found, steps_of(found, self.schedules)), sum(edge.cost for edge in way))


@dataclass(frozen=True)
class _Own:
    """What each operator of a program needs, by its place.

    Attributes
    ----------
    needs : list of int
        Bytes that are alive while it runs as a whole.
    instructions, scratch : list of int
    over : list of dict
        Input that its output may overlap -> by how much it must lie below it.
    """

    needs: list[int]
    instructions: list[int]
    scratch: list[int]
    over: list[dict[str, int]] = field(default_factory=list)

    @staticmethod
    def of(program: Program, steps: tuple[Step, ...], cost: CostModel) -> "_Own":
        """Return it for a program whose operators run as wholes."""
        places = {id(op): place for place, op in enumerate(program.ops)}
        count = len(program.ops)
        instructions, scratch, over = [0] * count, [0] * count, [dict[str, int]() for _ in range(count)]
        for step in steps:
            place = places[id(step.op)]
            instructions[place] += cost.instructions(step.spec)
            scratch[place] = max(scratch[place], step.spec.scratch_bytes)
            over[place] |= {name: max(d.least, 0) for name, d in step.distance.items()}
        sizes, lying = {name: t.bytes for name, t in program.tensors.items()}, places_of(program)
        last = {name: place for place, op in enumerate(program.ops) for name in op.inputs}
        last |= dict.fromkeys((*program.outputs, *(kept.before for kept in program.states)), count)
        sizes |= {kept.after: 0 for kept in program.states}  # there already
        whole = {kept.before: found[0] for kept in program.states if (found := lying.get(kept.before)) is not None}
        sizes |= dict.fromkeys(whole, 0)  # a part of what is written
        last |= dict.fromkeys(whole.values(), count)
        alive, needs = {*program.inputs, *whole.values()}, []
        for place, op in enumerate(program.ops):
            dying = {name for name in op.inputs if last[name] == place}
            there = op.in_place or op.output in whole.values()
            taken = 0 if there else _together(op.output, dying, sizes, over[place])
            needs.append(sum(sizes[name] for name in alive - dying) + taken + scratch[place])
            alive = (alive | {op.output}) - {name for name in alive if last.get(name, -1) <= place}
            alive = {name for name in alive if name in last}
        return _Own(needs, instructions, scratch, over)

    def estimate(self, program: Program, part: Part, rows: int) -> tuple[int, int] | None:
        """Return what a part in bands may need and cost more than as a whole."""
        source, result = program.tensors[part.source], program.tensors[part.result]
        last = {name: place for place in part.ops for name in program.ops[place].inputs}
        bands, windows = bands_of(result.shape[0], rows), windows_of(program, part)
        # All between the first and the last are much as the second.
        some = {0: 1, len(bands) - 1: 1} | ({1: len(bands) - 2} if len(bands) > 2 else {})
        computed = dict.fromkeys(part.ops, 0)
        inside = ahead = 0
        for number, count in some.items():
            needs = needs_of(program, part, windows, bands[number])
            if needs is None:
                return None
            if number:
                ahead = max(ahead, bands[number].start * result.row - needs[part.source].start * source.row)
            sizes = {name: len(own) * program.tensors[name].row for name, own in needs.items()}
            sizes |= dict.fromkeys((part.source, part.result), 0)
            alive: set[str] = set()
            for place in part.ops:
                op = program.ops[place]
                made = len(needs[op.output])
                computed[place] += made * count
                dying = {name for name in op.inputs if last[name] == place}
                taken = _together(op.output, dying, sizes, self.over[place])
                scratch = self.scratch[place] * made // program.tensors[op.output].shape[0]
                inside = max(inside, sum(sizes[name] for name in alive - dying) + taken + scratch)
                alive = (alive | {op.output}) - dying
        both = max(result.bytes, ahead + source.bytes)
        extra = sum(
            self.instructions[place] * (made / program.tensors[program.ops[place].output].shape[0] - 1)
            for place, made in computed.items()
        )
        return both + inside, max(round(extra), 0) + len(bands)


def _together(output: str, dying: set[str], sizes: dict[str, int], over: dict[str, int]) -> int:
    """Return the bytes of an operator's output and of the inputs that die, of which the output may overlap one."""
    every = sizes[output] + sum(sizes[name] for name in dying)
    shared = [
        sizes[output] + sizes[name] - max(sizes[output], least + sizes[name])
        for name, least in over.items()
        if name in dying
    ]
    return every - max([0, *shared])
