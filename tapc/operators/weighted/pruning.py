"""Which channels a layer needs, and the layer without the others.

A constant channel's share of the sums goes into the biases. Where a channel is known but differs at the border, because
a padded layer before it saw a constant other than the zero point, that share depends on the place: such a channel
stays, unless every weight on it is zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tapc.ir.channels import Bounds, Kept, Mask
from tapc.ir.program import Program
from tapc.operators.products import accumulate
from tapc.operators.weighted.layer import Weighted
from tapc.operators.weighted.sums import accumulator_bounds

WeightedT = TypeVar("WeightedT", bound=Weighted)
_INT32 = 2**31


@dataclass(frozen=True, eq=False)
class Reads:
    """What a layer's outputs need of their inputs.

    Attributes
    ----------
    needed : ndarray of bool, shape (outputs, inputs / groups)
        The input channel's share of the sum cannot go into the bias.
    share : ndarray of int64, shape (outputs, inputs / groups)
        Its share where it can.
    """

    needed: Mask
    share: NDArray[np.int64]


def cleared(op: WeightedT, program: Program, known: Mapping[str, Bounds]) -> WeightedT:
    """Give outputs that have one code, whatever the input, zero weights and a bias that requantizes to that code."""
    constant = known[op.output].constant
    acc = accumulator_bounds(op, program, known[op.inputs[0]]).low[0, 0]
    constant = constant & (np.abs(acc) < _INT32)
    weights = np.where(constant[:, None, None, None], 0, op.weights).astype(np.int8)
    return replace(op, weights=weights, bias=np.where(constant, acc, op.bias).astype(np.int32))


def reads(op: Weighted, zero: int, x: Bounds) -> Reads:
    """Find out what a layer's outputs need of its inputs, whose zero point is `zero`."""
    outputs, _, _, depth = op.weights.shape
    per_group = outputs // op.groups
    needed = (op.weights != 0).any(axis=(1, 2))
    share = np.zeros((outputs, depth), np.int64)
    for channel in np.flatnonzero(x.known):
        group, local = divmod(int(channel), depth)
        rows = slice(group * per_group, (group + 1) * per_group)
        if not needed[rows, local].any():
            continue
        values = x.low[None, :, :, channel : channel + 1] - zero
        sums = accumulate(op, values, op.weights[rows, :, :, local : local + 1], 1)[0]
        needed[rows, local] &= (sums != sums[0, 0]).any(axis=(0, 1))
        share[rows, local] = np.where(needed[rows, local], 0, sums[0, 0])
    # |bias| + the shares bounds every bias that may come out of this.
    crowded = np.abs(op.bias.astype(np.int64)) + np.abs(share).sum(axis=1) >= _INT32
    needed |= crowded[:, None] & (share != 0)
    return Reads(needed, np.where(needed, 0, share))


def keep(op: Weighted, read: Reads, kept: Kept) -> None:
    """Add to `kept` the channels that a layer needs."""
    groups = op.groups
    x, y = kept.masks[op.inputs[0]].reshape(groups, -1), kept.masks[op.output].reshape(groups, -1)
    needed = read.needed.reshape(groups, y.shape[1], x.shape[1])
    x |= (needed & y[:, :, None]).any(axis=1)
    if groups == 1:
        return
    # The groups that stay must be of one size: those with fewer channels keep some that they could do without.
    stay = x.any(axis=1) | y.any(axis=1)
    for mask in (x, y):
        size = max(1, int(mask.sum(axis=1).max()))
        for group in np.flatnonzero(stay):
            spare = np.flatnonzero(~mask[group])
            mask[group, spare[: size - int(mask[group].sum())]] = True


def sliced(op: WeightedT, read: Reads, kept: Mapping[str, Mask]) -> WeightedT:
    """Cut a layer down to the channels that are kept; the others' shares go into the biases."""
    groups = op.groups
    x, y = kept[op.inputs[0]].reshape(groups, -1), kept[op.output]
    per_group = len(y) // groups
    rows = np.flatnonzero(y)
    inputs = x[rows // per_group]
    share = np.where(inputs, 0, read.share[rows]).sum(axis=1)
    columns = np.stack([np.flatnonzero(mask) for mask in inputs])
    weights = np.take_along_axis(op.weights[rows], columns[:, None, None, :], axis=3)
    bias = (op.bias[rows] + share).astype(np.int32)
    return replace(
        op, weights=np.ascontiguousarray(weights), bias=bias, ratios=op.ratios[rows], groups=int(x.any(axis=1).sum())
    )
