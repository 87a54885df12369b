"""The reference executor: the integer program in numpy, with exact integers.

The device must equal it bit for bit.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.ir.program import Op, Program

Values = dict[str, Ints]


def execute(
    program: Program, inputs: NDArray[Any], *, observe: Callable[[Op, Ints], None] | None = None
) -> NDArray[np.int64]:
    """Run a program.

    Parameters
    ----------
    program : Program
    inputs : ndarray of int, shape (N, H, W, C)
        Codes of the input tensor.
    observe : callable, optional
        Called with each operator and its output codes, shape (N, H, W, C).

    Returns
    -------
    ndarray of int64, shape (N, H, W, C)
        Codes of the output tensor.
    """
    values: Values = {program.input: np.asarray(inputs).astype(np.int64)}
    last = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
    for i, op in enumerate(program.ops):
        values[op.output] = op.reference(program, [values[name] for name in op.inputs])
        if observe is not None:
            observe(op, values[op.output])
        for name in set(op.inputs):
            if last[name] == i and name != program.output:
                del values[name]
    return values[program.output]
