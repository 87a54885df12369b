"""Activation groups: tensors of one width, and those that have 16 bits from the start."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tapc.graph.network import WIDE_BITS, Group
from tapc.graph.state import States


@dataclass(frozen=True)
class Use:
    """What an operator asks of the tensors that it reads and writes.

    Attributes
    ----------
    reads : tuple of str
        Tensors that are stored, before the moves whose results are not.
    ends : str
        Quantized tensor that it ends in.
    wide : bool
        It has kernels for 16 bits.
    narrow : frozenset of str
        Tensors that have no more than 8 bits unless it is wide.
    fixed : frozenset of str
        Tensors whose width is not chosen.
    coupled : bool
        What it reads and what it ends in have one width.
    moves : bool
        It computes nothing.
    operands, results : tuple of str
        What its node reads and writes.
    """

    reads: tuple[str, ...]
    ends: str
    wide: bool
    narrow: frozenset[str]
    fixed: frozenset[str]
    coupled: bool
    moves: bool
    operands: tuple[str, ...]
    results: tuple[str, ...]


def activation_groups(
    tensors: Iterable[str], ports: Collection[str], states: States, uses: Sequence[Use]
) -> tuple[Group, ...]:
    """Return the groups of a network's quantized tensors, in the order of the first of each.

    What comes back in the next call has 16 bits where there are kernels: its error would come back, too. Whatever an
    operator takes or gives beside it has 8.

    Parameters
    ----------
    tensors : iterable of str
        In execution order.
    ports : collection of str
        The network's inputs and outputs.
    states : States
    uses : sequence of Use
    """
    parent = {tensor: tensor for tensor in tensors}

    def find(tensor: str) -> str:
        while parent[tensor] != tensor:
            tensor = parent[tensor]
        return tensor

    fixed = {*ports, *(name for use in uses for name in use.fixed)}
    outside = set(ports) - {name for state in states for name in (state.input, state.output)}
    narrow = {name for use in uses if not use.wide for name in use.narrow}
    back = returning(states, uses)
    for use in uses:
        # What joins a state from outside, as the input of a cell, does not become wide with it.
        apart = set(use.reads) - back if use.moves and use.ends in back else set()
        if use.coupled:
            for operand in (name for name in use.reads if name not in apart):
                parent[find(operand)] = find(use.ends)
    for state in states:  # keeping it only moves codes
        parent[find(state.input)] = find(state.output)
    members: dict[str, list[str]] = defaultdict(list)
    for tensor in parent:
        members[find(tensor)].append(tensor)
    held = {name for own in members.values() if not back.isdisjoint(own) and narrow.isdisjoint(own) for name in own}
    for use in uses:
        ends = {use.ends, *use.reads}
        if not held.isdisjoint(ends):
            fixed |= ends
    return tuple(
        Group(
            tuple(own),
            not fixed.isdisjoint(own),
            WIDE_BITS if own[0] in held else 8,
            narrow.isdisjoint(own),
            not outside.isdisjoint(own),
        )
        for own in members.values()
    )


def returning(states: States, uses: Sequence[Use]) -> frozenset[str]:
    """Return the tensors that depend on what they were in the last call by more than moves: LSTMs' states and gates."""
    if not states:
        return frozenset()
    edges = [(source, target) for use in uses for source in use.operands for target in use.results]
    edges += [(state.output, state.input) for state in states]
    names = sorted({name for edge in edges for name in edge})
    place = {name: i for i, name in enumerate(names)}
    rows, columns = np.array([[place[name] for name in edge] for edge in edges]).T
    links = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    labels = connected_components(links, directed=True, connection="strong")[1]
    computed = {
        labels[place[use.results[0]]]
        for use in uses
        if not use.moves and any(labels[place[name]] == labels[place[use.results[0]]] for name in use.operands)
    }
    return frozenset(name for name in names if labels[place[name]] in computed)
