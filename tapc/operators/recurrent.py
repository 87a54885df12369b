"""LSTM, GRU and RNN: a loop over the steps of a sequence, whose recurrent weights have 2, 4 or 8 bits.

What the input gives the gates is a layer of its own before it, a product for all steps with the biases; a canonical
graph spells the rest LSTM, GRU or RNN with an identity for input weights, over (T, N, gates) from a map
(1, gates, 1, T) and back to (1, units, 1, T). Integers, of step t, where each requantization saturates to 16 bits:

    gate = input[t] + requantize(recurrent weights . (hidden[t - 1] - zero) + bias), both of 2^-12
    i, o, f, z, r = sigmoid16(gate); g, n = tanh16(gate)
    LSTM   cell = requantize(f cell) + requantize(i g), of 2^-11, and hidden = requantize(o tanh16(cell))
    GRU    state = (z state + (2^15 - z) n) / 2^15, rounded, of 2^-15, and hidden = requantize(state)
    RNN    hidden = requantize(tanh16(gate)), or of the gate above zero, which then has steps that its results need

The hidden state is what the layer gives, in 8 bits; GRUs keep it in 16 bits for the blend. `tapc.base.arithmetic.gates`
says what the gates are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.arithmetic.gates import INPUT_BITS, OUTPUT_BITS, gate_words, sigmoid16, tanh16
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.rules import Rule, TorchStep, Within, register
from tapc.ir.lowering import Lowering
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.packing import pair_words, weights_per_word
from tapc.kernels.recurrent import GATES, PRODUCTS, Cell, RecurrentSpec, row_order
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.operators.common import LARGEST, check_ratios, clamp, factors, quick

CELL_BITS = 11
"""Fractional bits of an LSTM's cell state, which ends at 16."""
_TABLE = Constant("t", 256, gate_words)


@dataclass(frozen=True, eq=False)
class Recurrent(Op):
    """A recurrent layer behind the product of its input; see above.

    Attributes
    ----------
    cell : Cell
    weights : ndarray of int8, shape (gates * units, units)
        Gate by gate, as ONNX has them.
    w_bits : {2, 4, 8}
    bias : ndarray of int32, shape (gates * units,), or None
        Of the hidden state's products.
    ratios : ndarray, shape (gates * units,)
        Accumulator to gate.
    products : ndarray, shape (1,) or (3,)
        What is requantized besides: of an LSTM what is kept of the cell state, what is added to it, and the result; of
        others the result.
    gate_bits : int
        Fractional bits of gates.
    reverse : bool
        The last step comes first.
    """

    cell: Cell
    weights: NDArray[np.int8]
    w_bits: int
    bias: NDArray[np.int32] | None
    ratios: Ratios
    products: Ratios
    gate_bits: int
    reverse: bool

    @property
    def weight_bits(self) -> int:
        return self.w_bits

    def kind(self, spec: KernelSpec) -> str:
        return self.cell.split("_")[0] if self.cell not in ("tanh", "relu") else "rnn"

    def macs(self, program: Program) -> int:
        return program.tensors[self.output].shape[1] * int(self.weights.size)

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self._factors, mode)
        input_factor(tensors[self.inputs[0]], self.gate_bits)

    @property
    def _factors(self) -> Ratios:
        order = row_order(self.cell, self.weights.shape[1])
        return np.concatenate([self.ratios[order], self.products])

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        z, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        n, _, steps, _ = x[0].shape
        units, gates = self.weights.shape[1], GATES[self.cell]
        factor, shift = input_factor(z, self.gate_bits)
        given = _short(((x[0] - z.zero) * factor + ((1 << shift) >> 1)) >> shift).reshape(n, steps, gates, units)
        result = np.empty((n, 1, steps, units), np.int64)
        codes, state = np.zeros((n, units), np.int64), np.zeros((n, units), np.int64)
        cell = _Cell(self, program.mode, y)
        for t in range(steps)[:: -1 if self.reverse else 1]:
            state, value = cell.step(given[:, t], codes, state)
            result[:, 0, t] = cell.requantized(value, -1, y.zero, y.low, y.high)
            codes = result[:, 0, t] - y.zero
        return result

    def with_bits(self, program: Program, weights: Mapping[str, int], changed: Callable[[Tensor], Tensor]) -> Self:
        bits = weights.get(self.name, self.w_bits)
        if bits >= self.w_bits:
            return replace(self, w_bits=bits)
        factor = ((1 << (self.w_bits - 1)) - 1) / ((1 << (bits - 1)) - 1)
        coarse = np.rint(self.weights / factor).astype(np.int8)
        return replace(self, w_bits=bits, weights=coarse, ratios=self.ratios * self.ratios.dtype.type(factor))

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        z, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        own = quick(program, self.ratios, self._largest)
        biased = self.bias is not None
        spec = RecurrentSpec(
            self.cell, z.plane, y.plane, self.w_bits, self.reverse, biased, program.mode, own, INPUT_BITS - CELL_BITS
        )
        order = row_order(self.cell, self.weights.shape[1])

        def packed() -> NDArray[np.uint32]:
            wide = self.weights[order].astype(np.int64)
            half = 1 << (self.w_bits - 1)
            wide = np.pad(wide, ((0, 0), (0, -wide.shape[1] % weights_per_word(self.w_bits))))
            return pair_words(wide + half, self.w_bits).reshape(-1)

        constants = {
            "w": Constant("w", spec.weight_words, packed),
            "s": factors(self._factors, program.mode),
            "table": _TABLE,
        }
        if self.bias is not None:
            bias = self.bias[order]
            constants["bias"] = Constant("b", len(bias), lambda: bias)
        factor, shift = input_factor(z, self.gate_bits)
        scalars = {"x_zero": z.zero, "x_factor": factor, "x_shift": shift, **clamp(y, y.low, y.high)}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars)]

    @property
    def _largest(self) -> NDArray[np.int64]:
        sums: NDArray[np.int64] = np.abs(self.weights.astype(np.int64)).sum(axis=1) * LARGEST
        return sums if self.bias is None else sums + np.abs(self.bias.astype(np.int64))


class _Cell:
    """The steps of a layer in exact integers."""

    def __init__(self, op: Recurrent, mode: Mode, y: Tensor) -> None:
        self.op, self.y = op, y
        self.rows = arithmetic.multipliers(op.ratios, mode)
        self.products = arithmetic.multipliers(op.products, mode)
        self.weights = op.weights.astype(np.float64)
        self.bias = np.zeros(len(op.weights), np.int64) if op.bias is None else op.bias.astype(np.int64)

    def requantized(self, value: Ints, which: int, zero: int = 0, low: int = -32768, high: int = 32767) -> Ints:
        """Requantize one of the products."""
        return arithmetic.requantize(value, self.products[which], zero, low, high)

    def sums(self, codes: Ints) -> Ints:
        """Return what codes (N, units) give the gates, (N, gates, units)."""
        acc = np.rint(codes.astype(np.float64) @ self.weights.T).astype(np.int64) + self.bias
        gates = arithmetic.requantize(acc, self.rows, 0, -32768, 32767)
        return gates.reshape(len(codes), -1, codes.shape[1])

    def step(self, given: Ints, codes: Ints, state: Ints) -> tuple[Ints, Ints]:
        """Return the state after a step, and what becomes its codes when it is requantized."""
        cell, sums = self.op.cell, self.sums(codes)
        if cell in ("tanh", "relu"):
            gate = _short(given + sums)[:, 0]
            return state, np.maximum(gate, 0) if cell == "relu" else tanh16(gate)
        if cell == "lstm":
            gates = _short(given + sums)
            i, o, f = (sigmoid16(gates[:, place]) for place in range(3))
            added = self.requantized(i * tanh16(gates[:, 3]), 1)
            state = _short(self.requantized(f * state, 0) + added)
            return state, o * tanh16(state, INPUT_BITS - CELL_BITS)
        update, reset = (sigmoid16(_short(given[:, place] + sums[:, place])) for place in range(2))
        if cell == "gru":
            new = given[:, 2] + _half_up(reset * sums[:, 2])
        else:
            new = given[:, 2] + self.sums(_half_up(reset * codes))[:, 2]
        state = _half_up(update * state + ((1 << OUTPUT_BITS) - update) * tanh16(_short(new)))
        return state, state


def _short(value: Ints) -> Ints:
    return np.clip(value, -32768, 32767)


def _half_up(product: Ints) -> Ints:
    return (product + (1 << (OUTPUT_BITS - 1))) >> OUTPUT_BITS


def input_factor(z: Tensor, gate_bits: int) -> tuple[int, int]:
    """Return factor and right shift that bring codes of a layer's input, less their zero point, to a gate's scale.

    Raises
    ------
    ValueError
        The input's scale is beyond what gates can tell.
    """
    ratio = float(np.float32(z.scale)) * 2**gate_bits
    if not 2**-10 <= ratio < 2**20:
        raise ValueError(f"the scale {z.scale:.3g} of {z.name!r} is out of a recurrent layer's reach")
    shift = 20 - int(np.floor(np.log2(ratio)))
    return round(ratio * 2**shift), shift


def _cell(node: onnx.NodeProto) -> Cell:
    if node.op_type == "LSTM":
        return "lstm"
    if node.op_type == "GRU":
        return "gru" if attribute(node, "linear_before_reset", 0) else "gru_reset"
    return "relu" if attribute(node, "activations", [b"Tanh"])[0] in (b"Relu", "Relu") else "tanh"


def _lower(lowering: Lowering, node: onnx.NodeProto) -> None:
    source, cell = lowering.source(node), _cell(node)
    codes, scales, bits = lowering.graph.dequantized_constant(node.input[2])
    weights = codes[0].astype(np.int8)
    given = lowering.graph.constant(node.input[3])[0] if len(node.input) > 3 and node.input[3] else None
    reverse = attribute(node, "direction", b"forward") == b"reverse"
    if np.abs(weights.astype(np.int64)).sum(axis=1).max() * LARGEST >= 2**30:
        raise UnsupportedError(f"node {node.name!r}: sums of {weights.shape[1]} products may go beyond int32")

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        own = arithmetic_of(lowering.mode)
        gate_bits = INPUT_BITS
        if cell == "relu":
            largest = max(abs(end - t.zero) * t.scale for t in (source, y) for end in (t.low, t.high))
            gate_bits = 14 - int(np.floor(np.log2(largest)))
        gate, unit = np.float32(2.0**-gate_bits), np.float32(2.0**-OUTPUT_BITS)
        ratios = own.ratios((y.scale, np.broadcast_to(scales, (len(weights),))), gate)
        if cell == "lstm":
            held = np.float32(2.0**-CELL_BITS)
            products = [
                own.ratios((unit, held), held),
                own.ratios((unit, unit), held),
                own.ratios((unit, unit), y.scale),
            ]
        else:
            products = [own.ratios((gate if cell == "relu" else unit,), y.scale)]
        bias = None
        if given is not None:
            steps = np.float64(np.float32(y.scale)) * scales.astype(np.float64)
            bias = np.rint(given[len(weights) :].astype(np.float64) / steps)
            if np.abs(bias).max() >= 2**30:
                raise UnsupportedError(f"node {node.name!r}: a bias of the hidden state is beyond its sums")
            bias = bias.astype(np.int32)
        return Recurrent(
            node.name, (lowering.graph.quantized(node.input[0]),), key, cell, weights, bits, bias,
            np.array(ratios), np.array(products).reshape(-1), gate_bits, reverse,
        )  # fmt: skip

    lowering.add(node, make)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    cell, reverse = _cell(node), attribute(node, "direction", b"forward") == b"reverse"
    rows = graph.constants[node.input[2]].shape[1]
    biased = len(node.input) > 3 and bool(node.input[3])
    own = graph.constants[node.input[3]][0, rows:] if biased else np.zeros(rows, np.float32)
    bias = torch.tensor(own, dtype=dtype)

    def step(operands: list[Any]) -> Any:
        given, weight = operands[:2]
        units = weight.shape[1]
        hidden = state = torch.zeros(given.shape[1], units, dtype=given.dtype)
        found = []
        for t in range(len(given))[:: -1 if reverse else 1]:
            sums = hidden @ weight.t() + bias
            if cell in ("tanh", "relu"):
                hidden = torch.tanh(given[t] + sums) if cell == "tanh" else torch.relu(given[t] + sums)
            elif cell == "lstm":
                i, o, f, g = (given[t] + sums).split(units, dim=1)
                state = torch.sigmoid(f) * state + torch.sigmoid(i) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(state)
            else:
                z, r, n = given[t].split(units, dim=1)
                sz, sr, sn = sums.split(units, dim=1)
                update, reset = torch.sigmoid(z + sz), torch.sigmoid(r + sr)
                if cell == "gru":
                    new = torch.tanh(n + reset * sn)
                else:
                    new = torch.tanh(n + (reset * hidden) @ weight[2 * units :].t() + bias[2 * units :])
                hidden = (1 - update) * new + update * hidden
            found.append(hidden)
        return torch.stack(found[:: -1 if reverse else 1])[:, None]

    return step


def _within(graph: Graph, node: onnx.NodeProto) -> Within:
    """Return what brings a map to steps, and what is given back to a map."""
    before = [graph.producer[node.input[0]]]
    before.append(graph.producer[before[0].input[0]])
    return before, graph.consumers[node.output[0]][:1]


@samples("recurrent", 1.0)
def _sample(s: Sampler) -> None:
    cell: Cell = ("lstm", "gru", "gru_reset", "tanh", "relu")[s.pick(0, 0, 1, 1, 2, 3, 4)]
    units, steps, bits = s.pick(1, 4, 7, 8, 16, 20, 32, 48), s.pick(1, 2, 3, 5, 10), s.pick(2, 4, 8)
    gates, half = GATES[cell], 1 << (bits - 1)
    if gates * units * units > s.largest:
        return
    z, y = s.tensor((1, steps, gates * units), 8), s.tensor((1, steps, units), 8, scale=1 / 128, zero=0)
    weights = s.rng.integers(-half, half, (gates * units, units)).astype(np.int8)
    own = arithmetic_of(s.mode)
    ratios = own.ratios((s.ratios(gates * units),), 1.0)
    unit = 2.0**-OUTPUT_BITS
    products = own.ratios((np.array([unit, unit / 16, unit / 256] if cell == "lstm" else [unit * 128]),), 1.0)
    bias = np.zeros(len(weights), np.int32) if cell == "gru" and s.pick(0, 1) else None
    s.add(Recurrent(
        s.name, (z.name,), y.name, cell, weights, bits, bias, ratios, products[: PRODUCTS[cell]],
        INPUT_BITS, bool(s.pick(0, 1)),
    ))  # fmt: skip


def _example(e: Example, op: str) -> str:
    units, steps = e.pick(1, 2, 3, 5, 8, 11), e.pick(1, 2, 3, 6)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    z = e.node("Reshape", e.map(gates * units, 1, steps), e.constant(np.array([1, gates * units, steps])))
    z = e.node("Transpose", z, perm=[2, 0, 1])
    # What is fed back fades, so that rounding it does, too.
    weights = e.normal((1, gates * units, units), 0.5 / np.sqrt(units))
    weights[:, e.pick(0, gates * units - 1)] *= e.pick(0, 1, 1)
    parts = [e.constant(np.eye(gates * units, dtype=np.float32)[None]), e.constant(weights)]
    given: dict[str, Any] = {"hidden_size": units, "direction": e.pick("forward", "forward", "reverse")}
    if op == "GRU" and e.pick(0, 1):
        bias = np.zeros((1, 6 * units), np.float32)
        bias[:, 5 * units :] = e.normal((1, units), 0.3)
        given["linear_before_reset"] = 1
        parts.append(e.constant(bias))
    if op == "RNN":
        given["activations"] = [e.pick("Tanh", "Relu")]
    return e.node("Transpose", e.node(op, z, *parts, **given), perm=[2, 3, 1, 0])


_RULE = Rule(_lower, _torch, recurrent=True, only_8_bits=True, within=_within, example=_example)
register(_RULE, "GRU", "LSTM", "RNN")
