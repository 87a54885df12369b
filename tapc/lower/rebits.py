"""The same program with other bit widths, for planning and cost only: its numbers mean nothing any more."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tapc.lower.program import Conv, Op, Program, Tensor


def with_bits(program: Program, weights: Mapping[str, int], activations: Mapping[str, int]) -> Program:
    """Return a program that plans and costs like one quantized with these bits.

    Parameters
    ----------
    program : Program
    weights : mapping of str to int
        Layer (node) name -> weight bits.
    activations : mapping of str to int
        Tensor name in the float graph -> bits.
    """

    def tensor(t: Tensor) -> Tensor:
        bits = activations.get(t.name, t.bits)
        return t if bits == t.bits else replace(t, bits=bits, zero=0)

    def op(o: Op) -> Op:
        if not isinstance(o, Conv):
            return o
        middle = program.tensors[o.output] if o.residual is None else o.residual.middle
        residual = o.residual and replace(o.residual, middle=tensor(o.residual.middle))
        low, high = o.low, o.high
        if (low, high) == (middle.low, middle.high):
            low, high = tensor(middle).low, tensor(middle).high
        bits = weights.get(o.name, o.w_bits)
        return replace(_coarser(o, o.w_bits - bits), w_bits=bits, residual=residual, low=low, high=high)

    tensors = {key: tensor(t) for key, t in program.tensors.items()}
    return replace(program, tensors=tensors, ops=tuple(op(o) for o in program.ops))


def _coarser(op: Conv, bits: int) -> Conv:
    """Drop the lowest bits of the weights: kernels are chosen by the accumulators' bounds."""
    if bits <= 0:
        return op
    factor = np.float32(1 << bits)
    return replace(op, weights=op.weights >> bits, bias=op.bias >> bits, ratios=op.ratios * factor)
