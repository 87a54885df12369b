"""Static arena planner: one address for every tensor and scratch buffer, decided at compile time.

Buffers that live at the same time never share a byte, with one exception: a kernel's output may run over an input
that dies in that kernel, when the output stays far enough behind the reads (`Step.distance`).
"""

import random
from collections.abc import Sequence
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


def lifetimes(program: Program, steps: Sequence[Step]) -> tuple[list[Buffer], Distances, dict[str, str]]:
    """Derive buffers, permitted overlaps (output, input) -> distance, and aliases of reshaped tensors."""
    alias: dict[str, str] = {}
    for op in program.ops:
        if op.in_place:
            alias[op.output] = alias.get(op.inputs[0], op.inputs[0])

    def root(name: str) -> str:
        return alias.get(name, name)

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
    distances = {
        (root(step.output), root(name)): d
        for i, step in enumerate(steps)
        for name, d in step.distance.items()
        if last[root(name)] == i and first[root(step.output)] == i and root(name) not in kept
    }
    return buffers, distances, alias


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


def _place(order: Sequence[Buffer], distances: Distances) -> dict[str, int]:
    """Put each buffer at its lowest legal offset, in the given order."""
    offsets: dict[str, int] = {}
    placed: list[Buffer] = []
    for buffer in order:
        alive = [b for b in placed if not (b.last < buffer.first or buffer.last < b.first)]
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
        placed.append(buffer)
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
    ]
    order = min(orders, key=lambda o: _extent(o, _place(o, distances)))
    best = _place(order, distances)
    generator = random.Random(seed)
    steps = 1 + max((b.last for b in buffers), default=0)
    floor = max((_floor(buffers, distances, i) for i in range(steps)), default=0)
    for _ in range(rounds if len(buffers) > 1 else 0):
        if _extent(buffers, best) <= floor:
            break
        i, j = generator.sample(range(len(order)), 2)
        trial = list(order)
        trial[i], trial[j] = trial[j], trial[i]
        offsets = _place(trial, distances)
        if _extent(buffers, offsets) <= _extent(buffers, best):
            order, best = trial, offsets
    return best


def _floor(buffers: Sequence[Buffer], distances: Distances, step: int) -> int:
    """Bound the arena from below: live bytes at a step, without inputs that the output may overlap."""
    alive = [b for b in buffers if b.first <= step <= b.last]
    sharing = {x for (y, x) in distances if any(b.name == y and b.first == step for b in alive)}
    return sum(b.size for b in alive if b.name not in sharing)


def plan(program: Program, steps: Sequence[Step], *, seed: int = 0, rounds: int = 200) -> Plan:
    """Plan the arena of a program.

    Raises
    ------
    AssertionError
        If two live buffers overlap where they must not: an error in the planner itself.
    """
    buffers, distances, alias = lifetimes(program, steps)
    offsets = place(buffers, distances, seed=seed, rounds=rounds)
    for i, a in enumerate(buffers):
        for b in buffers[i + 1 :]:
            assert not conflict(a, offsets[a.name], b, offsets[b.name], distances), (a, b)

    def live(step: int) -> list[Buffer]:
        return [b for b in buffers if b.first <= step <= b.last]

    peak = max(range(max(len(steps), 1)), key=lambda i: sum(b.size for b in live(i)))
    names = tuple(b.name for b in sorted(live(peak), key=lambda b: -b.size))
    everything = offsets | {name: offsets[target] for name, target in alias.items()}
    return Plan(_align(_extent(buffers, offsets)), everything, tuple(buffers), names)
