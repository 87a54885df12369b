"""One step of an LSTM, GRU or RNN whose states are computed or kept between calls: ordinary operators."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.canonical.edit import AttributeValue, shape
from tapc.frontend.canonical.placed import Placed
from tapc.frontend.canonical.translator import Translator

Array = NDArray[Any]
_DENSE: dict[str, AttributeValue] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


@dataclass(frozen=True, eq=False)
class Weights:
    """A layer of one direction, as ONNX orders its gates.

    Attributes
    ----------
    kind : str
        LSTM, GRU or RNN.
    input, hidden : ndarray, shape (gates * units, inputs) and (gates * units, units)
    bias : ndarray, shape (2 * gates * units,)
        Of the input and of the hidden state.
    linear : bool
        A GRU multiplies its reset gate with the product of the hidden state.
    activation : {"Tanh", "Relu"}
        Of an RNN.
    """

    kind: str
    input: Array
    hidden: Array
    bias: Array
    linear: bool
    activation: str


class StepWriter:
    """Writes one step before a node.

    Parameters
    ----------
    t : Translator
    node : onnx_ir.Node
    name : str
        What the names of its nodes begin with.
    own : Weights
    """

    def __init__(self, t: Translator, node: ir.Node, name: str, own: Weights) -> None:
        self.t, self.node, self.name, self.own = t, node, name, own
        self.rows, self.units = own.hidden.shape

    def write(self, x: ir.Value, h: ir.Value | None, c: ir.Value | None) -> tuple[ir.Value, ir.Value | None]:
        """Return the hidden state, and an LSTM's cell state, after a step.

        Parameters
        ----------
        x : onnx_ir.Value
            (1, inputs).
        h, c : onnx_ir.Value or None
            (1, units); None where they are zero.
        """
        added = self.own.bias[: self.rows] + (self._state_bias if h is None else 0)
        total = self._dense("input", x, self.own.input, added)
        if self.own.kind == "GRU":
            assert h is not None
            return self._gru(total, h), None
        if h is not None:
            total = self._op("Add", total, self._dense("state", h, self.own.hidden, self._state_bias))
        if self.own.kind == "RNN":
            return self._op(self.own.activation, total), None
        i, o, f = (self._op("Sigmoid", self._part(total, place)) for place in range(3))
        cell = self._op("Mul", i, self._op("Tanh", self._part(total, 3)))
        if c is not None:
            cell = self._op("Add", self._op("Mul", f, c), cell)
        return self._op("Mul", o, self._op("Tanh", cell)), cell

    @property
    def _state_bias(self) -> Array:
        bias: Array = self.own.bias[self.rows :]
        return bias

    def _gru(self, given: ir.Value, state: ir.Value) -> ir.Value:
        own, units = self.own, self.units
        gates = self._dense("state", state, own.hidden[: 2 * units], self._state_bias[: 2 * units])
        z, r = (
            self._op("Sigmoid", self._op("Add", self._part(given, place), self._part(gates, place)))
            for place in range(2)
        )
        last, bias = own.hidden[2 * units :], self._state_bias[2 * units :]
        if own.linear:
            product = self._op("Mul", r, self._dense("state.new", state, last, bias))
        else:
            product = self._dense("state.new", self._op("Mul", r, state), last, bias)
        new = self._op("Tanh", self._op("Add", self._part(given, 2), product))
        return self._op("Add", new, self._op("Mul", z, self._op("Sub", state, new)))

    def _dense(self, part: str, value: ir.Value, weights: Array, bias: Array) -> ir.Value:
        name = f"{self.name}.{part}"
        made = [self.t.constant(f"{name}.weight", weights), self.t.constant(f"{name}.bias", bias)]
        return self.t.emit(self.node, "Gemm", [value, *made], _DENSE, (1, len(weights)), name)

    def _op(self, op: str, *values: ir.Value) -> ir.Value:
        return self.t.emit(self.node, op, list(values), {}, shape(values[0]), "")

    def _part(self, value: ir.Value, place: int) -> ir.Value:
        """Return the values of a gate."""
        index = np.arange(place * self.units, (place + 1) * self.units)
        return self.t.arranged(self.node, Placed(value, index), index)
