"""What a network keeps between calls: its new value is moved to where the next call reads it, at the end of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tapc.base.arithmetic import Ints, Mode, Ratios
from tapc.base.errors import UnsupportedError
from tapc.graph.state import State, States
from tapc.ir.channels import Bounds
from tapc.ir.keeping import keeps, settles
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.states import KeptState
from tapc.kernels.elementwise import MoveSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.common import check_ratios, monotone, move, rescaled, scale_ratio
from tapc.operators.ring import in_rings


@dataclass(frozen=True, eq=False)
class Keep(Op):
    """A copy to a tensor of its own, or to where a state lies.

    Attributes
    ----------
    ratio : ndarray, shape ()
        Scale of the input over that of the output.
    """

    ratio: Ratios

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratio, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y = program.tensors[self.output]
        return rescaled(program, x[0], self.inputs[0], self.output, self.ratio, y.low, y.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        if x.bits == 16:
            spec = MoveSpec(x.plane.of_bytes(), y.plane.of_bytes(), False)
            return [Step(self, spec, {"x": self.inputs[0], "y": self.output})]
        return [move(program, self, self.inputs[0], self.ratio, (y.low, y.high), None)]


@keeps
def with_states(program: Program, known: States, keys: Mapping[str, str]) -> Program:
    """Return a program that ends by keeping its states; see `tapc.ir.keeping`.

    Raises
    ------
    UnsupportedError
        States that exchange their values, or have other than 8 bits.
    """
    if narrow := [own.input for own in known if program.tensors[keys[own.input]].bits not in (8, 16)]:
        raise UnsupportedError(f"state {narrow[0]!r} is of 4 bits; states are kept as values of 8 or 16 bits")
    tensors, ops = dict(program.tensors), list(program.ops)
    same = {op.output: op.inputs[0] for op in ops if op.in_place}

    def root(key: str) -> str:
        while key in same:
            key = same[key]
        return key

    def copied(source: str, like: str, name: str) -> str:
        y = replace(tensors[like], name=name)
        tensors[name] = y
        ops.append(Keep(name, (source,), name, scale_ratio(tensors[source], y, program.mode)))
        return name

    stored = {keys[own.input] for own in known}
    outputs = []
    for key in program.outputs[: len(program.outputs) - len(known)]:
        # What is read after the call must not lie where a state is written in it.
        outputs.append(copied(key, key, _free(f"{key}.read", tensors)) if root(key) in stored else key)
    states, lying = [], {}
    for own in _ordered([(own, root(keys[own.output]), keys[own.input]) for own in known]):
        key = keys[own.input]
        name = copied(keys[own.output], key, _free(f"{own.input}.next", tensors))
        lying[own.input] = KeptState(own.input, key, name, _codes(own.initial, tensors[key]))
    states = [lying[own.input] for own in known]
    return replace(program, tensors=tensors, ops=tuple(ops), states=tuple(states),
                   outputs=(*outputs, *(kept.after for kept in states)))  # fmt: skip


@settles
def settle(program: Program) -> Program:
    """Write states as early as they may be, and where they lie where nothing reads there any more: no copy then."""
    ops = _early(program)
    program = replace(program, ops=tuple(ops))
    makers = {op.output: place for place, op in enumerate(ops)}
    states, outputs = list(program.states), list(program.outputs)
    for index, kept in enumerate(states):
        keep = ops[makers[kept.after]]
        source = keep.inputs[0]
        whole = _root(ops, makers, source)
        x, y = program.tensors[source], program.tensors[kept.after]
        codes = np.arange(y.low, y.high + 1)
        alike = x.shape == y.shape and x.bits == y.bits and program.tensors[whole].bytes == x.bytes
        alike = alike and bool((keep.reference(program, [codes]) == codes).all())
        elsewhere = any(whole in (other.before, _root(ops, makers, other.after)) for other in states)
        if not isinstance(keep, Keep) or whole not in makers or not alike or elsewhere:
            continue
        readers = [makers[op.output] for op in ops if kept.before in (_root(ops, makers, name) for name in op.inputs)]
        if {source, whole}.isdisjoint(program.live) and max(readers, default=-1) < makers[whole]:
            states[index] = replace(kept, after=source)
            outputs[len(outputs) - len(states) + index] = source
    written = {kept.after for kept in states}
    gone = {kept.after for kept in program.states} - written
    program = replace(program, states=tuple(states), outputs=tuple(outputs))
    return in_rings(program.with_ops(tuple(op for op in ops if op.output not in gone)))


def _root(ops: Sequence[Op], makers: Mapping[str, int], name: str) -> str:
    """Return the tensor in whose memory another one lies."""
    while name in makers and ops[makers[name]].in_place:
        name = ops[makers[name]].inputs[0]
    return name


def _early(program: Program) -> list[Op]:
    """Return the operators with those that only states need right behind what they read."""
    needed = set(program.results)
    for op in reversed(program.ops):
        if op.output in needed:
            needed.update(op.inputs)
    makers = {op.output: place for place, op in enumerate(program.ops)}
    before = {kept.after: kept.before for kept in program.states}
    readers: dict[str, list[Op]] = {}
    for op in program.ops:
        for name in op.inputs:
            readers.setdefault(_root(program.ops, makers, name), []).append(op)
    found: list[Op] = []
    done = set(program.inputs)
    left = [op for op in program.ops if op.output not in needed]

    def take() -> None:
        while True:
            ready = next((op for op in left if _ready(op)), None)
            if ready is None:
                return
            left.remove(ready)
            found.append(ready)
            done.add(ready.output)

    def _ready(op: Op) -> bool:
        if any(name not in done for name in op.inputs):
            return False
        return all(other is op or other.output in done for other in readers.get(before.get(op.output, ""), ()))

    take()
    for op in program.ops:
        if op.output in needed:
            found.append(op)
            done.add(op.output)
            take()
    assert not left, "states that wait for each other"
    return found


def _free(name: str, tensors: Mapping[str, Tensor]) -> str:
    while name in tensors:
        name += "_"
    return name


def _ordered(moves: Sequence[tuple[State, str, str]]) -> list[State]:
    """Return states so that each is written after all that read what it was."""
    left, found = list(moves), list[State]()
    while left:
        ready = [one for one in left if not any(other is not one and other[1] == one[2] for other in left)]
        if not ready:
            raise UnsupportedError("states exchange their values, which takes a third place: export it with a copy")
        found.append(ready[0][0])
        left.remove(ready[0])
    return found


def _codes(initial: Sequence[float], t: Tensor) -> tuple[int, ...]:
    """Return the codes that a state begins with, as it is stored: (H, W, C), or one for all of them."""
    values = np.array(initial, np.float32)
    codes = np.clip(np.rint(values / np.float32(t.scale)) + t.zero, t.low, t.high).astype(np.int64)
    if codes.size == 1 or (codes == codes[0]).all():
        return (int(codes[0]),)
    height, width, channels = t.shape
    return tuple(codes.reshape(channels, height, width).transpose(1, 2, 0).reshape(-1).tolist())
