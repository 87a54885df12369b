"""Recurrent layers in float64, with the rounding of the hidden state that integers feed back."""

import numpy as np

from tapc.base.arithmetic import Ints
from tapc.ir.program import Program
from tapc.operators.recurrent import Recurrent


def stepwise(op: Recurrent, program: Program, z: Ints) -> Ints:
    """Return the codes (N, 1, T, units) of a layer whose sums take the codes that it gives itself.

    onnxruntime, which runs all steps at once, feeds back what is not rounded, nor clipped to the range of the result.
    """
    source, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    real = (z[:, 0] - source.zero) * np.float64(np.float32(source.scale))
    n, steps, rows = real.shape
    units = op.weights.shape[1]
    scales = op.ratios.astype(np.float64) * 2.0**-op.gate_bits / np.float64(np.float32(y.scale))
    weights = op.weights * scales[:, None]
    bias = np.zeros(rows) if op.bias is None else op.bias * scales * np.float64(np.float32(y.scale))
    hidden, state = np.zeros((n, units)), np.zeros((n, units))
    found = np.empty((n, 1, steps, units), np.int64)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    for t in range(steps)[:: -1 if op.reverse else 1]:
        given, sums = np.split(real[:, t], rows // units, 1), np.split(hidden @ weights.T + bias, rows // units, 1)
        gates = [a + b for a, b in zip(given, sums, strict=True)]
        if op.cell == "lstm":
            state = sigmoid(gates[2]) * state + sigmoid(gates[0]) * np.tanh(gates[3])
            value = sigmoid(gates[1]) * np.tanh(state)
        elif op.cell.startswith("gru"):
            update, reset = sigmoid(gates[0]), sigmoid(gates[1])
            own = reset * sums[2] if op.cell == "gru" else (reset * hidden) @ weights[2 * units :].T
            state = value = (1 - update) * np.tanh(given[2] + own) + update * state
        else:
            value = np.tanh(gates[0]) if op.cell == "tanh" else np.maximum(gates[0], 0)
        codes = np.clip(np.rint(value / np.float32(y.scale)) + y.zero, y.low, y.high).astype(np.int64)
        found[:, 0, t] = codes
        hidden = (codes - y.zero) * np.float64(np.float32(y.scale))
    return found
