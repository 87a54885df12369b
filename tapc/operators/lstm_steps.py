"""Several steps of an integer LSTM of TFLite in one loop: weights in flash once.

A step is what operators of `tapc.operators.wide` compute one after the other, which `tapc.operators.lstm_loop` finds.
The loop gives the hidden states of all steps and, behind them, the last cell state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios
from tapc.base.arithmetic.gates import INPUT_BITS, OUTPUT_BITS, gate_words, sigmoid16, tanh16
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.packing import pair_words, weights_per_word
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.kernels.wide_lstm import GATES, WideLstmSpec
from tapc.operators.common import LARGEST, check_ratios, clamp, factors, quick

N = TypeVar("N", bound=np.generic)
_TABLE = Constant("t", 256, gate_words)


@dataclass(frozen=True, eq=False)
class Side:
    """What the input, or the hidden state, gives the gates: input, forget, cell and output gate.

    Attributes
    ----------
    weights : ndarray of int8, shape (4, units, codes)
    bias : ndarray of int32, shape (4, units)
        Without the zero point.
    ratios : ndarray, shape (4, units)
        Sum to gate.
    """

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    ratios: Ratios

    def sums(self, codes: Ints, mode: Mode) -> Ints:
        """Return of codes less their zero point, (N, codes), what they give the gates: (N, 4, units), 16 bits each."""
        acc = np.rint(np.einsum("nc,guc->ngu", codes.astype(np.float64), self.weights.astype(np.float64)))
        m = arithmetic.multipliers(self.ratios.reshape(-1), mode)
        acc = (acc.astype(np.int64) + self.bias).reshape(len(codes), -1)
        return arithmetic.requantize(acc, m, 0, -32768, 32767).reshape(len(codes), GATES, -1)

    def largest(self) -> NDArray[np.int64]:
        """Return the greatest magnitude of each sum, (4, units)."""
        sums: NDArray[np.int64] = np.abs(self.weights.astype(np.int64)).sum(axis=2) * LARGEST
        return sums + np.abs(self.bias.astype(np.int64))

    def shifted(self, zero: int) -> NDArray[np.int32]:
        """Return the bias with a zero point."""
        return np.asarray(self.bias - zero * self.weights.astype(np.int64).sum(axis=2), np.int32)

    def same(self, other: "Side") -> bool:
        """Whether all numbers are equal."""
        return all(np.array_equal(getattr(self, key), getattr(other, key)) for key in ("weights", "bias", "ratios"))


@dataclass(frozen=True, eq=False)
class LstmSteps(Op):
    """The steps; inputs are codes of all steps, (1, steps, codes), hidden state and cell state.

    Attributes
    ----------
    given, state : Side
    products : ndarray, shape (3,)
        What is kept of the cell state, what is added to it, and the result.
    cell : (int, int)
        Bounds of the cell state.
    left : int
        Its codes have steps of 2^(left - 12).
    low, high : int
        Bounds of the result.
    dense : tuple of str
        Layers that it stands for.
    """

    given: Side
    state: Side
    products: Ratios
    cell: tuple[int, int]
    left: int
    low: int
    high: int
    dense: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        return self.dense or (self.name,)

    @property
    def weight_bits(self) -> int:
        return 8

    @property
    def units(self) -> int:
        """Of the hidden state."""
        return int(self.given.weights.shape[1])

    def kind(self, spec: KernelSpec) -> str:
        return "lstm16"

    def macs(self, program: Program) -> int:
        return program.tensors[self.inputs[0]].shape[1] * int(self.given.weights.size + self.state.weights.size)

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self._ratios, mode)

    @property
    def _ratios(self) -> Ratios:
        return np.concatenate([_by_unit(self.given.ratios, self.state.ratios), self.products])

    def spec(self, program: Program) -> WideLstmSpec:
        """Return the kernel."""
        largest = _by_unit(self.given.largest(), self.state.largest())
        own = quick(program, _by_unit(self.given.ratios, self.state.ratios), largest)
        return WideLstmSpec(program.tensors[self.inputs[0]].plane, self.units, program.mode, own, self.left)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        zeros, y = [program.tensors[name].zero for name in self.inputs], program.tensors[self.output]
        m, count, units = arithmetic.multipliers(self.products, program.mode), len(x[0]), self.units
        hidden, cell = x[1].reshape(count, units), x[2].reshape(count, units)
        found = np.zeros((count, y.shape[2]), np.int64)
        steps = x[0].shape[2]
        for t in range(steps):
            given = self.given.sums(x[0][:, 0, t] - zeros[0], program.mode)
            gates = np.clip(given + self.state.sums(hidden - zeros[1], program.mode), -32768, 32767)
            i, f, o = (sigmoid16(gates[:, gate]) for gate in (0, 1, 3))
            kept = arithmetic.requantize(f * cell, m[:1], 0, -32768, 32767)
            added = arithmetic.requantize(i * tanh16(gates[:, 2]), m[1:2], 0, -32768, 32767)
            cell = np.clip(kept + added, *self.cell)
            hidden = arithmetic.requantize(tanh16(cell, self.left) * o, m[2:], y.zero, self.low, self.high)
            found[:, t * units : (t + 1) * units] = hidden
        codes = np.ascontiguousarray(cell.astype("<i2")).view(np.int8).reshape(count, 2 * units)
        found[:, -2 * units :] = codes
        return found.reshape(count, *y.shape)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        spec, y = self.spec(program), program.tensors[self.output]
        zeros = [program.tensors[name].zero for name in self.inputs]

        def packed() -> NDArray[np.uint32]:
            each, parts = weights_per_word(8), []
            for weights in (self.given.weights, self.state.weights):
                wide = np.pad(weights.astype(np.int64), ((0, 0), (0, 0), (0, -weights.shape[2] % each)))
                rows = pair_words(wide.reshape(-1, wide.shape[2]) + 128, 8).reshape(GATES, self.units, -1)
                parts.append(rows.transpose(1, 0, 2).reshape(self.units, -1))
            return np.concatenate(parts, axis=1).reshape(-1)

        constants = {
            "w": Constant("w", spec.weight_words, packed),
            "bias": Constant(
                "b",
                2 * GATES * self.units,
                lambda: _by_unit(self.given.shifted(zeros[0]), self.state.shifted(zeros[1])),
            ),
            "s": factors(self._ratios, program.mode),
            "table": _TABLE,
        }
        tensors = dict(zip("xhc", self.inputs, strict=True)) | {"y": self.output}
        scalars = {"cell_low": self.cell[0], "cell_high": self.cell[1], **clamp(y, self.low, self.high)}
        return [Step(self, spec, tensors, constants, scalars)]


def _by_unit(given: NDArray[N], state: NDArray[N]) -> NDArray[N]:
    """Return what (4, units) hold of both sides as the kernel reads it: unit by unit."""
    return np.ascontiguousarray(np.concatenate([given, state]).T).reshape(-1)


@samples("lstm16", 1.0)
def _sample(s: Sampler) -> None:
    steps, depth, units = s.pick(2, 3, 5, 9), s.pick(1, 5, 12, 28, 40, 65), s.pick(1, 4, 7, 16, 20, 32)
    if GATES * units * (depth + units) > s.largest:
        return
    x, h = s.tensor((1, steps, depth), 8), s.tensor((1, 1, units), 8, scale=2.0**-7, zero=-3)
    c = s.tensor((1, 1, units), 16, scale=2.0**-11, zero=0)
    own = arithmetic.arithmetic_of(s.mode)

    def side(count: int) -> Side:
        weights = s.rng.integers(-127, 128, (GATES, units, count)).astype(np.int8)
        ratios = own.ratios((s.ratios(GATES * units),), 1.0).reshape(GATES, units)
        return Side(weights, np.zeros((GATES, units), np.int32), ratios)

    unit = 2.0**-OUTPUT_BITS
    products = own.ratios((np.array([unit, unit / 16, unit / 256]),), 1.0)
    cells = WideLstmSpec(x.plane, units, s.mode).y.channels
    y = s.tensor((1, 1, cells), 8, scale=h.scale, zero=h.zero)
    s.add(LstmSteps(s.name, (x.name, h.name, c.name), y.name, side(depth), side(units), products,
                    (-32768, 32767), INPUT_BITS - 11, y.low, y.high))  # fmt: skip
