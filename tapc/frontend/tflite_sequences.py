"""TFLite's other layers over sequences as ONNX's: RNN, and RNN and LSTM of both directions, which are two layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.frontend.tflite_converter import Converter, converts
from tapc.frontend.tflite_reader import Operator
from tapc.frontend.tflite_recurrent import GATE_ORDER, LEAST_CLIP

_ACTIVATIONS = {1: "Relu", 4: "Tanh"}
_TANH = 4
_BOTH = (("forward", 0), ("reverse", 1))
_HIDDEN = 4
Array = NDArray[np.float32]


@converts("UNIDIRECTIONAL_SEQUENCE_RNN")
def rnn(c: Converter, op: Operator) -> None:
    """Convert an RNN over (N, T, inputs), or (T, N, inputs); of several steps it begins with zeros in every call."""
    weights = [np.asarray(c.constant(op, position), np.float32) for position in (1, 2, 3)]
    stem, value = _stem(c, op), _steps(c, op)
    if len(op.outputs) == 1:
        _done(c, op, op.outputs[0], _layer(c, "RNN", value, weights, stem, "forward", _activation(c, op)))
        return
    units = len(weights[1])  # one step, from a state that the network keeps
    state = c.builder.reshape(c.values[op.inputs[_HIDDEN]], (1, 1, units))
    inputs = [value, *_constants(c, weights, stem), "", state]
    results = [f"{stem}.result.{part}" for part in ("y", "h")]
    c.builder.nodes("RNN", inputs, results, c.name(op), hidden_size=units, activations=[_activation(c, op)])
    for output, result in zip(op.outputs, results, strict=True):
        c.done(output, c.builder.reshape(result, c.graph.tensors[output].shape))


@converts("BIDIRECTIONAL_SEQUENCE_RNN")
def both_rnn(c: Converter, op: Operator) -> None:
    """Convert an RNN of both directions."""
    _refuse(c, op, {position: "a second input" for position in (9, 10, 11)})
    stem, value = _stem(c, op), _steps(c, op)
    found = []
    for direction, number in _BOTH:
        weights = [np.asarray(c.constant(op, 1 + 4 * number + part), np.float32) for part in range(3)]
        found.append(_layer(c, "RNN", value, weights, f"{stem}.{direction}", direction, _activation(c, op)))
    _merged(c, op, found)


@converts("BIDIRECTIONAL_SEQUENCE_LSTM")
def both_lstm(c: Converter, op: Operator) -> None:
    """Convert an LSTM of both directions."""
    _refuse(c, op, dict.fromkeys((9, 10, 11, 26, 27, 28), "peepholes, weights from the cell state to the gates"))
    _refuse(c, op, dict.fromkeys((16, 17, 33, 34), "a projection of its hidden state"))
    _refuse(c, op, dict.fromkeys(range(39, 48), "a second input"))
    if not (c.has(op, 1) and c.has(op, 18)):
        raise c.unsupported(op, "its input gate is coupled to the forget gate")
    if op.options["FusedActivationFunction"] != _TANH:
        raise c.unsupported(op, "its activation is none of Tanh")
    if op.options["ProjClip"] or 0 < op.options["CellClip"] < LEAST_CLIP:
        raise c.unsupported(op, f"it clips its cell state to {op.options['CellClip']:g}; {LEAST_CLIP} is the least")
    stem, value = _stem(c, op), _steps(c, op)
    found = []
    for direction, number in _BOTH:
        parts = [
            np.concatenate([np.asarray(c.constant(op, 17 * number + first + gate), np.float32) for gate in GATE_ORDER])
            for first in (1, 5, 12)
        ]
        found.append(_layer(c, "LSTM", value, parts, f"{stem}.{direction}", direction))
    _merged(c, op, found)


def _refuse(c: Converter, op: Operator, parts: dict[int, str]) -> None:
    for position, what in parts.items():
        if c.has(op, position):
            raise c.unsupported(op, f"it has {what}")


def _activation(c: Converter, op: Operator) -> str:
    found = _ACTIVATIONS.get(op.options["FusedActivationFunction"])
    if found is None:
        raise c.unsupported(op, "its activation is none of Tanh and Relu")
    return found


def _stem(c: Converter, op: Operator) -> str:
    if c.graph.tensors[op.inputs[0]].type != "FLOAT32":
        raise c.unsupported(op, "its integers are not supported; pass the float32 network")
    return c.name(op) or c.names[op.outputs[0]]


def _steps(c: Converter, op: Operator) -> str:
    """Return the input with the steps first."""
    value = c.value(op)
    return value if op.options["TimeMajor"] else c.builder.node("Transpose", [value], perm=[1, 0, 2])


def _constants(c: Converter, weights: Sequence[Array], stem: str) -> list[str]:
    given, hidden, bias = weights
    parts = (("W", given), ("R", hidden), ("B", np.concatenate([bias, np.zeros_like(bias)])))
    return [c.builder.constant(array[None], f"{stem}.{part}") for part, array in parts]


def _layer(
    c: Converter, kind: str, value: str, weights: Sequence[Array], stem: str, direction: str, activation: str = ""
) -> str:
    """Write a layer of one direction, (T, N, inputs) to (T, N, units)."""
    own: dict[str, Any] = {"activations": [activation]} if activation else {}
    inputs = [value, *_constants(c, weights, stem)]
    found = c.builder.node(kind, inputs, "", hidden_size=weights[1].shape[1], direction=direction, **own)
    return c.builder.node("Squeeze", [found, c.builder.integers(1)])


def _done(c: Converter, op: Operator, output: int, value: str) -> None:
    c.done(output, value if op.options["TimeMajor"] else c.builder.node("Transpose", [value], perm=[1, 0, 2]))


def _merged(c: Converter, op: Operator, found: list[str]) -> None:
    """Give the results of both directions, side by side or in two tensors."""
    if op.options["MergeOutputs"]:
        found = [c.builder.node("Concat", found, axis=2)]
    for output, value in zip(op.outputs, found, strict=False):
        _done(c, op, output, value)
