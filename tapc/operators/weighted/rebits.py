"""A layer at other bits, for planning and cost only."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from tapc.ir.program import Program, Tensor
from tapc.operators.weighted.layer import Weighted

WeightedT = TypeVar("WeightedT", bound=Weighted)


def with_bits(
    op: WeightedT, program: Program, weights: Mapping[str, int], changed: Callable[[Tensor], Tensor]
) -> WeightedT:
    """Return a layer, and what is fused behind it, at other bits of its weights and tensors."""
    fused = op.residual or op.pool
    middle = program.tensors[op.output] if fused is None else fused.middle
    pool = op.pool and replace(op.pool, middle=changed(op.pool.middle))
    if pool is not None and (pool.low, pool.high) == (middle.low, middle.high):
        pool = replace(pool, low=changed(middle).low, high=changed(middle).high)
    residual = op.residual and replace(op.residual, middle=changed(op.residual.middle))
    low, high = op.low, op.high
    if (low, high) == (middle.low, middle.high):
        low, high = changed(middle).low, changed(middle).high
    bits = weights.get(op.name, op.w_bits)
    return replace(_coarser(op, bits), residual=residual, pool=pool, low=low, high=high)


def _coarser(op: WeightedT, bits: int) -> WeightedT:
    """Quantize the weights to fewer bits: kernels are chosen by the accumulators' bounds."""
    if bits >= op.w_bits:
        return replace(op, w_bits=bits)
    factor = ((1 << (op.w_bits - 1)) - 1) / ((1 << (bits - 1)) - 1)
    weights = np.rint(op.weights / factor).astype(np.int8)
    bias = np.rint(op.bias / factor).astype(op.bias.dtype)
    return replace(op, w_bits=bits, weights=weights, bias=bias, ratios=op.ratios * op.ratios.dtype.type(factor))
