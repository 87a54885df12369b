"""Sequences of calls: what a program keeps from each to the next, in the reference executor and in C."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapc.base.arithmetic import Ints
from tapc.ir.program import Program
from tapc.lower.plan import Plan
from tapc.lower.reference import execute


def state_bytes(program: Program) -> int:
    """Return the bytes that live between calls."""
    return sum(program.tensors[kept.before].bytes for kept in program.states)


def given_codes(program: Program, codes: Ints) -> Ints:
    """Return the codes of the inputs that come with every call, in rows where there are states."""
    if not program.states:
        return codes
    size = sum(int(np.prod(program.tensors[name].shape)) for name in program.given)
    return codes.reshape(len(codes), -1)[:, :size]


def with_room(program: Program, codes: Ints) -> Ints:
    """Return codes of the inputs that come with every call, in rows that have room for states."""
    if not program.states:
        return codes
    size = sum(int(np.prod(program.tensors[kept.before].shape)) for kept in program.states)
    return np.concatenate([codes.reshape(len(codes), -1), np.zeros((len(codes), size), np.int64)], axis=1)


def carried(program: Program, codes: Ints, steps: int) -> tuple[Ints, Ints]:
    """Run the reference executor on sequences.

    Parameters
    ----------
    program : Program
        With states.
    codes : ndarray of int64, shape (N, values)
        Codes of all inputs, one sequence after the other; those of states count for nothing.
    steps : int
        Of a sequence; 0: all are one.

    Returns
    -------
    ndarray of int64, shape (N, values)
        Codes of all inputs, the states as the program left them.
    ndarray of int64, shape (N, values)
        Codes of all outputs.
    """
    steps = steps or len(codes)
    assert len(codes) % steps == 0, "sequences of one length"
    given = given_codes(program, codes).reshape(len(codes) // steps, steps, -1)
    state = np.tile(np.concatenate([_initial(program, index) for index in range(len(program.states))]), (len(given), 1))
    size, inputs, outputs = state.shape[1], [], []
    for step in range(steps):
        inputs.append(np.concatenate([given[:, step], state], axis=1))
        outputs.append(execute(program, inputs[-1]))
        state = outputs[-1][:, -size:]
    return tuple(np.stack(rows, axis=1).reshape(len(codes), -1) for rows in (inputs, outputs))  # type: ignore[return-value]


def _initial(program: Program, index: int) -> Ints:
    kept = program.states[index]
    size = int(np.prod(program.tensors[kept.before].shape))
    return np.broadcast_to(np.array(kept.initial, np.int64), (size,))


def resets(program: Program, plan: Plan) -> list[dict[str, Any]]:
    """Return what C writes when all begins anew: for each state its place and bytes, one for all or every."""
    found = []
    for index, kept in enumerate(program.states):
        own = program.tensors[kept.before]
        stored = _initial(program, index).astype(np.int8 if own.bits == 8 else "<i2").view(np.int8).tolist()
        alike = len(set(stored)) == 1
        parts = {"code": stored[0], "rows": () if alike else _rows(stored)}
        found.append({"name": kept.name, "offset": plan.offsets[kept.before], "bytes": own.bytes, **parts})
    return found


def _rows(codes: Sequence[int]) -> list[str]:
    return [", ".join(map(str, codes[i : i + 16])) for i in range(0, len(codes), 16)]
