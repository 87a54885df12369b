"""Write TFLite files with loops (WHILE) as Keras' converter does: graphs for the condition and for a step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from frontend.tflite_builder import TfliteBuilder, schema

STEPS, INPUTS, UNITS = 6, 5, 7
Cell = Callable[["LoopBuilder", int, list[int]], list[int]]
"""Adds the operators of a step to a graph, given the input and the states, and returns the states behind it."""
_BOOL, _INT32 = 6, 2


class LoopBuilder(TfliteBuilder):
    """Collects the graphs that loops run besides the first."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        super().__init__(*shape, seed=seed)
        self.others: list[Any] = []

    @contextmanager
    def subgraph(self) -> Iterator[int]:
        """Let what is added go to another graph; gives its index in the file."""
        kept, self.graph = self.graph, schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.others.append(self.graph)
        yield len(self.others)
        self.graph = kept

    def whole(self, kind: str, inputs: list[int], *shape: int, of: int = _INT32, table: str = "", **given: Any) -> int:
        """Add an operator that gives whole numbers, or conditions."""
        made = self.operator(kind, inputs, shape, table, **given)
        self.graph.tensors[made].type = of
        return made

    def number(self, *values: int) -> int:
        return self.constant(np.array(values if len(values) > 1 else values[0], np.int32))

    def product(self, x: int, outputs: int, bias: bool = True) -> int:
        """Add a layer whose weights are a constant of the graph."""
        inputs = self.graph.tensors[x].shape[-1]
        given = [x, self.weights(outputs, inputs), self.weights(outputs) if bias else -1]
        return self.operator("FULLY_CONNECTED", given, (1, outputs), "FullyConnectedOptions")

    def two(self, kind: str, a: int, b: int) -> int:
        shape = tuple(self.graph.tensors[a].shape) or tuple(self.graph.tensors[b].shape)
        return self.operator(kind, [a, b], shape, f"{kind.title()}Options")

    def one(self, kind: str, x: int) -> int:
        return self.operator(kind, [x], tuple(self.graph.tensors[x].shape))

    def parts(self, x: int, count: int) -> list[int]:
        """Split along the last axis."""
        shape = (1, self.graph.tensors[x].shape[-1] // count)
        first = self.operator("SPLIT", [self.number(-1), x], shape, "SplitOptions", numSplits=count)
        more = [self.tensor(shape) for _ in range(count - 1)]
        self.graph.operators[-1].outputs += more
        return [first, *more]

    def loop(
        self, values: list[int], step: Callable[[list[int]], list[int]], goes_on: Callable[[list[int]], int]
    ) -> list[int]:
        """Add a WHILE over values; the functions add to the graphs of a step and of the condition."""
        before = [self.graph.tensors[value] for value in values]

        def inner() -> list[int]:
            self.graph.inputs = [self.tensor(tuple(own.shape)) for own in before]
            for index, own in zip(self.graph.inputs, before, strict=True):
                self.graph.tensors[index].type = own.type
            return list(self.graph.inputs)

        with self.subgraph() as condition:
            given = inner()
            self.graph.outputs = [goes_on(given)]
        with self.subgraph() as body:
            given = inner()
            self.graph.outputs = step(given)
        options = {"condSubgraphIndex": condition, "bodySubgraphIndex": body}
        outputs = [self.whole("WHILE", values, *before[0].shape, of=before[0].type, table="WhileOptions", **options)]
        for own in before[1:]:
            outputs.append(self.tensor(tuple(own.shape)))
            self.graph.tensors[outputs[-1]].type = own.type
        self.graph.operators[-1].outputs = outputs
        return outputs

    def finish(self, *outputs: int) -> bytes:
        super().finish(*outputs)
        self.model.subgraphs = [self.graph, *self.others]
        import flatbuffers

        packer = flatbuffers.Builder(1 << 16)
        packer.Finish(self.model.Pack(packer), b"TFL3")
        return bytes(packer.Output())


def lstm(b: LoopBuilder, x: int, states: list[int]) -> list[int]:
    h, c = states
    i, f, g, o = b.parts(b.two("ADD", b.product(x, 4 * UNITS), b.product(h, 4 * UNITS, bias=False)), 4)
    kept = b.two("MUL", b.one("LOGISTIC", f), c)
    c = b.two("ADD", kept, b.two("MUL", b.one("LOGISTIC", i), b.one("TANH", g)))
    return [b.two("MUL", b.one("LOGISTIC", o), b.one("TANH", c)), c]


def gru(b: LoopBuilder, x: int, states: list[int]) -> list[int]:
    """Keras' `reset_after=True`."""
    (h,) = states
    (xz, xr, xn), (hz, hr, hn) = b.parts(b.product(x, 3 * UNITS), 3), b.parts(b.product(h, 3 * UNITS), 3)
    z, r = b.one("LOGISTIC", b.two("ADD", xz, hz)), b.one("LOGISTIC", b.two("ADD", xr, hr))
    return _mixed(b, z, h, b.one("TANH", b.two("ADD", xn, b.two("MUL", r, hn))))


def gru_reset_before(b: LoopBuilder, x: int, states: list[int]) -> list[int]:
    (h,) = states
    (xz, xr, xn), (hz, hr) = b.parts(b.product(x, 3 * UNITS), 3), b.parts(b.product(h, 2 * UNITS, bias=False), 2)
    z, r = b.one("LOGISTIC", b.two("ADD", xz, hz)), b.one("LOGISTIC", b.two("ADD", xr, hr))
    return _mixed(b, z, h, b.one("TANH", b.two("ADD", xn, b.product(b.two("MUL", r, h), UNITS, bias=False))))


def rnn(b: LoopBuilder, x: int, states: list[int]) -> list[int]:
    return [b.one("TANH", b.two("ADD", b.product(x, UNITS), b.product(states[0], UNITS, bias=False)))]


def rnn_relu(b: LoopBuilder, x: int, states: list[int]) -> list[int]:
    return [b.one("RELU", b.two("ADD", b.product(x, UNITS), b.product(states[0], UNITS, bias=False)))]


def own(b: LoopBuilder, x: int, states: list[int]) -> list[int]:
    """No layer that ONNX has: its gate does not read the state, and neither does its new state read the input."""
    (h,) = states
    return _mixed(b, b.one("LOGISTIC", b.product(x, UNITS)), h, b.one("TANH", b.product(h, UNITS)))


def _mixed(b: LoopBuilder, z: int, h: int, new: int) -> list[int]:
    rest = b.two("SUB", b.constant(np.array(1, np.float32)), z)
    return [b.two("ADD", b.two("MUL", z, h), b.two("MUL", rest, new))]


def layer(
    b: LoopBuilder, x: int, cell: Cell, states: int = 1, *, sequence: bool = False, backwards: bool = False,
    steps: int = STEPS, initial: float = 0, limit: float | None = None,
) -> int:  # fmt: skip
    """Add a layer of Keras over (1, steps, inputs); returns (1, steps, units) where `sequence`, or (1, units).

    It goes on for a number of steps, or until its state's greatest element is no longer below `limit`.
    """
    inputs = b.graph.tensors[x].shape[2]
    given = b.reshape(x, steps, 1, inputs)
    if backwards:
        given = b.operator("REVERSE_V2", [given, b.constant(np.array([0], np.int32))], (steps, 1, inputs))
    zeros = b.constant(np.zeros((steps if sequence else 1, 1, UNITS), np.float32))
    begun = [b.constant(np.full((1, UNITS), initial, np.float32)) for _ in range(states)]

    def step(values: list[int]) -> list[int]:
        counter, results, *before, source = values
        own = b.operator("GATHER", [source, counter], (1, inputs), "GatherOptions")
        after = cell(b, own, before)
        later = b.whole("ADD", [counter, b.number(1)], table="AddOptions")
        result = b.reshape(after[0], 1, 1, UNITS)
        if sequence:
            result = _put(b, results, result, counter, later, steps)
        return [later, result, *after, source]

    def goes_on(values: list[int]) -> int:
        if limit is None:
            return b.whole("LESS", [values[0], b.number(steps)], of=_BOOL)
        axes = b.constant(np.array([0, 1], np.int32))
        most = b.operator("REDUCE_MAX", [values[2], axes], (), "ReducerOptions")
        return b.whole("LESS", [most, b.constant(np.array(limit, np.float32))], of=_BOOL)

    found = b.loop([b.number(0), zeros, *begun, given], step, goes_on)
    return b.reshape(found[1], 1, steps, UNITS) if sequence else b.reshape(found[1], 1, UNITS)


def _put(b: LoopBuilder, results: int, result: int, counter: int, later: int, steps: int) -> int:
    """Put a step's result into those of all, by three parts whose extents the file leaves open."""

    def places(number: int, *more: int) -> int:
        one = b.whole("RESHAPE", [number, b.constant(np.array([1], np.int32))], 1, table="ReshapeOptions")
        rest = b.constant(np.array(more, np.int32))
        return b.whole("CONCATENATION", [one, rest], 3, table="ConcatenationOptions", axis=0)

    def cut(starts: int, sizes: int) -> int:
        made = b.operator("SLICE", [results, starts, sizes], (1, 1, UNITS), "SliceOptions")
        b.graph.tensors[made].shapeSignature = [-1, 1, UNITS]
        return made

    before = cut(b.number(0, 0, 0), places(counter, -1, -1))
    after = cut(places(later, 0, 0), b.number(-1, -1, -1))
    shape = (steps, 1, UNITS)
    return b.operator("CONCATENATION", [before, result, after], shape, "ConcatenationOptions", axis=0)


def network(cell: Cell, states: int = 1, **options: Any) -> bytes:
    """Return a network of one such layer and a tanh."""
    b = LoopBuilder(1, options.get("steps", STEPS), INPUTS)
    return b.finish(b.one("TANH", layer(b, b.input, cell, states, **options)))
