"""Channels that cannot change an output bit are removed: constant ones and those that nobody reads."""

from dataclasses import replace

import numpy as np

from tapc.ir.channels import Bounds, Kept
from tapc.ir.program import Program
from tapc.lower.bounds import bounds


def prune(program: Program, known: dict[str, Bounds] | None = None) -> Program:
    """Remove channels without effect.

    The result computes the same output codes for every input; each tensor holds the codes of the channels that
    `Program.live` names. Inputs and outputs keep all channels, every other tensor at least one.

    Parameters
    ----------
    program : Program
        Before fusion.
    known : dict of str to Bounds, optional
        Those of `bounds`, where they have been found already.
    """
    known = known or bounds(program)
    program = replace(program, ops=tuple(op.cleared(program, known) for op in program.ops))
    kept = _kept(program, known)
    tensors = {
        name: replace(t, shape=(*t.shape[:2], int(kept.masks[name].sum()))) if name in kept.masks else t
        for name, t in program.tensors.items()
    }
    live = dict(program.live)
    for name, mask in kept.masks.items():
        if not mask.all():
            before = live.get(name, np.ones(len(mask), np.bool_))
            live[name] = before.copy()
            live[name][before] = mask
    return replace(program, tensors=tensors, ops=tuple(op.sliced(kept) for op in program.ops), live=live)


def _kept(program: Program, known: dict[str, Bounds]) -> Kept:
    """Return the smallest sets of channels, one per tensor, that satisfy every operator.

    Sets only grow, so the operators may be asked in any order until none adds anything.
    """
    ends = (*program.inputs, *program.outputs)
    names = set(ends).union(*({*op.inputs, op.output} for op in program.ops))
    masks = {name: np.full(program.tensors[name].shape[2], name in ends) for name in names}
    kept = Kept(masks, known, {name: t.zero for name, t in program.tensors.items()})
    while True:
        before = sum(int(mask.sum()) for mask in masks.values())
        for op in reversed(program.ops):
            op.keep(kept)
        for mask in masks.values():
            mask[0] |= not mask.any()
        if sum(int(mask.sum()) for mask in masks.values()) == before:
            return kept
