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
    last = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
    for i, op in enumerate(program.ops):
        values[op.output] = op.reference(program, [values[name] for name in op.inputs])
        if observe is not None:
            observe(op, values[op.output])
        for name in set(op.inputs):
            if last[name] == i and name not in program.outputs:
                del values[name]
    return joined([values[name] for name in program.outputs])
