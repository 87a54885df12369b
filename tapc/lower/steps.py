"""Integer program -> steps: which kernel instance runs when, on which tensors, with which constants."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tapc.ir.program import Constant, Op, Program, Step
from tapc.kernels.schedule import Schedule


def steps_of(program: Program, schedules: Mapping[str, Schedule] | None = None) -> tuple[Step, ...]:
    """Select a kernel for every operator; reshapes that move nothing need none.

    Bands of a layer share constants: those of equal bands are the same objects, see `unified` for the others.

    Parameters
    ----------
    program : Program
    schedules : mapping of str to Schedule, optional
        Operator -> schedule, in place of the default.
    """
    found: list[Step] = []
    known: dict[str, list[tuple[Op, list[Step]]]] = {}
    for op in program.ops:
        earlier = known.setdefault(op.name, []) if op.output in program.bands else []
        for other, steps in earlier:
            if _equal(op, other, program):
                found += (_renamed(step, op) for step in steps)
                break
        else:
            own = op.steps(program, schedules or {})
            earlier.append((op, own))
            found += own
    return tuple(found)


def _equal(a: Op, b: Op, program: Program) -> bool:
    """Whether two operators differ in the names of their tensors alone."""
    shapes = ([program.tensors[name].shape for name in (*op.inputs, op.output)] for op in (a, b))
    names = ("inputs", "output")
    rest = ({key: value for key, value in vars(op).items() if key not in names} for op in (a, b))
    first, second = rest
    one, other = shapes
    return one == other and all(_same(value, second[key]) for key, value in first.items())


def _same(a: Any, b: Any) -> bool:
    return a is b or (not isinstance(a, np.ndarray | tuple) and bool(a == b)) or (isinstance(a, tuple) and _all(a, b))


def _all(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))


def _renamed(step: Step, op: Op) -> Step:
    """Return an operator's step, given that of an equal one."""
    names = dict(zip((*step.op.inputs, step.op.output), (*op.inputs, op.output), strict=True))
    tensors = {key: names[name] for key, name in step.tensors.items()}
    distance = {names[name]: d for name, d in step.distance.items()}
    return replace(step, op=op, tensors=tensors, distance=distance, staged=tuple(names[name] for name in step.staged))


def unified(program: Program, steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return steps of which the bands of a layer share all constants that hold the same: flash has these once."""
    known: dict[tuple[str, str, int], list[Constant]] = {}

    def once(name: str, constant: Constant) -> Constant:
        alike = known.setdefault((name, constant.role, constant.words), [])
        for other in alike:
            if other is constant or other.data.tobytes() == constant.data.tobytes():
                return other
        alike.append(constant)
        return constant

    def shared(step: Step) -> Step:
        if step.op.output not in program.bands:
            return step
        return replace(step, constants={key: once(step.op.name, c) for key, c in step.constants.items()})

    return tuple(map(shared, steps))
