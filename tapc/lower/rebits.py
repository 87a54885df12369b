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
        fused = o.residual or o.pool
        middle = program.tensors[o.output] if fused is None else fused.middle
        pool = o.pool and replace(o.pool, middle=tensor(o.pool.middle))
        if pool is not None and (pool.low, pool.high) == (middle.low, middle.high):
            pool = replace(pool, low=tensor(middle).low, high=tensor(middle).high)
        residual = o.residual and replace(o.residual, middle=tensor(o.residual.middle))
        low, high = o.low, o.high
        if (low, high) == (middle.low, middle.high):
            low, high = tensor(middle).low, tensor(middle).high
        bits = weights.get(o.name, o.w_bits)
        return replace(_coarser(o, bits), residual=residual, pool=pool, low=low, high=high)

    tensors = {key: tensor(t) for key, t in program.tensors.items()}
    return replace(program, tensors=tensors, ops=tuple(op(o) for o in program.ops))


def _coarser(op: Conv, bits: int) -> Conv:
    """Quantize the weights to fewer bits: kernels are chosen by the accumulators' bounds."""
    if bits >= op.w_bits:
        return replace(op, w_bits=bits)
    factor = ((1 << (op.w_bits - 1)) - 1) / ((1 << (bits - 1)) - 1)
    weights = np.rint(op.weights / factor).astype(np.int8)
    bias = np.rint(op.bias / factor).astype(op.bias.dtype)
    return replace(op, w_bits=bits, weights=weights, bias=bias, ratios=op.ratios * np.float32(factor))
