"""Follows each element through the steps of a TFLite loop: which operator of which step computes it, and from what.

Every element that is computed, or comes from outside, has a number; those of constants are negative. What moves
elements moves numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tapc.frontend.tflite_reader import Operator, Tensor
from tapc.frontend.tflite_values import MOVES, data_of, moved

Numbers = NDArray[np.int64]
_FUSED = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}


@dataclass(frozen=True, eq=False)
class Node:
    """An operator that computes something.

    Attributes
    ----------
    kind : str
    operands : tuple of ndarray
        Numbers of elements (int64) of what is computed; values of constants where `fixed`.
    fixed : tuple of bool
    start, size : int
        The numbers of its results.
    """

    kind: str
    operands: tuple[NDArray[np.generic], ...]
    fixed: tuple[bool, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Step:
    """The operators of a step, the tensors that it is given for the loop's values, and those that it leaves."""

    operators: tuple[Operator, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    """A WHILE, step by step.

    Attributes
    ----------
    op : Operator
    steps : tuple of Step
    fixed : frozenset of int
        Values that the steps leave as they are.
    used : tuple of int
        Values that are read behind the loop.
    """

    op: Operator
    steps: tuple[Step, ...]
    fixed: frozenset[int]
    used: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Traced:
    """A step whose elements have numbers.

    Attributes
    ----------
    base : int
        The first number of the step.
    nodes : tuple of Node
    starts, ends : dict of int to ndarray
        Value of the loop -> its elements before and behind the step.
    """

    base: int
    nodes: tuple[Node, ...]
    starts: dict[int, Numbers]
    ends: dict[int, Numbers]


@dataclass(eq=False)
class Numbering:
    """Hands out numbers, and knows in which tensors the elements lie."""

    tensors: Sequence[Tensor]
    next: int = 0
    next_constant: int = -1
    places: list[tuple[int, int, int]] = field(default_factory=list)
    """First number, tensor and first element, of those that have a tensor, in order."""
    constants: dict[int, Numbers] = field(default_factory=dict)

    def new(self, shape: tuple[int, ...], tensor: int | None = None) -> Numbers:
        """Return new numbers, of the elements of a tensor where it is one."""
        size = int(np.prod(shape))
        found = np.arange(self.next, self.next + size).reshape(shape)
        if tensor is not None:
            self.places.append((self.next, tensor, size))
        self.next += size
        return found

    def of_constant(self, tensor: int) -> Numbers:
        """Return the numbers of a constant's elements."""
        if tensor not in self.constants:
            shape = self.tensors[tensor].shape
            size = int(np.prod(shape))
            self.constants[tensor] = np.arange(self.next_constant, self.next_constant - size, -1).reshape(shape)
            self.next_constant -= size
        return self.constants[tensor]


def outside(loop: Loop, n: Numbering) -> dict[int, Numbers]:
    """Return numbers for the values that a loop is given, each its own, constants too."""
    found = {}
    for p, index in enumerate(loop.op.inputs):
        tensor = n.tensors[index]
        found[p] = n.of_constant(index) if tensor.data is not None else n.new(tensor.shape, index)
    return found


def traced(step: Step, starts: dict[int, Numbers], base: int, n: Numbering) -> Traced:
    """Return a step whose elements have numbers, which begins with these."""
    known: dict[int, Numbers] = {}
    for p, own in starts.items():
        if n.tensors[step.starts[p]].data is None:  # counters and constants have their values
            known[step.starts[p]] = own
    fixed: dict[int, NDArray[np.generic]] = {}
    nodes: list[Node] = []
    for op in step.operators:
        if op.outputs and op.outputs[0] in known:  # what sets values of a step apart
            continue
        if op.kind == "DEQUANTIZE" and (weights := n.tensors[op.inputs[0]].data) is not None:
            fixed[op.outputs[0]] = weights
            continue
        found = _moved(op, known, n) if op.kind in MOVES else None
        if found is None:
            _computed(op, known, fixed, nodes, n)
            continue
        known |= dict(zip(op.outputs, found, strict=True))
    ends = {}
    for p, index in enumerate(step.ends):
        ends[p] = known[index] if index in known else n.of_constant(index)
    return Traced(base, tuple(nodes), starts, ends)


def _moved(op: Operator, known: dict[int, Numbers], n: Numbering) -> Sequence[Numbers] | None:
    data = data_of(op.kind, len(op.inputs))
    inputs: list[NDArray[np.generic] | None] = []
    for place, index in enumerate(op.inputs):
        if place not in data:
            inputs.append(n.tensors[index].data if index >= 0 else None)
        elif index in known:
            inputs.append(known[index])
        else:
            inputs.append(n.of_constant(index) if n.tensors[index].data is not None else None)
    found = moved(op.kind, inputs, op.options, n.tensors[op.outputs[0]].shape)
    return None if found is None or len(found) != len(op.outputs) else found


def _computed(
    op: Operator, known: dict[int, Numbers], fixed: dict[int, NDArray[np.generic]], nodes: list[Node], n: Numbering
) -> None:
    operands: list[NDArray[np.generic]] = []
    which = []
    for index in op.inputs:
        if index < 0:
            continue
        data = fixed.get(index, n.tensors[index].data)
        which.append(index not in known and data is not None)
        operands.append(known[index] if index in known or data is None else data)
    activation, kind = op.options.get("FusedActivationFunction", 0), op.kind
    for place, index in enumerate(op.outputs):
        shape = n.tensors[index].shape
        if activation and not place:
            start, inner = n.next, n.new(shape)
            nodes.append(Node(kind, tuple(operands), tuple(which), start, inner.size))
            operands, which, kind = [inner], [False], _FUSED.get(activation, "")
        start, known[index] = n.next, n.new(shape, index)
        nodes.append(Node(kind, tuple(operands), tuple(which), start, known[index].size))


def read_values(step: Traced) -> set[int]:
    """Return the loop's values of which a step computes something; it but moves the others."""
    found = set()
    for p, own in step.starts.items():
        numbers = own.reshape(-1)
        for node in step.nodes:
            for operand, fixed in zip(node.operands, node.fixed, strict=True):
                if not fixed and np.isin(operand, numbers).any():
                    found.add(p)
    return found


def run(
    loop: Loop, n: Numbering, observe: Callable[[int, Traced], None], read: set[int], given: dict[int, Numbers]
) -> dict[int, Numbers]:
    """Run through all steps and number their elements; values that are read have numbers of their own in each.

    Parameters
    ----------
    loop : Loop
    n : Numbering
    observe : callable
        Gets each step and its place.
    read : set of int
        The values that something is computed from.
    given : dict of int to ndarray
        The values before the loop.

    Returns
    -------
    dict of int to ndarray
        The values behind the loop, as elements of what was computed, or came from outside.
    """
    real = dict(given)
    for place, step in enumerate(loop.steps):
        base = n.next
        own = {p: n.new(real[p].shape) for p in sorted(read - loop.fixed)}
        found = traced(step, real | own, base, n)
        observe(place, found)
        real = {p: real[p] if p in loop.fixed else _resolved(ends, own, real) for p, ends in found.ends.items()}
    return real


def _resolved(numbers: Numbers, own: dict[int, Numbers], real: dict[int, Numbers]) -> Numbers:
    """Return elements of what a step was given as what they were before it."""
    for p, before in own.items():
        if before.size:
            inside = (numbers >= before.flat[0]) & (numbers <= before.flat[-1])
            if inside.any():
                places = np.where(inside, numbers - before.flat[0], 0)
                numbers = np.where(inside, real[p].reshape(-1)[places], numbers)
    return numbers
