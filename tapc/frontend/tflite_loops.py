"""TFLite loops as recurrent layers of ONNX, or their results as elements of what their steps compute."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tapc.frontend.tflite_cells import Cell, cells
from tapc.frontend.tflite_reader import Operator, Tensor
from tapc.frontend.tflite_trace import Loop, Numbering, Numbers, Traced, outside, read_values, run, traced


class Add(Protocol):
    """Adds a tensor, quantized as another is where it is told one, and returns its index."""

    def __call__(self, tensor: Tensor, *, like: int | None = None) -> int:
        """Add it."""


_NO_STEPS = "it has no steps"


class _Gatherer:
    """Writes operators that give elements by their numbers.

    Parameters
    ----------
    n : Numbering
    tensors : list of Tensor
    add : callable
        Adds a tensor and returns its index.
    name : str
        Of the loop's tensors.
    """

    def __init__(self, n: Numbering, tensors: list[Tensor], add: Add, name: str) -> None:
        self.tensors, self.add, self.name = tensors, add, name
        self.operators: list[Operator] = []
        self.tensor, self.place = np.full(n.next, -1), np.zeros(n.next, np.int64)
        for start, tensor, size in n.places:
            self.tensor[start : start + size], self.place[start : start + size] = tensor, np.arange(size)
        self.constant, self.constant_place = (np.zeros(-n.next_constant, np.int64) for _ in range(2))
        for index, numbers in n.constants.items():
            own = -numbers.reshape(-1)
            self.constant[own], self.constant_place[own] = index, np.arange(own.size)

    def sources(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """Return the tensor of each element, -1 where it has none, and its place there."""
        own, known = np.maximum(numbers, 0), np.maximum(-numbers, 0)
        return (
            np.where(numbers < 0, self.constant[known], self.tensor[own]),
            np.where(numbers < 0, self.constant_place[known], self.place[own]),
        )

    def gather(self, numbers: Numbers, shape: tuple[int, ...], target: int | None = None) -> int:
        """Write a tensor of these elements, or a given one; return its index."""
        if target is None:
            target = self._new(shape, "elements")
        found, places = self.sources(numbers.reshape(-1))
        which = np.unique(found)
        whole = self.tensors[which[0]]
        if len(which) == 1 and np.array_equal(places, np.arange(int(np.prod(whole.shape)))):
            self.write("RESHAPE", (int(which[0]),), target)
            return target
        first, flat = 0, []
        for index in which.tolist():
            size = int(np.prod(self.tensors[index].shape))
            flat.append(self._new((size,), "flat", index))
            self.write("RESHAPE", (index,), flat[-1])
            places = np.where(found == index, places + first, places)
            first += size
        source = flat[0]
        if len(flat) > 1:
            source = self._new((first,), "joined", int(which[0]))
            self.write("CONCATENATION", tuple(flat), source, Axis=0)
        index = self.constant_tensor(places.reshape(shape))
        self.write("GATHER", (source, index), target, Axis=0, BatchDims=0)
        return target

    def constant_tensor(self, array: NDArray[Any]) -> int:
        """Add a constant of integers."""
        return self.add(Tensor(f"{self.name}.places", array.shape, "INT64", array, False))

    def write(self, kind: str, inputs: tuple[int, ...], output: int, index: int = 0, **options: Any) -> None:
        """Write an operator of one output."""
        self.operators.append(Operator(index, kind, inputs, (output,), options))

    def _new(self, shape: tuple[int, ...], part: str, like: int | None = None) -> int:
        tensor = Tensor(f"{self.name}.{part}", shape, "FLOAT32", None, False) if like is None else self.tensors[like]
        own = replace(tensor, name=f"{self.name}.{part}", shape=shape, data=None, dynamic=())
        return self.add(own, like=like)


def output_elements(loop: Loop, tensors: list[Tensor], add: Add) -> list[Operator]:
    """Return operators that give a loop's results from what its steps compute."""
    n = Numbering(tensors)
    given = outside(loop, n)
    real = run(loop, n, lambda place, step: None, set(), given)
    gatherer = _Gatherer(n, tensors, add, _name(loop, tensors))
    for p in loop.used:
        _give(gatherer, loop, p, real[p])
    return gatherer.operators


def _give(gatherer: _Gatherer, loop: Loop, p: int, numbers: Numbers) -> None:
    target = loop.op.outputs[p]
    gatherer.tensors[target] = replace(gatherer.tensors[target], shape=numbers.shape, dynamic=())
    gatherer.gather(numbers, numbers.shape, target)


def _name(loop: Loop, tensors: Sequence[Tensor]) -> str:
    return tensors[loop.op.outputs[0]].name


class _Watch:
    """Compares the steps of a loop with the first, and collects the inputs that each reads from outside."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Numbers below are elements from outside."""
        self.first: Traced | None = None
        self.inputs: list[dict[int, int]] = []
        self.bases: list[int] = []
        self.differs = False

    def __call__(self, place: int, step: Traced) -> None:
        if self.first is None:
            self.first = step
        self.bases.append(step.base)
        pairs: dict[int, int] = {}
        self.inputs.append(pairs)
        if self.differs or len(step.nodes) != len(self.first.nodes):
            self.differs = True
            return
        for own, other in zip(step.nodes, self.first.nodes, strict=True):
            if own.kind != other.kind or own.fixed != other.fixed or own.size != other.size:
                self.differs = True
                return
            for a, b, fixed in zip(own.operands, other.operands, own.fixed, strict=True):
                if fixed:
                    self.differs |= a is not b and not np.array_equal(a, b)
                else:
                    self._compare(np.asarray(a, np.int64), np.asarray(b, np.int64), step.base, pairs)

    def _compare(self, a: Numbers, b: Numbers, base: int, pairs: dict[int, int]) -> None:
        assert self.first is not None
        if a.shape != b.shape:
            self.differs = True
            return
        before = (a >= 0) & (a < self.limit)
        shift = np.where(a >= self.limit, base - self.first.base, 0)
        if (before != ((b >= 0) & (b < self.limit))).any() or (a - shift != b)[~before].any():
            self.differs = True
            return
        for source, target in zip(b[before].tolist(), a[before].tolist(), strict=True):
            if pairs.setdefault(source, target) != target:
                self.differs = True


def recurrent_loops(loop: Loop, tensors: list[Tensor], add: Add) -> tuple[list[Operator] | None, str]:
    """Return a loop as recurrent layers; None, and why, where it is none that tapc has a loop for.

    Parameters
    ----------
    loop : Loop
    tensors : list of Tensor
        Of the graph.
    add : callable
        Adds one and returns its index.
    """
    if not loop.steps:
        return None, _NO_STEPS
    if any(tensors[i].quantization for step in loop.steps for op in step.operators for i in op.outputs):
        return None, "its steps compute with integers"
    n = Numbering(tensors)
    given = outside(loop, n)
    apart = {p: own if p in loop.fixed else n.new(own.shape) for p, own in given.items()}
    read = read_values(traced(loop.steps[0], apart, 0, n)) - loop.fixed
    n = Numbering(tensors)
    given = outside(loop, n)
    watch = _Watch(n.next)
    real = run(loop, n, watch, read, given)
    assert watch.first is not None
    if watch.differs:
        return None, "its steps compute different things"
    found = cells(watch.first, read, watch.limit)
    if isinstance(found, str):
        return None, found
    gatherer = _Gatherer(n, tensors, add, _name(loop, tensors))
    gatherer.tensor[watch.limit :] = -1  # what the steps compute is not written
    for cell in found:
        for p in cell.states:
            data = tensors[loop.op.inputs[p]].data
            if data is None or data.any():
                return None, "its state does not begin with zeros"
        columns = cell.columns.tolist()
        rows = [
            [pairs[c] if c < watch.limit else c - watch.first.base + base for c in columns]
            for pairs, base in zip(watch.inputs, watch.bases, strict=True)
        ]
        numbers = np.array(rows, np.int64)
        if (gatherer.sources(numbers)[0] < 0).any():
            return None, "its input is computed in its steps"
        whole = gatherer.gather(numbers, (len(rows), 1, len(columns)))
        gatherer.operators.append(_layer(gatherer, loop, cell, whole, watch))
    lost = [p for p in loop.used if (gatherer.sources(real[p])[0] < 0).any()]
    if lost:
        return None, f"its value {lost[0]} is read, which is kept within the layer"
    for p in loop.used:
        _give(gatherer, loop, p, real[p])
    return gatherer.operators, ""


def _layer(gatherer: _Gatherer, loop: Loop, cell: Cell, whole: int, watch: _Watch) -> Operator:
    """Return the operator of a layer; its results take the place of those of the steps."""
    assert watch.first is not None
    steps, units = len(watch.bases), cell.hidden.shape[1]
    output = gatherer.add(Tensor(_name(loop, gatherer.tensors), (steps, 1, units), "FLOAT32", None, False))
    for step, base in enumerate(watch.bases):
        own = cell.result - watch.first.base + base
        gatherer.tensor[own], gatherer.place[own] = output, np.arange(step * units, (step + 1) * units)
    return Operator(loop.op.index, "WHILE", (whole,), (output,), {"Cell": cell})
