"""Channels that cannot change an output bit are removed: constant ones and those that nobody reads.

A constant channel's share of its consumers' sums goes into their biases. Where a channel is known but differs at the
border, because a padded layer before it saw a constant other than the zero point, that share depends on the place:
such a channel stays, unless every weight on it is zero.
"""

from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from tapc.lower.bounds import Bounds, accumulator_bounds, bounds
from tapc.lower.program import Add, Concat, Conv, Op, Pad, Pool, Program, Requantize, Reshape
from tapc.lower.reference import accumulate

Mask = NDArray[np.bool_]
_INT32 = 2**31


@dataclass(frozen=True, eq=False)
class _Reads:
    """What a convolution's outputs need of their inputs.

    Attributes
    ----------
    needed : ndarray of bool, shape (outputs, inputs / groups)
        The input channel's share of the sum cannot go into the bias.
    share : ndarray of int64, shape (outputs, inputs / groups)
        Its share where it can.
    """

    needed: Mask
    share: NDArray[np.int64]


def prune(program: Program) -> Program:
    """Remove channels without effect.

    The result computes the same output codes for every input; each tensor holds the codes of the channels that
    `Program.live` names. Input and output keep all channels, every other tensor at least one.

    Parameters
    ----------
    program : Program
        Before fusion.
    """
    known = bounds(program)
    program = replace(program, ops=tuple(_clear(op, program, known) for op in program.ops))
    reads = {op.output: _reads(op, program, known[op.inputs[0]]) for op in program.ops if isinstance(op, Conv)}
    kept = _Kept(program, reads).solve()
    tensors = {
        name: replace(t, shape=(*t.shape[:2], int(kept[name].sum()))) if name in kept else t
        for name, t in program.tensors.items()
    }
    live = dict(program.live)
    for name, mask in kept.items():
        if not mask.all():
            before = live.get(name, np.ones(len(mask), np.bool_))
            live[name] = before.copy()
            live[name][before] = mask
    ops = tuple(_slice(op, reads[op.output], kept) if isinstance(op, Conv) else op for op in program.ops)
    return replace(program, tensors=tensors, ops=ops, live=live)


def _clear(op: Op, program: Program, known: dict[str, Bounds]) -> Op:
    """Give outputs that have one code, whatever the input, zero weights and a bias that requantizes to that code."""
    if not isinstance(op, Conv):
        return op
    constant = known[op.output].constant
    acc = accumulator_bounds(op, program, known[op.inputs[0]]).low[0, 0]
    constant = constant & (np.abs(acc) < _INT32)
    weights = np.where(constant[:, None, None, None], 0, op.weights).astype(np.int8)
    return replace(op, weights=weights, bias=np.where(constant, acc, op.bias).astype(np.int32))


def _reads(op: Conv, program: Program, x: Bounds) -> _Reads:
    outputs, _, _, depth = op.weights.shape
    per_group, zero = outputs // op.groups, program.tensors[op.inputs[0]].zero
    needed = (op.weights != 0).any(axis=(1, 2))
    share = np.zeros((outputs, depth), np.int64)
    for channel in np.flatnonzero(x.known):
        group, local = divmod(int(channel), depth)
        rows = slice(group * per_group, (group + 1) * per_group)
        if not needed[rows, local].any():
            continue
        values = x.low[None, :, :, channel : channel + 1] - zero
        sums = accumulate(values, op.weights[rows, :, :, local : local + 1], op.stride, op.pads, 1)[0]
        needed[rows, local] &= (sums != sums[0, 0]).any(axis=(0, 1))
        share[rows, local] = np.where(needed[rows, local], 0, sums[0, 0])
    # |bias| + the shares bounds every bias that may come out of this.
    crowded = np.abs(op.bias.astype(np.int64)) + np.abs(share).sum(axis=1) >= _INT32
    needed |= crowded[:, None] & (share != 0)
    return _Reads(needed, np.where(needed, 0, share))


class _Kept:
    """The smallest sets of channels, one per tensor, that satisfy every operator.

    Sets only grow, so the rules may be applied in any order until none adds anything.
    """

    def __init__(self, program: Program, reads: dict[str, _Reads]) -> None:
        self.program, self.reads = program, reads
        ends = (program.input, program.output)
        names = set(ends).union(*({*op.inputs, op.output} for op in program.ops))
        self.masks = {name: np.full(program.tensors[name].shape[2], name in ends) for name in names}

    def solve(self) -> dict[str, Mask]:
        """Apply all rules until nothing changes."""
        while True:
            before = sum(int(mask.sum()) for mask in self.masks.values())
            for op in reversed(self.program.ops):
                _keep(op, self)
            for mask in self.masks.values():
                mask[0] |= not mask.any()
            if sum(int(mask.sum()) for mask in self.masks.values()) == before:
                return self.masks

    def couple(self, *masks: Mask) -> None:
        """Keep the same channels in all of these views."""
        union = np.logical_or.reduce(masks)
        for mask in masks:
            mask |= union


@singledispatch
def _keep(op: Op, kept: _Kept) -> None:
    """Add what an operator needs; an operator without rule needs everything."""
    for name in (*op.inputs, op.output):
        kept.masks[name][:] = True


@_keep.register(Add)
@_keep.register(Pool)
@_keep.register(Requantize)
@_keep.register(Pad)
def _same(op: Op, kept: _Kept) -> None:
    kept.couple(*(kept.masks[name] for name in (*op.inputs, op.output)))


@_keep.register
def _concat(op: Concat, kept: _Kept) -> None:
    start = 0
    for name in op.inputs:
        mask = kept.masks[name]
        kept.couple(mask, kept.masks[op.output][start : start + len(mask)])
        start += len(mask)


@_keep.register
def _reshape(op: Reshape, kept: _Kept) -> None:
    x, y = kept.masks[op.inputs[0]], kept.masks[op.output]
    # In NCHW order the codes of one channel lie side by side.
    few, many = (x, y.reshape(len(x), -1)) if len(x) <= len(y) else (y, x.reshape(len(y), -1))
    union = few | many.any(axis=1)
    few |= union
    many |= union[:, None]


@_keep.register
def _conv(op: Conv, kept: _Kept) -> None:
    reads, groups = kept.reads[op.output], op.groups
    x, y = kept.masks[op.inputs[0]].reshape(groups, -1), kept.masks[op.output].reshape(groups, -1)
    needed = reads.needed.reshape(groups, y.shape[1], x.shape[1])
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


def _slice(op: Conv, reads: _Reads, kept: dict[str, Mask]) -> Conv:
    """Cut a convolution down to the channels that are kept; the others' shares go into the biases."""
    groups = op.groups
    x, y = kept[op.inputs[0]].reshape(groups, -1), kept[op.output]
    per_group = len(y) // groups
    rows = np.flatnonzero(y)
    inputs = x[rows // per_group]
    share = np.where(inputs, 0, reads.share[rows]).sum(axis=1)
    columns = np.stack([np.flatnonzero(mask) for mask in inputs])
    weights = np.take_along_axis(op.weights[rows], columns[:, None, None, :], axis=3)
    bias = (op.bias[rows] + share).astype(np.int32)
    return replace(
        op, weights=np.ascontiguousarray(weights), bias=bias, ratios=op.ratios[rows], groups=int(x.any(axis=1).sum())
    )
