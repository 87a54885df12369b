"""The reference executor: the integer program in numpy, with exact integers.

The device must equal it bit for bit.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.base.ports import joined
from tapc.ir.program import Op, Program
from tapc.lower.codes import apart

Values = dict[str, Ints]


def execute(
    program: Program, inputs: NDArray[Any], *, observe: Callable[[Op, Ints], None] | None = None
) -> NDArray[np.int64]:
    """Run a program.

    Parameters
    ----------
    program : Program
    inputs : ndarray of int, shape (N, H, W, C)
        Codes of the input tensor; of several, rows (N, values).
    observe : callable, optional
        Called with each operator and its output codes, shape (N, H, W, C).

    Returns
    -------
    ndarray of int64, shape (N, H, W, C)
        Codes of the output tensor; of several, rows (N, values).
    """
    given = apart(program, program.inputs, np.asarray(inputs).astype(np.int64))
    values: Values = dict(zip(program.inputs, given, strict=True))
    last = {program.whole(name)[0]: i for i, op in enumerate(program.ops) for name in (*op.inputs, op.output)}
    for i, op in enumerate(program.ops):
        found = op.reference(program, [_rows(program, values, name) for name in op.inputs])
        if observe is not None:
            observe(op, found)
        whole, first = program.whole(op.output)
        if whole != op.output:
            empty = np.zeros((len(found), *program.tensors[whole].shape), np.int64)
            values.setdefault(whole, empty)[:, first : first + found.shape[1]] = found
        else:
            values[op.output] = found
        for name in {program.whole(name)[0] for name in (*op.inputs, op.output)}:
            if last[name] == i and name not in program.outputs:
                del values[name]
    return joined([values[name] for name in program.outputs])


def _rows(program: Program, values: Values, name: str) -> Ints:
    """Return what a tensor holds, which may be rows of another one."""
    whole, first = program.whole(name)
    return values[whole][:, first : first + program.tensors[name].shape[0]]
