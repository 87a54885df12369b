"""TFLite's fused LSTM as ONNX's."""

import numpy as np

from tapc.frontend.tflite_converter import Converter, converts
from tapc.frontend.tflite_reader import Operator

_ORDER = (0, 3, 1, 2)
"""Input, forget, cell and output gate of TFLite in the order of ONNX."""
_NONE = {
    **dict.fromkeys(range(9, 12), "peepholes, weights from the cell state to the gates"),
    **dict.fromkeys(range(16, 18), "a projection of its hidden state"),
    **dict.fromkeys(range(20, 24), "layer normalization of its gates"),
}
_TANH = 4
_LEAST_CLIP = 8
"""Of a cell state: beyond it a tanh is 1."""


@converts("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(c: Converter, op: Operator) -> None:
    """Convert an LSTM over (N, T, inputs), or (T, N, inputs), which begins with zeros in every call."""
    for position, what in _NONE.items():
        if c.has(op, position):
            raise c.unsupported(op, f"it has {what}")
    if not c.has(op, 1):
        raise c.unsupported(op, "its input gate is coupled to the forget gate")
    if op.options["FusedActivationFunction"] != _TANH:
        raise c.unsupported(op, "its activation is none of Tanh")
    if op.options["ProjClip"] or 0 < op.options["CellClip"] < _LEAST_CLIP:
        raise c.unsupported(op, f"it clips its cell state to {op.options['CellClip']:g}; {_LEAST_CLIP} is the least")
    weights, hidden = (np.concatenate([c.constant(op, first + gate) for gate in _ORDER]) for first in (1, 5))
    bias = np.concatenate([c.constant(op, 12 + gate) for gate in _ORDER])
    stem = c.name(op) or c.names[op.outputs[0]]
    constants = [
        c.builder.constant(np.asarray(value, np.float32)[None], f"{stem}.{part}")
        for part, value in (("W", weights), ("R", hidden), ("B", np.concatenate([bias, np.zeros_like(bias)])))
    ]
    value = c.value(op)
    if not op.options["TimeMajor"]:
        value = c.builder.node("Transpose", [value], perm=[1, 0, 2])
    found = c.builder.node("LSTM", [value, *constants], c.name(op), hidden_size=hidden.shape[1])
    merged = c.builder.node("Squeeze", [found, c.builder.integers(1)])
    if not op.options["TimeMajor"]:
        merged = c.builder.node("Transpose", [merged], perm=[1, 0, 2])
    c.done(op.outputs[0], merged)
