"""TFLite's fused LSTM as ONNX's; one of integers, and SVDF, as the operators that they are made of, with states."""

from dataclasses import replace
from typing import Any

import numpy as np

from tapc.base.errors import DataError
from tapc.frontend.tflite_cells import Cell
from tapc.frontend.tflite_converter import Converter, converts
from tapc.frontend.tflite_reader import Operator, TfliteGraph, Variable
from tapc.graph.given import GivenPoint

GATE_ORDER = (0, 3, 1, 2)
"""Input, forget, cell and output gate of TFLite in the order of ONNX."""
_NONE = {
    **dict.fromkeys(range(9, 12), "peepholes, weights from the cell state to the gates"),
    **dict.fromkeys(range(16, 18), "a projection of its hidden state"),
    **dict.fromkeys(range(20, 24), "layer normalization of its gates"),
}
_LSTM, _HIDDEN, _CELL = "UNIDIRECTIONAL_SEQUENCE_LSTM", 18, 19
_RNN, _PAST = "UNIDIRECTIONAL_SEQUENCE_RNN", 4
_STEPS = 4
"""Where an SVDF has what its filters gave in the last calls."""
_TANH = 4
LEAST_CLIP = 8
"""Of a cell state: beyond it a tanh is 1."""


@converts("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(c: Converter, op: Operator) -> None:
    """Convert an LSTM over (N, T, inputs), or (T, N, inputs); of several steps it begins with zeros in every call."""
    for position, what in _NONE.items():
        if c.has(op, position):
            raise c.unsupported(op, f"it has {what}")
    if not c.has(op, 1):
        raise c.unsupported(op, "its input gate is coupled to the forget gate")
    if op.options["FusedActivationFunction"] != _TANH:
        raise c.unsupported(op, "its activation is none of Tanh")
    if c.graph.tensors[op.inputs[0]].type == "INT8":
        _integer_lstm(c, op)
        return
    if op.options["ProjClip"] or 0 < op.options["CellClip"] < LEAST_CLIP:
        raise c.unsupported(op, f"it clips its cell state to {op.options['CellClip']:g}; {LEAST_CLIP} is the least")
    weights, hidden = (np.concatenate([c.constant(op, first + gate) for gate in GATE_ORDER]) for first in (1, 5))
    bias = np.concatenate([c.constant(op, 12 + gate) for gate in GATE_ORDER])
    stem = c.name(op) or c.names[op.outputs[0]]
    constants = [
        c.builder.constant(np.asarray(value, np.float32)[None], f"{stem}.{part}")
        for part, value in (("W", weights), ("R", hidden), ("B", np.concatenate([bias, np.zeros_like(bias)])))
    ]
    value = c.value(op)
    if not op.options["TimeMajor"]:
        value = c.builder.node("Transpose", [value], perm=[1, 0, 2])
    units = hidden.shape[1]
    if len(op.outputs) == 3:  # one step, from states that the network keeps
        states = [c.builder.reshape(c.values[op.inputs[place]], (1, 1, units)) for place in (_HIDDEN, _CELL)]
        results = [f"{stem}.result.{part}" for part in ("y", "h", "c")]
        c.builder.nodes("LSTM", [value, *constants, "", *states], results, c.name(op), hidden_size=units)
        for output, result in zip(op.outputs, results, strict=True):
            c.done(output, c.builder.reshape(result, c.graph.tensors[output].shape))
        return
    found = c.builder.node("LSTM", [value, *constants], c.name(op), hidden_size=units)
    merged = c.builder.node("Squeeze", [found, c.builder.integers(1)])
    if not op.options["TimeMajor"]:
        merged = c.builder.node("Transpose", [merged], perm=[1, 0, 2])
    c.done(op.outputs[0], merged)


@converts("WHILE")
def loop(c: Converter, op: Operator) -> None:
    """Convert a loop that is a recurrent layer, (T, 1, inputs) to (T, 1, units)."""
    cell: Cell = op.options["Cell"]
    stem = c.name(op) or c.names[op.outputs[0]]
    parts = (("W", cell.input), ("R", cell.hidden), ("B", cell.bias))
    constants = [c.builder.constant(array[None], f"{stem}.{part}") for part, array in parts]
    own: dict[str, Any] = {"linear_before_reset": int(cell.linear)} if cell.kind == "GRU" else {}
    if cell.kind == "RNN":
        own["activations"] = [cell.activation]
    units = cell.hidden.shape[1]
    found = c.builder.node(cell.kind, [c.value(op), *constants], c.name(op), hidden_size=units, **own)
    c.done(op.outputs[0], c.builder.node("Squeeze", [found, c.builder.integers(1)]))


def with_states(graph: TfliteGraph) -> tuple[TfliteGraph, dict[int, int]]:
    """Return a graph whose LSTMs, RNNs and SVDFs write their states to tensors of their own, and what these are like.

    A float LSTM or RNN of several steps begins with zeros in every call.
    """
    tensors, variables, operators = list(graph.tensors), list(graph.variables), []
    alike: dict[int, int] = {}
    places: tuple[tuple[int, str], ...]
    for op in graph.operators:
        x = tensors[op.inputs[0]] if op.inputs else None
        if op.kind == _LSTM and len(op.inputs) > _CELL and x and (x.type == "INT8" or x.shape[:2] == (1, 1)):
            places, stem = ((_HIDDEN, "hidden"), (_CELL, "cell")), "lstm"
        elif op.kind == _RNN and len(op.inputs) > _PAST and x and x.shape[:2] == (1, 1):
            places, stem = ((_PAST, "hidden"),), "rnn"
        elif op.kind == "SVDF" and len(op.inputs) > _STEPS:
            places, stem = ((_STEPS, "steps"),), "svdf"
        else:
            places, stem = (), ""
        made = []
        for position, what in places:
            before = op.inputs[position]
            if before < 0:
                raise DataError(f"operator {op.index} ({op.kind}) has no tensor for its {what} state")
            if stem == "svdf":  # filters are channels, steps columns
                count, steps = tensors[op.inputs[2]].shape
                shape = (1, count, 1, steps)
                if tensors[before].shape == (1, count * steps):
                    tensors[before] = replace(tensors[before], shape=shape)
            name = f"{stem}_{op.index}.{what}"
            tensors.append(replace(tensors[before], name=f"{name}.after"))
            made.append(len(tensors) - 1)
            alike[made[-1]] = before
            variables.append(Variable(name, before, made[-1], (0.0,)))
        if made:
            op = replace(op, outputs=(*op.outputs, *made))
        operators.append(op)
    return replace(graph, tensors=tuple(tensors), operators=tuple(operators), variables=tuple(variables)), alike


def _integer_lstm(c: Converter, op: Operator) -> None:
    """Write the steps of an LSTM of integers as layers, sums, gates and products, each with the scale it has there."""
    shape = c.shape(op)
    if len(shape) != 3 or shape[1 if op.options["TimeMajor"] else 0] != 1:
        raise c.unsupported(op, f"integers of shape {list(shape)}: only sequences of a batch of one are kept")
    held = c.given.tensors[op.inputs[_CELL]].point
    if held is None:
        raise c.unsupported(op, "its cell state has no scale")
    if held.bits != 16:
        raise c.unsupported(op, "its cell state is not of 16 bits")
    steps = shape[0] * shape[1]
    x, inner = c.builder.reshape(c.value(op), (1, steps * shape[2])), _IntegerSteps(c, op, held)
    h, cell = c.values[op.inputs[_HIDDEN]], c.values[op.inputs[_CELL]]
    results = []
    for step in range(steps):
        last = step == steps - 1
        ends = [c.builder.integers(value) for value in (step * shape[2], (step + 1) * shape[2], 1, 1)]
        given = x if steps == 1 else c.builder.node("Slice", [x, *ends])
        cell, h = inner.step(given, h, cell, f".{step}" if steps > 1 else "", last)
        results.append(h)
    whole = results[0] if steps == 1 else c.builder.node("Concat", results, axis=1)
    c.done(op.outputs[0], c.builder.reshape(whole, c.graph.tensors[op.outputs[0]].shape))


class _IntegerSteps:
    """Writes steps of an LSTM of integers, whose constants they share.

    Parameters
    ----------
    c : Converter
    op : Operator
    held : GivenPoint
        Of its cell state.
    """

    def __init__(self, c: Converter, op: Operator, held: GivenPoint) -> None:
        self.c, self.op, self.held = c, op, held
        self.stem = c.name(op) or f"lstm_{op.index}"
        hidden = c.given.tensors[op.inputs[_HIDDEN]].point
        if hidden is None:
            raise c.unsupported(op, "its hidden state has no scale")
        self.hidden = hidden
        self.gate, self.unit = GivenPoint(2.0**-12, 0, 16), GivenPoint(2.0**-15, 0, 16)
        self.layers: dict[str, list[str]] = {}

    def step(self, x: str, h: str, cell: str, suffix: str, last: bool) -> tuple[str, str]:
        """Write a step; return its cell state and its hidden state."""
        c, op, node = self.c, self.op, self.c.builder.node
        gates = []
        for place, (part, function) in enumerate((("i", "Sigmoid"), ("f", "Sigmoid"), ("g", "Tanh"), ("o", "Sigmoid"))):
            stem = f"{self.stem}{suffix}.{part}"
            given = self._dense(f"{part}.input", suffix, x, (op.inputs[0], op.inputs[1 + place], op.inputs[12 + place]))
            state = self._dense(f"{part}.hidden", suffix, h, (op.inputs[_HIDDEN], op.inputs[5 + place]))
            total = self._marked(node("Add", [given, state], f"{stem}.sum"), self.gate)
            gates.append(self._marked(node(function, [total], stem), self.unit))
        i, f, g, o = gates
        stem = f"{self.stem}{suffix}"
        left = self._marked(node("Mul", [f, cell], f"{stem}.kept"), self.held)
        added = self._marked(node("Mul", [i, g], f"{stem}.added"), self.held)
        new = node("Add", [left, added], f"{stem}.cell")
        if op.options["CellClip"]:
            ends = (c.builder.constant(np.array(sign * op.options["CellClip"], np.float32)) for sign in (-1, 1))
            new = node("Clip", [new, *ends], f"{stem}.clip")
        new = self._ended(2, new, self.held, last)
        shown = self._marked(node("Tanh", [new], f"{stem}.tanh"), self.unit)
        return new, self._ended(1, node("Mul", [shown, o], f"{stem}.result"), self.hidden, last)

    def _ended(self, output: int, value: str, point: GivenPoint, last: bool) -> str:
        if not last:
            return self._marked(value, point)
        self.c.done(self.op.outputs[output], value)
        return self.c.values[self.op.outputs[output]]

    def _marked(self, value: str, point: GivenPoint) -> str:
        return self.c.builder.mark(self.c.given.mark_as(point), value)

    def _dense(self, part: str, suffix: str, value: str, inputs: tuple[int, ...]) -> str:
        c, inputs = self.c, tuple(i for i in inputs if i >= 0)
        if part not in self.layers:
            name = f"{self.stem}.{part}"
            self.layers[part] = [c.builder.constant(c.constants[i], f"{name}.{n}") for n, i in enumerate(inputs[1:])]
            c.given.operator("FULLY_CONNECTED", inputs, name, c.constants)
        name = f"{self.stem}{suffix}.{part}"
        return self._marked(c.builder.node("Gemm", [value, *self.layers[part]], name, transB=1), self.gate)


@converts("SVDF")
def svdf(c: Converter, op: Operator) -> None:
    """Write one step of an SVDF: a dense layer, its last results side by side, and a filter over them for each unit."""
    features, filters, rank = c.constant(op, 1), c.constant(op, 2), op.options["Rank"]
    if len(op.outputs) != 2:
        raise c.unsupported(op, "it has no state")
    if c.shape(op) != (1, features.shape[1]):
        raise c.unsupported(op, f"inputs of shape {list(c.shape(op))}: only one step of each call is computed")
    count, steps = filters.shape
    if (own := c.shape(op, _STEPS)) != (1, count, 1, steps):
        raise DataError(f"operator {op.index} (SVDF) has a state of shape {own}, not {(1, count * steps)}")
    if rank < 1 or count % rank or len(features) != count:
        raise DataError(f"operator {op.index} (SVDF) has {count} filters for {len(features)} features, rank {rank}")
    stem, integers = c.name(op) or f"svdf_{op.index}", c.graph.tensors[op.inputs[0]].type == "INT8"
    weights = c.builder.constant(features, f"{stem}.features.weight")
    new = c.builder.node("Gemm", [c.value(op), weights], f"{stem}.features", transB=1)
    if (held := c.given.tensors.get(op.inputs[_STEPS])) is not None and held.point is not None:
        c.given.operator("SVDF", op.inputs[:2], f"{stem}.features", c.constants)
        c.given.filters((op.inputs[0], op.inputs[2], op.inputs[3]), f"{stem}.filters", rank, c.constants)
        new = c.builder.mark(c.given.mark_as(held.point), new)
    new = c.builder.reshape(new, (1, count, 1, 1))
    if steps > 1:
        ends = [c.builder.integers(value) for value in (1, steps, 3, 1)]
        new = c.builder.node("Concat", [c.builder.node("Slice", [c.values[op.inputs[_STEPS]], *ends]), new], axis=3)
    c.done(op.outputs[1], new)
    operands = [c.values[op.outputs[1]]]
    operands.append(c.builder.constant(filters.reshape(count // rank, rank, 1, steps), f"{stem}.filters.weight"))
    if c.has(op, 3):
        operands.append(c.builder.constant(c.constant(op, 3), f"{stem}.filters.bias"))
    made = c.builder.node("Conv", operands, f"{stem}.filters", group=count // rank, kernel_shape=[1, steps])
    made = c.builder.reshape(made, c.result(op))
    if integers:  # TFLite's integers end at their codes, whatever the activation
        c.done(op.outputs[0], made)
    else:
        c.emit(op, made)
