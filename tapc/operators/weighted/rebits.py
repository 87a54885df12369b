"""A layer at other bits, for planning and cost only."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from tapc.ir.program import Program, Tensor
from tapc.operators.products import coarser
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
    return replace(coarser(op, bits), residual=residual, pool=pool, low=low, high=high)
