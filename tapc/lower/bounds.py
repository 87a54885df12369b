"""What every code of a program can be, whatever the input: the reference executor run on intervals.

Every operator of convolutional networks but Softmax is monotone: requantization, clamps, sums, maxima and moves never
reverse an order, and a convolution splits into its positive and its negative weights. So the reference executor itself,
run on the smallest and on the largest codes, gives exact bounds per element, borders included, in both modes of
requantization.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints
from tapc.lower.program import Attention, Conv, LayerNorm, Lookup, Op, Program, Softmax
from tapc.lower.reference import accumulate, run_op

_NOT_MONOTONE = (Softmax, LayerNorm, Lookup, Attention)


@dataclass(frozen=True, eq=False)
class Bounds:
    """Smallest and largest code of each element of a tensor.

    Attributes
    ----------
    low, high : ndarray of int64, shape (H, W, C)
    """

    low: Ints
    high: Ints

    @property
    def known(self) -> NDArray[np.bool_]:
        """Channels that do not depend on the input, shape (C,)."""
        known: NDArray[np.bool_] = (self.low == self.high).all(axis=(0, 1))
        return known

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Channels that have one code everywhere, shape (C,)."""
        constant: NDArray[np.bool_] = self.known & (self.low == self.low[:1, :1]).all(axis=(0, 1))
        return constant


def accumulator_bounds(op: Conv, program: Program, x: Bounds) -> Bounds:
    """Bound a convolution's accumulators, bias included.

    Parameters
    ----------
    op : Conv
    program : Program
    x : Bounds
        Of the convolution's input.
    """
    zero = program.tensors[op.inputs[0]].zero
    rising, falling = np.maximum(op.weights, 0), np.minimum(op.weights, 0)
    least, most = x.low[None] - zero, x.high[None] - zero
    ends = []
    for a, b in ((least, most), (most, least)):
        acc = accumulate(a, rising, op.stride, op.pads, op.groups)
        acc += accumulate(b, falling, op.stride, op.pads, op.groups)
        ends.append(acc[0] + op.bias)
    return Bounds(*ends)


def _bounds(op: Op, program: Program, x: list[Bounds]) -> Bounds:
    y = program.tensors[op.output]
    if isinstance(op, Conv):
        assert op.residual is None, "bounds are for programs before fusion"
        acc = accumulator_bounds(op, program, x[0])
        m = arithmetic.multipliers(op.ratios, program.mode)
        return Bounds(*(arithmetic.requantize(a, m, y.zero, op.low, op.high) for a in (acc.low, acc.high)))
    if isinstance(op, _NOT_MONOTONE):  # a class falls when another rises
        return Bounds(np.full(y.shape, y.low, np.int64), np.full(y.shape, y.high, np.int64))
    low, high = (run_op(op, program, ends)[0] for ends in ([b.low[None] for b in x], [b.high[None] for b in x]))
    return Bounds(low, high)


def bounds(program: Program) -> dict[str, Bounds]:
    """Bound every tensor of a program before fusion.

    Returns
    -------
    dict of str to Bounds
        By tensor name; the input may be anything.
    """
    x = program.tensors[program.input]
    found = {program.input: Bounds(np.full(x.shape, x.low, np.int64), np.full(x.shape, x.high, np.int64))}
    for op in program.ops:
        found[op.output] = _bounds(op, program, [found[name] for name in op.inputs])
    return found
