"""Windows over frames that are kept between calls: the window is what is kept, and moves down by the new frames.

Of `window = Concat(past, new)` and `past of the next call = window[new:]` the past lies in the window's own memory,
where the latter left it: a call moves it to the window's first byte, in place, and puts the new frames behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tapc.ir.program import Op, Program, Step
from tapc.kernels.copies import WORD
from tapc.kernels.elementwise import MoveSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.concat import Concat
from tapc.operators.move import Move


@dataclass(frozen=True, eq=False)
class Ring(Concat):
    """A Concat whose first operand lies in its result's memory, further up.

    Attributes
    ----------
    loose : bool
        At no whole word.
    """

    loose: bool = False

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        first, *others = super().steps(program, schedules)
        assert isinstance(first.spec, MoveSpec)
        assert first.spec.copied
        return [replace(first, spec=replace(first.spec, loose=self.loose)), *others]


@dataclass(frozen=True, eq=False)
class Tail(Move):
    """The last bytes of a tensor, where they are."""

    @property
    def in_place(self) -> bool:
        return True

    @property
    def begin(self) -> int:
        return int(self.index.flat[0])

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        return []


def in_rings(program: Program) -> Program:
    """Return a program that keeps windows in place wherever their frames are bytes side by side."""
    ops = list(program.ops)
    makers = {op.output: place for place, op in enumerate(ops)}
    taken: set[str] = set()
    for kept in program.states:
        place = makers.get(kept.after)
        tail = None if place is None else ops[place]
        if place is None or not isinstance(tail, Move) or tail.in_place:
            continue
        joined = makers.get(tail.inputs[0])
        if joined is None or tail.inputs[0] in taken or not _fits(program, kept.before, ops[joined], tail):
            continue
        whole = ops[joined]
        assert isinstance(whole, Concat)
        own = {name: getattr(whole, name) for name in ("name", "inputs", "output", "ratios", "low", "high", "axis")}
        ops[joined] = Ring(**own, loose=int(tail.index.flat[0]) % WORD > 0)
        ops[place] = Tail(tail.name, tail.inputs, tail.output, tail.index, tail.same_rows)
        taken.add(whole.output)
    return replace(program, ops=tuple(ops))


def _fits(program: Program, past: str, whole: Op, tail: Move) -> bool:
    """Whether a window may hold its past."""
    if type(whole) is not Concat or whole.inputs[0] != past or past in whole.inputs[1:]:
        return False
    tensors = [program.tensors[name] for name in (*whole.inputs, whole.output, tail.output)]
    alike = len({t.quantization for t in tensors}) == 1 and all(t.bits == 8 for t in tensors)
    y = program.tensors[whole.output]
    outermost = whole.axis == 1 or (whole.axis == 2 and y.shape[0] == 1)
    bounded = whole.low > y.low or whole.high < y.high
    flat, size = tail.index.reshape(-1), int(np.prod(y.shape))
    last = bool((flat == np.arange(size - flat.size, size)).all()) and flat.size == program.tensors[past].bytes
    alone = sum(past in op.inputs for op in program.ops) == 1
    return alike and outermost and not bounded and last and alone and whole.output not in program.views
