"""Steps of an integer LSTM of TFLite, one loop over them: weights in flash once, the states of 8 and 16 bits.

What `tapc.kernels.wide` computes one call after the other is computed unit by unit here: of each gate a sum over the
input's codes and one over those of the hidden state, both as 16 bits, what the gates make of their sum, and the states.
"""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.gates import tanh_scalars
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantized, result_code, scaled
from tapc.kernels.packing import weights_per_word
from tapc.kernels.spec import Features, KernelSpec

GATES = 4
"""Input, forget, cell and output gate; a unit has a row for each over the input, then one over the hidden state."""
ROWS = 2 * GATES
PRODUCTS = 3
"""What is kept of the cell state, what is added to it, and the result: their factors stand behind those of the rows."""
_BITS = 8
_HALF, _MASK = 1 << (_BITS - 1), ((1 << _BITS) - 1) * 0x10001


@dataclass(frozen=True)
class WideLstmSpec(KernelSpec):
    """A kernel instance.

    Attributes
    ----------
    x : Plane
        A pixel for each step.
    units : int
    mode : Mode
    quick : Quick
        How the sums are requantized.
    left : int
        Codes of the cell state have steps of 2^(left - 12).
    """

    x: Plane
    units: int
    mode: Mode
    quick: Quick = ""
    left: int = 0

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "lstm16"

    @property
    def cells(self) -> int:
        """Where in the result the cell state begins, behind the hidden states of all steps; in bytes."""
        return -(-self.x.pixels * self.units // 4) * 4

    @property
    def y(self) -> Plane:
        """The hidden states of all steps, and the bytes of the last cell state."""
        return Plane(1, 1, self.cells + 2 * self.units, 8)

    @property
    def words(self) -> tuple[int, int]:
        """Words of a row of weights over the input, and over the hidden state, padded with zeros."""
        each = weights_per_word(_BITS)
        return -(-self.x.channels // each), -(-self.units // each)

    @property
    def pairs(self) -> tuple[int, int]:
        """Words of their codes, two in each."""
        each = weights_per_word(_BITS) // 2
        return self.words[0] * each, self.words[1] * each

    @property
    def weight_words(self) -> int:
        """Words of all weights."""
        return GATES * self.units * sum(self.words)

    @property
    def scratch_bytes(self) -> int:
        """Codes of the input and of the hidden state in pairs, and a word of cell state for each unit."""
        return 4 * (sum(self.pairs) + self.units)

    def instruction_features(self) -> Features:
        """Count words of a row, codes, units and steps."""
        steps, units = self.x.pixels, self.x.pixels * self.units
        parts: Features = {
            "lstm16_turn": units * sum(self.words),
            "lstm16_code": steps * (self.x.channels + self.units),
            "lstm16_unit": units,
            "lstm16_step": steps,
            "call": 1,
        }
        for quick, count in ((self.quick, units * ROWS), ("", units * PRODUCTS)):
            for key, own in requantized(self.mode, quick, clamped=True, count=count).items():
                parts[key] = parts.get(key, 0) + own
        return parts

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        parts: Features = {"code_lstm16": 1}
        for quick, copies in ((self.quick, ROWS), ("", PRODUCTS)):
            for key, own in result_code(self.mode, quick, "", copies).items():
                parts[key] = parts.get(key, 0) + own
        return parts

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        rows = ROWS * self.units
        parameters = (
            self.x.parameter("x"),
            Plane(1, 1, self.units, 8).parameter("h"),
            Plane(1, 1, self.units, 16).parameter("c"),
            self.y.parameter("y", constant=False),
            Parameter("w", "int32", self.weight_words),
            Parameter("bias", "int32", rows),
            multiplier_parameter(self.mode, rows + PRODUCTS),
            Parameter("table", "int32", 256),
            Parameter("cell_low", "int32"),
            Parameter("cell_high", "int32"),
            *SCALAR_RANGE,
            Parameter("row", "int32", self.scratch_bytes // 4, constant=False),
        )
        return build(name, parameters, lambda b: _Emitter(self, b).emit())


class _Emitter:
    def __init__(self, spec: WideLstmSpec, b: Body) -> None:
        self.spec, self.b = spec, b
        self.acc, self.gates, self.sums = b.array("acc", GATES), b.array("gates", GATES), b.array("sums", 2)
        self.state = sum(spec.pairs)

    def emit(self) -> None:
        spec, b = self.spec, self.b
        with b.loop(self.state) as i:
            b.store(b["row"], i, 0)
        with b.loop(spec.units) as i:
            b.store(b["row"], self.state + i, b.T.Cast("int32", b["c"][i]))
        self._read(1, b["h"], 0)
        with b.loop(spec.x.pixels) as t:
            self._read(0, b["x"], t * spec.x.channels)
            with b.loop(spec.units) as unit:
                self._unit(t, unit)
            self._read(1, b["y"], t * spec.units)
        for gap in range(spec.x.pixels * spec.units, spec.cells):
            b.store(b["y"], gap, b.T.Cast("int8", b.T.int32(0)))
        with b.loop(spec.units) as i:
            cell = b.bind(b["row"][self.state + i])
            b.store(b["y"], spec.cells + i * 2, b.T.Cast("int8", ((cell + 128) & 255) - 128))
            b.store(b["y"], spec.cells + i * 2 + 1, b.T.Cast("int8", cell >> 8))

    def _read(self, side: int, codes: Any, first: Any) -> None:
        """Put codes of the input (0), or of the hidden state (1), side by side, and sum them up."""
        spec, b = self.spec, self.b
        count, start = (spec.x.channels, spec.units)[side], (0, spec.pairs[0])[side]

        def code(place: Any) -> Any:
            return b.bind(b.T.Cast("int32", codes[first + place]))

        b.store(self.sums, side, 0)
        if count > 1:
            with b.loop(count // 2) as pair:
                low, high = code(pair * 2), code(pair * 2 + 1)
                b.store(b["row"], start + pair, b.call("t_pair", low, high))
                b.store(self.sums, side, self.sums[side] + low + high)
        if count % 2:
            last = code(count - 1)
            b.store(b["row"], start + count // 2, b.call("t_pair", last, 0))
            b.store(self.sums, side, self.sums[side] + last)

    def _rows(self, side: int, unit: Any) -> None:
        """Sum up the rows of all gates over one side, as 16 bits each."""
        spec, b = self.spec, self.b
        words, start, first = spec.words[side], (0, spec.pairs[0])[side], unit * ROWS + GATES * side
        begin = unit * (GATES * sum(spec.words)) + side * GATES * spec.words[0]
        for gate in range(GATES):
            # Weights are kept without signs, half of their range too large.
            b.store(self.acc, gate, b["bias"][first + gate] - self.sums[side] * _HALF)
        fields = weights_per_word(_BITS) // 2
        with b.loop(words) as k:
            codes = [b.bind(b["row"][start + k * fields + f]) for f in range(fields)]
            for gate in range(GATES):
                word = b.bind(b["w"][begin + gate * words + k])
                for f in range(fields):
                    pair = b.call("t_fields", _MASK, word, f * _BITS)
                    b.store(self.acc, gate, b.call("t_smlad", pair, codes[f], self.acc[gate]))
        for gate in range(GATES):
            found = b.bind(scaled(b, spec.mode, self.acc[gate], first + gate, 0, -32768, 32767, spec.quick))
            b.store(self.gates, gate, _short(b, self.gates[gate] + found) if side else found)

    def _unit(self, t: Any, unit: Any) -> None:
        spec, b, table = self.spec, self.b, self.b.address(self.b["table"], 0)
        self._rows(0, unit)
        self._rows(1, unit)
        i, f, o = (b.bind(b.call("t_sigmoid16", self.gates[gate], table)) for gate in (0, 1, 3))
        g = b.bind(b.call("t_tanh16", self.gates[2], *tanh_scalars(), table))
        kept = self._product(f * b["row"][self.state + unit], 0)
        added = self._product(i * g, 1)
        cell = b.bind(b.T.min(b.T.max(kept + added, b["cell_low"]), b["cell_high"]))
        b.store(b["row"], self.state + unit, cell)
        shown = b.bind(b.call("t_tanh16", cell, *tanh_scalars(spec.left), table))
        code = scaled(b, spec.mode, shown * o, ROWS * spec.units + 2, b["zero"], b["low"], b["high"])
        b.store(b["y"], t * spec.units + unit, b.T.Cast("int8", code))

    def _product(self, value: Any, which: int) -> Any:
        spec, b = self.spec, self.b
        return b.bind(scaled(b, spec.mode, value, ROWS * spec.units + which, 0, -32768, 32767))


def _short(b: Body, value: Any) -> Any:
    return b.T.min(b.T.max(value, -32768), 32767)
