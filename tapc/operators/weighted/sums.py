"""A layer's sums: exactly, and between which values they lie.

Matrix products run in float64, which is exact here: products of 8-bit operands stay far below 2^53.
"""

import numpy as np
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints
from tapc.ir.channels import Bounds
from tapc.ir.program import Program
from tapc.operators.common import highest, windows
from tapc.operators.weighted.layer import Weighted


def accumulate(op: Weighted, x: Ints, weights: NDArray[np.int8], groups: int) -> Ints:
    """Sum products of windows of x (zero point already subtracted) and weights (O, KH, KW, I/groups).

    Windows lie as those of the layer `op` do.
    """
    outputs, kh, kw, depth = weights.shape
    view = windows(x.astype(np.float64), (kh, kw), op.stride, op.pads, 0, op.dilation)
    n, oh, ow = view.shape[:3]
    if depth == 1 and groups == x.shape[3]:
        per_group = outputs // groups
        filters = weights.reshape(groups, per_group, kh, kw).astype(np.float64)
        result = np.einsum("nhwcij,cmij->nhwcm", view, filters, optimize=True)
        acc: Ints = np.rint(result).astype(np.int64).reshape(n, oh, ow, outputs)
        return acc
    view = view.reshape(n, oh, ow, groups, depth, kh, kw)
    filters = weights.reshape(groups, outputs // groups, kh, kw, depth).astype(np.float64)
    parts = []
    for g in range(groups):
        columns = view[:, :, :, g].reshape(n * oh * ow, -1)
        matrix = filters[g].transpose(3, 1, 2, 0).reshape(-1, outputs // groups)
        parts.append((columns @ matrix).reshape(n, oh, ow, -1))
    acc = np.rint(np.concatenate(parts, axis=-1)).astype(np.int64)
    return acc


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
