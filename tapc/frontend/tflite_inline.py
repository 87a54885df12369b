"""TFLite graphs whose counters and shapes are computed, and whose loops are written step by step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.boundary import MOST_NODES
from tapc.frontend.tflite_loops import output_elements, recurrent_loops
from tapc.frontend.tflite_reader import Operator, Tensor, TfliteGraph
from tapc.frontend.tflite_trace import Loop, Step
from tapc.frontend.tflite_values import MOVES, computed, data_of, moved

_MOST_TRACED = 100 * MOST_NODES
"""Operators of all steps of a loop, before it is known what it computes."""


@dataclass(frozen=True)
class Inlined:
    """A graph without loops of operators.

    Attributes
    ----------
    graph : TfliteGraph
        Its tensors are those of the file's first graph, and others behind them.
    origins : mapping of int to tuple of int
        Tensor behind them -> subgraph and index that it comes from.
    """

    graph: TfliteGraph
    origins: Mapping[int, tuple[int, int]]


def without_loops(graph: TfliteGraph, subgraphs: Sequence[TfliteGraph], where: str) -> Inlined:
    """Return a graph in which every WHILE is a recurrent layer, or its steps one after the other.

    Parameters
    ----------
    graph : TfliteGraph
        The first graph of a file.
    subgraphs : sequence of TfliteGraph
        All of the file's, by index.
    where : str
        The file, for errors.

    Raises
    ------
    UnsupportedError
        A loop whose number of steps is not constant, or whose steps are too many operators; a dynamic dimension that
        is not that of the batch.
    """
    inliner = _Inliner(graph, subgraphs, where)
    read = {*graph.outputs, *(own.after for own in graph.variables), *(i for op in graph.operators for i in op.inputs)}
    for op in graph.operators:
        inliner.visit(op, read)
    made = replace(graph, tensors=tuple(inliner.tensors), operators=tuple(inliner.operators))
    return Inlined(made, inliner.origins)


class _Inliner:
    def __init__(self, graph: TfliteGraph, subgraphs: Sequence[TfliteGraph], where: str) -> None:
        self.tensors, self.subgraphs, self.where = list(graph.tensors), subgraphs, where
        self.operators: list[Operator] = []
        self.origins: dict[int, tuple[int, int]] = {}
        self._constants: dict[tuple[int, int], int] = {}

    def visit(self, op: Operator, read: set[int]) -> None:
        """Take the next operator; `read` has the tensors that something reads."""
        if op.kind == "WHILE":
            self._loop(op, read)
        elif not self._fold(op):
            self._infer(op)
            self.operators.append(op)

    def add(self, tensor: Tensor, origin: tuple[int, int] | None = None, *, like: int | None = None) -> int:
        """Add a tensor, quantized as another is where it is told one, and return its index."""
        self.tensors.append(tensor)
        if like is not None and tensor.quantization:
            origin = self.origins.get(like, (0, like))
        if origin is not None:
            self.origins[len(self.tensors) - 1] = origin
        return len(self.tensors) - 1

    def _known(self, op: Operator) -> list[NDArray[Any] | None]:
        return [self.tensors[i].data if i >= 0 else None for i in op.inputs]

    def _fold(self, op: Operator) -> bool:
        """Make the results of an operator constants where its inputs, or their shapes, say what they are."""
        if not op.outputs or not op.inputs:
            return False
        first = self.tensors[op.outputs[0]]
        found: Sequence[NDArray[Any]] | None = None
        if op.kind == "SHAPE":
            found = [np.array(self.tensors[op.inputs[0]].shape, np.int32)]
        elif op.kind == "RANK":
            found = [np.array(len(self.tensors[op.inputs[0]].shape), np.int32)]
        elif any(i >= 0 and self.tensors[i].quantization for i in op.inputs):
            return False  # codes of constants stay where the converter finds them
        elif op.kind in MOVES:
            found = moved(op.kind, self._known(op), op.options, first.shape)
        elif (one := computed(op.kind, self._known(op), op.options, first.type)) is not None:
            found = [one]
        if found is None or len(found) != len(op.outputs):
            return False
        for index, array in zip(op.outputs, found, strict=True):
            self.tensors[index] = replace(self.tensors[index], data=array, shape=array.shape, dynamic=())
        return True

    def _infer(self, op: Operator) -> None:
        """Give results of an operator that have dynamic dimensions the shapes that its inputs tell."""
        if not any(self.tensors[i].dynamic for i in op.outputs):
            return
        shapes = [self.tensors[i].shape if i >= 0 else () for i in op.inputs]
        first = self.tensors[op.outputs[0]]
        found: list[tuple[int, ...]] = []
        if op.kind in MOVES and not (op.kind == "RESHAPE" and len(op.inputs) > 1 and self._known(op)[1] is None):
            known = self._known(op)
            for place in data_of(op.kind, len(op.inputs)):
                known[place] = np.broadcast_to(np.int8(0), shapes[place])
            found = [part.shape for part in moved(op.kind, known, op.options, first.shape) or ()]
        elif op.kind == "FULLY_CONNECTED" and len(shapes[1]) == 2:
            outputs, inputs = shapes[1]
            rows = (math.prod(shapes[0]) // inputs,) if len(first.shape) == 2 else shapes[0][:-1]
            found = [(*rows, outputs)]
        elif len(op.outputs) == 1 and (own := _broadcast(shapes, first)) is not None:
            found = [own]
        for index, shape in zip(op.outputs, found, strict=False):
            self.tensors[index] = replace(self.tensors[index], shape=shape, dynamic=())
        for tensor in (self.tensors[i] for i in op.outputs):
            if set(tensor.dynamic) - {0} or (tensor.dynamic and tensor.shape[0] != 1):
                raise UnsupportedError(
                    f"{self.where}: tensor {tensor.name!r} has dynamic dimension {tensor.dynamic[-1]}; convert the "
                    "model with a fixed input shape"
                )

    def _run(self, number: int, inputs: Sequence[int], read: Sequence[int] = ()) -> list[int]:
        """Write a subgraph of these inputs; return its outputs."""
        if not 0 < number < len(self.subgraphs):
            raise DataError(f"{self.where}: corrupt TFLite file: subgraph {number} of {len(self.subgraphs)}")
        graph = self.subgraphs[number]
        if len(graph.inputs) != len(inputs):
            raise DataError(f"{self.where}: corrupt TFLite file: subgraph {number} has {len(graph.inputs)} inputs")
        places = dict(zip(graph.inputs, inputs, strict=True))

        def place(local: int) -> int:
            if local < 0 or local in places:
                return places.get(local, -1)
            tensor, origin = graph.tensors[local], (number, local)
            if tensor.data is None:
                places[local] = self.add(tensor, origin)
            else:
                if origin not in self._constants:
                    self._constants[origin] = self.add(tensor, origin)
                places[local] = self._constants[origin]
            return places[local]

        wanted = {place(i) for i in (*graph.outputs, *(i for op in graph.operators for i in op.inputs))}
        for op in graph.operators:
            outputs = tuple(place(i) for i in op.outputs)
            self.visit(replace(op, inputs=tuple(place(i) for i in op.inputs), outputs=outputs), wanted)
        return [place(i) for i in graph.outputs]

    def _loop(self, op: Operator, read: set[int]) -> None:
        cond, body = int(op.options["CondSubgraphIndex"]), int(op.options["BodySubgraphIndex"])
        kept = self.operators
        label = f"{self.where}: operator {op.index} (WHILE, output {self.tensors[op.outputs[0]].name!r})"
        steps: list[Step] = []
        values, traced = list(op.inputs), 0
        graph = self.subgraphs[body] if 0 < body < len(self.subgraphs) else None
        if graph is None or len(graph.inputs) != len(values) or len(graph.outputs) != len(values):
            raise DataError(f"{label}: corrupt TFLite file: its body does not fit it")
        fixed = {p for p in range(len(values)) if graph.inputs[p] == graph.outputs[p]}
        while True:
            self.operators = []
            (goes_on,) = self._run(cond, values)
            known = self.tensors[goes_on].data
            if known is None:
                raise UnsupportedError(
                    f"{label}: its number of steps is computed from the network's input; only loops of a constant "
                    "number are compiled: convert the model with a fixed number of steps"
                )
            if not known.reshape(-1)[0]:
                break
            self.operators = []
            starts = [v if p in fixed else self._apart(v) for p, v in enumerate(values)]
            ends = self._run(body, starts)
            steps.append(Step(tuple(self.operators), tuple(starts), tuple(ends)))
            values, traced = [v if p in fixed else ends[p] for p, v in enumerate(values)], traced + len(self.operators)
            if traced > _MOST_TRACED:
                raise UnsupportedError(f"{label}: its steps have more than {_MOST_TRACED} operators")
        self.operators = kept
        used = tuple(p for p, index in enumerate(op.outputs) if index in read and p not in fixed)
        loop = Loop(op, tuple(steps), frozenset(fixed), used)
        written, why = recurrent_loops(loop, self.tensors, self.add)
        if written is None:
            count = sum(len(step.operators) for step in steps)
            if count > MOST_NODES:
                raise UnsupportedError(
                    f"{label}: {why}; so its {len(steps)} steps would be {count} operators one after the other, and "
                    f"{MOST_NODES} are the most: use a layer of the kinds LSTM, GRU or SimpleRNN as they are by default"
                )
            written = [own for step in steps for own in step.operators]
            written += output_elements(loop, self.tensors, self.add)
        self.operators += written
        for p in fixed:
            self._same(op.inputs[p], op.outputs[p])
        for p in set(range(len(values))) - fixed - set(used):
            self._same(values[p], op.outputs[p])

    def _apart(self, index: int) -> int:
        """Return a tensor of its own for a value of a step, so that no two values are taken for one."""
        tensor = self.tensors[index]
        if tensor.data is not None and tensor.type != "FLOAT32" and not tensor.quantization:
            return index  # a counter
        own = self.add(replace(tensor, data=None, name=f"{tensor.name}.before"), like=index)
        self.operators.append(Operator(0, "RESHAPE", (index,), (own,), {}))
        return own

    def _same(self, source: int, target: int) -> None:
        """Let a loop's result be what it is given; nothing is computed where nothing reads it."""
        tensor = self.tensors[source]
        self.tensors[target] = replace(self.tensors[target], shape=tensor.shape, data=tensor.data, dynamic=())
        if tensor.data is None:
            self.operators.append(Operator(0, "RESHAPE", (source,), (target,), {}))


def _broadcast(shapes: Sequence[tuple[int, ...]], result: Tensor) -> tuple[int, ...] | None:
    """Return the shape of an element-wise result; None where the stored one does not fit it."""
    try:
        found = np.broadcast_shapes(*shapes)
    except ValueError:
        return None
    fits = len(found) == len(result.shape) and all(
        axis in result.dynamic or extent == own
        for axis, (extent, own) in enumerate(zip(found, result.shape, strict=True))
    )
    return found if fits else None
