"""A layer's sums: exactly, and between which values they lie."""

import numpy as np

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints
from tapc.ir.channels import Bounds
from tapc.ir.program import Program
from tapc.operators.common import highest
from tapc.operators.products import accumulate
from tapc.operators.weighted.layer import Weighted


def run(op: Weighted, program: Program, x: list[Ints]) -> Ints:
    """Compute a layer, with what is fused behind it."""
    source = program.tensors[op.inputs[0]]
    y = program.tensors[op.output] if op.pool is None else op.pool.middle
    acc = accumulate(op, x[0] - source.zero, op.weights, op.groups) + op.bias
    m = arithmetic.multipliers(op.ratios, program.mode)
    if op.residual is None:
        code = arithmetic.requantize(acc, m, y.zero, op.low, op.high)
        if (pool := op.pool) is None:
            return code
        return highest(code, pool.kernel, pool.stride, (0, 0, 0, 0), pool.low, pool.high)
    middle, other = op.residual.middle, program.tensors[op.inputs[1]]
    code = arithmetic.requantize(acc, m, middle.zero, op.low, op.high)
    first, second = (middle, other) if not op.residual.swapped else (other, middle)
    operands = (code, x[1]) if not op.residual.swapped else (x[1], code)
    f = arithmetic.add_factors(first.quantization, second.quantization, y.quantization, program.mode)
    return arithmetic.add(*operands, f, y.zero, op.residual.low, op.residual.high)


def accumulator_bounds(op: Weighted, program: Program, x: Bounds) -> Bounds:
    """Bound a convolution's accumulators, bias included.

    Parameters
    ----------
    op : Weighted
    program : Program
    x : Bounds
        Of the convolution's input.
    """
    zero = program.tensors[op.inputs[0]].zero
    rising, falling = np.maximum(op.weights, 0), np.minimum(op.weights, 0)
    ends = np.stack([x.low, x.high]) - zero
    acc = accumulate(op, ends, rising, op.groups)
    acc += accumulate(op, ends[::-1], falling, op.groups)
    return Bounds(*(acc + op.bias))


def bounds(op: Weighted, program: Program, x: Bounds) -> Bounds:
    """Bound a layer's output codes: a sum splits into its positive and its negative weights."""
    assert op.residual is None, "bounds are for programs before fusion"
    acc, y = accumulator_bounds(op, program, x), program.tensors[op.output]
    m = arithmetic.multipliers(op.ratios, program.mode)
    return Bounds(*arithmetic.requantize(np.stack([acc.low, acc.high]), m, y.zero, op.low, op.high))
