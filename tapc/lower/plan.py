"""Static arena planner: one address for every tensor and scratch buffer, decided at compile time.

Buffers that live at the same time never share a byte, with one exception: a kernel's output may run over an input
that dies in that kernel, when the output stays far enough behind the reads (`Step.distance`).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapc.ir.overlap import Overlap
from tapc.ir.program import Program, Step

ALIGNMENT = 4


@dataclass(frozen=True)
class Buffer:
    """A block of the arena.

    Attributes
    ----------
    name : str
        Tensor, or ``scratch I`` for step I.
    size : int
        Bytes.
    first, last : int
        Steps of the first write and the last read, inclusive.
    """

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Addresses of all buffers.

    Attributes
    ----------
    size : int
        Bytes of the arena.
    offsets : dict of str to int
        Buffer or alias -> offset.
    buffers : tuple of Buffer
    peak : tuple of str
        Buffers that are alive at the step with the most live bytes.
    """

    size: int
    offsets: dict[str, int]
    buffers: tuple[Buffer, ...]
    peak: tuple[str, ...]


Distances = dict[tuple[str, str], Overlap]


Places = dict[str, tuple[str, int]]
"""Tensor without a buffer of its own -> the buffer that it lies in, and where."""


def places_of(program: Program) -> Places:
    """Return where tensors lie that are others under another shape, or parts of others."""
    same = {op.output: (op.inputs[0], op.begin) for op in program.ops if op.in_place}
    for kept in program.states:  # an inference writes what the next one reads
        name, begin = kept.after, 0
        while name in same:
            name, begin = same[name][0], begin + same[name][1]
        if begin:  # a part of what is written
            same[kept.before] = name, begin
        else:
            same[name] = kept.before, 0
    places = {}
    for tensor in (*same, *program.views):
        name, first = tensor, 0
        while name in same or name in program.views:
            if name in same:
                name, first = same[name][0], first + same[name][1]
            else:
                name, first = program.views[name].of, first + program.tensors[name].row * program.views[name].first
        places[tensor] = name, first
    return places


def lifetimes(program: Program, steps: Sequence[Step]) -> tuple[list[Buffer], Distances, Places]:
    """Derive buffers, permitted overlaps (output, input) -> distance, and tensors that lie in others' buffers."""
    places = places_of(program)

    def root(name: str) -> str:
        return places[name][0] if name in places else name

    # All inputs are filled before the first step; outputs are read after the last one.
    first = dict.fromkeys(map(root, program.inputs), 0)
    last = dict.fromkeys(map(root, program.inputs), 0)
    for i, step in enumerate(steps):
        for name in step.inputs:
            first.setdefault(root(name), 0)  # written by nobody: it exists from the start
        first.setdefault(root(step.output), i)
        for name in (*step.inputs, step.output):
            last[root(name)] = i
    kept = set(map(root, program.outputs))
    last |= dict.fromkeys(kept, max(len(steps) - 1, 0))
    buffers = [Buffer(name, program.tensors[name].bytes, first[name], last[name]) for name in first]
    buffers += [Buffer(f"scratch {i}", s.spec.scratch_bytes, i, i) for i, s in enumerate(steps) if s.spec.scratch_bytes]
    distances: Distances = {}
    for i, step in enumerate(steps):
        for name, d in step.distance.items():
            if last[root(name)] == i and first[root(step.output)] == i and root(name) not in kept:
                begins = [places[part][1] if part in places else 0 for part in (step.output, name)]
                alone = [root(other) for other in step.inputs].count(root(name)) == 1 or not any(begins)
                own = d.shifted(begins[1] - begins[0])
                if own is not None and alone:
                    distances[root(step.output), root(name)] = own
        for name in map(root, step.staged):
            users = [root(other) for other in (*step.inputs, step.output)]
            free = first[name] == i if name == users[-1] else last[name] == i and name not in kept
            if free and users.count(name) == 1:
                distances[f"scratch {i}", name] = Overlap(-(step.spec.scratch_bytes + program.tensors[name].bytes))
    distances |= _advancing(program, steps, places, {b.name: b for b in buffers}, kept)
    return buffers, distances, places


def _advancing(
    program: Program, steps: Sequence[Step], places: Places, buffers: Mapping[str, Buffer], kept: set[str]
) -> Distances:
    """Return where a buffer that is written band by band may lie over one that is read band by band.

    What is written may reach as far as to the first byte that is still to be read.
    """
    written: dict[str, list[int]] = {}  # buffer -> steps that write some of it
    read: dict[str, dict[int, int]] = {}  # buffer -> step -> where what the step reads of it begins
    for i, step in enumerate(steps):
        if step.output in program.views:
            written.setdefault(places[step.output][0], []).append(i)
        for name in step.inputs:
            buffer, begin = places.get(name, (name, 0))
            read.setdefault(buffer, {})[i] = min(begin, read.get(buffer, {}).get(i, begin))
    found: Distances = {}
    for y, writes in written.items():
        for x, begins in read.items():
            own, over = buffers[y], buffers[x]
            if (
                x == y
                or x in kept
                or not over.first <= own.first <= over.last
                or max(written.get(x, [-1])) >= own.first
            ):
                continue
            found[y, x] = Overlap(max(_reach(program, steps, places, i, x, begins) for i in writes if i <= over.last))
    return found


def _reach(
    program: Program, steps: Sequence[Step], places: Places, index: int, x: str, begins: Mapping[int, int]
) -> int:
    """Return by how much what a step writes may reach into a buffer before it meets what is read of it from then on."""
    step = steps[index]
    first = places[step.output][1]
    end = first + program.tensors[step.output].bytes
    reaches = [end - begin for later, begin in begins.items() if later > index]
    for name in step.inputs:
        buffer, begin = places.get(name, (name, 0))
        if buffer == x:
            d = step.distance.get(name)
            if d is not None and d.multiple == 1:
                reaches.append(max(d.least, d.apart) - (begin - first))
            else:
                reaches.append(end - begin)
    return max(reaches)


def conflict(a: Buffer, a_offset: int, b: Buffer, b_offset: int, distances: Distances) -> bool:
    """Whether two placed buffers destroy each other's bytes."""
    if a.last < b.first or b.last < a.first:
        return False
    if a_offset + a.size <= b_offset or b_offset + b.size <= a_offset:
        return False
    for (y, y_offset), (x, x_offset) in (((a, a_offset), (b, b_offset)), ((b, b_offset), (a, a_offset))):
        distance = distances.get((y.name, x.name))
        if distance is not None and distance.allows(x_offset - y_offset):
            return False
    return True


def _align(value: int) -> int:
    return -(-max(value, 0) // ALIGNMENT) * ALIGNMENT


Beside = Mapping[str, Sequence[Buffer]]
"""Buffer -> others that are alive at some of its steps."""


def _beside(buffers: Sequence[Buffer]) -> Beside:
    return {a.name: [b for b in buffers if b is not a and not (b.last < a.first or a.last < b.first)] for a in buffers}


def _place(order: Sequence[Buffer], distances: Distances, beside: Beside) -> dict[str, int]:
    """Put each buffer at its lowest legal offset, in the given order."""
    offsets: dict[str, int] = {}
    for buffer in order:
        alive = [b for b in beside[buffer.name] if b.name in offsets]
        candidates = {0}
        for other in alive:
            candidates.add(_align(offsets[other.name] + other.size))
            if (buffer.name, other.name) in distances:
                for difference in distances[buffer.name, other.name].closest:
                    candidates.add(max(offsets[other.name] - difference, 0) & -ALIGNMENT)
            if (other.name, buffer.name) in distances:
                for difference in distances[other.name, buffer.name].closest:
                    candidates.add(_align(offsets[other.name] + difference))
        offsets[buffer.name] = min(
            c for c in candidates if not any(conflict(buffer, c, o, offsets[o.name], distances) for o in alive)
        )
    return offsets


def _extent(buffers: Sequence[Buffer], offsets: dict[str, int]) -> int:
    return max((offsets[b.name] + b.size for b in buffers), default=0)


def place(buffers: Sequence[Buffer], distances: Distances, *, rounds: int = 200, seed: int = 0) -> dict[str, int]:
    """Search for offsets with a small extent: several orders, then seeded swaps that never get worse.

    Parameters
    ----------
    buffers : sequence of Buffer
    distances : dict
        Permitted overlaps, see `lifetimes`.
    rounds : int
        Swaps tried.
    seed : int

    Returns
    -------
    dict of str to int
        Byte offsets, multiples of 4.
    """
    orders = [
        sorted(buffers, key=lambda b: (-b.size, b.first, b.name)),
        sorted(buffers, key=lambda b: (b.first, -b.size, b.name)),
        sorted(buffers, key=lambda b: (-b.size * (b.last - b.first + 1), b.name)),
        # An output that grows over its input lies below it: from the last to the first, there is room for that.
        sorted(buffers, key=lambda b: (-b.first, -b.size, b.name)),
    ]
    known = {b.name: b for b in buffers}
    following = {name for y, x in distances if known[y].first < known[x].last for name in (y, x)}
    if following:  # a result that follows its source lies below it, and what else is alive above both
        orders.append(
            sorted(buffers, key=lambda b: (b.name not in following, b.name in following and -b.first, -b.size))
        )
    beside = _beside(buffers)
    order = min(orders, key=lambda o: _extent(o, _place(o, distances, beside)))
    best = _place(order, distances, beside)
    generator = random.Random(seed)
    steps = 1 + max((b.last for b in buffers), default=0)
    floor = max((_floor(buffers, distances, i) for i in range(steps)), default=0)
    for _ in range(rounds if len(buffers) > 1 else 0):
        if _extent(buffers, best) <= floor:
            break
        i, j = generator.sample(range(len(order)), 2)
        trial = list(order)
        trial[i], trial[j] = trial[j], trial[i]
        offsets = _place(trial, distances, beside)
        if _extent(buffers, offsets) <= _extent(buffers, best):
            order, best = trial, offsets
    return best


def _floor(buffers: Sequence[Buffer], distances: Distances, step: int) -> int:
    """Bound the arena from below: live bytes at a step, but of inputs that an output may overlap the rest."""
    alive = {b.name: b for b in buffers if b.first <= step <= b.last}
    rests = {name: b.size for name, b in alive.items()}
    for (y, x), own in distances.items():
        if y in alive and x in alive:
            rests[x] = min(rests[x], max(0, max(own.least, 0) + alive[x].size - alive[y].size))
    return sum(rests.values())


def plan(program: Program, steps: Sequence[Step], *, seed: int = 0, rounds: int = 200) -> Plan:
    """Plan the arena of a program.

    Raises
    ------
    AssertionError
        If two live buffers overlap where they must not: an error in the planner itself.
    """
    buffers, distances, places = lifetimes(program, steps)
    offsets = place(buffers, distances, seed=seed, rounds=rounds)
    for i, a in enumerate(buffers):
        for b in buffers[i + 1 :]:
            assert not conflict(a, offsets[a.name], b, offsets[b.name], distances), (a, b)

    def live(step: int) -> list[Buffer]:
        return [b for b in buffers if b.first <= step <= b.last]

    peak = max(range(max(len(steps), 1)), key=lambda i: sum(b.size for b in live(i)))
    names = tuple(b.name for b in sorted(live(peak), key=lambda b: -b.size))
    everything = offsets | {name: offsets[target] + begin for name, (target, begin) in places.items()}
    return Plan(_align(_extent(buffers, offsets)), everything, tuple(buffers), names)
