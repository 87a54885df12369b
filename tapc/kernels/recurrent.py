"""Recurrent layers: a loop over the steps, whose weights are in flash once.

Units are computed one after the other, the sums of all of a unit's gates at once, so that codes of the hidden state are
loaded once for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.gates import OUTPUT_BITS, tanh_scalars
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantized, result_code, scaled
from tapc.kernels.packing import weights_per_word
from tapc.kernels.spec import Features, KernelSpec

Cell = Literal["lstm", "gru", "gru_reset", "tanh", "relu"]
"""`gru` multiplies the reset gate with the product of the hidden state, `gru_reset` with the hidden state itself."""
GATES: dict[Cell, int] = {"lstm": 4, "gru": 3, "gru_reset": 3, "tanh": 1, "relu": 1}
PRODUCTS: dict[Cell, int] = {"lstm": 3, "gru": 1, "gru_reset": 1, "tanh": 1, "relu": 1}
"""Results of a unit that are requantized beside its sums: their factors stand behind those of all rows."""


def row_order(cell: Cell, units: int) -> list[int]:
    """Return the rows of the weights, gate by gate as ONNX has them, as the kernel reads them: unit by unit."""
    gates = GATES[cell]
    if cell != "gru_reset":
        return [gate * units + unit for unit in range(units) for gate in range(gates)]
    # The reset gates of all units come first.
    return [units + unit for unit in range(units)] + [gate * units + unit for unit in range(units) for gate in (0, 2)]


@dataclass(frozen=True)
class RecurrentSpec(KernelSpec):
    """A kernel instance.

    Attributes
    ----------
    cell : Cell
    z : Plane
        A pixel for each step: what the input gives each gate, gate by gate.
    y : Plane
        The hidden states.
    bits : {2, 4, 8}
        Of the recurrent weights.
    reverse : bool
        The last step comes first.
    biased : bool
        Sums of the hidden state have a bias.
    mode : Mode
    quick : Quick
        How they are requantized.
    left : int
        Codes of the cell state have steps of 2^(left - 12).
    """

    cell: Cell
    z: Plane
    y: Plane
    bits: int
    reverse: bool
    biased: bool
    mode: Mode
    quick: Quick = ""
    left: int = 1

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"recurrent_{self.cell}_w{self.bits}"

    @property
    def units(self) -> int:
        """Of the hidden state."""
        return self.y.channels

    @property
    def row_words(self) -> int:
        """Words of a row of weights, padded with zeros."""
        return -(-self.units // weights_per_word(self.bits))

    @property
    def pairs(self) -> int:
        """Words of the hidden state's codes, two in each."""
        return self.row_words * weights_per_word(self.bits) // 2

    @property
    def weight_words(self) -> int:
        """Words of the weights."""
        return GATES[self.cell] * self.units * self.row_words

    @property
    def scratch_bytes(self) -> int:
        """The hidden state's codes in pairs, a word of state for each unit, and what the reset gates leave of them."""
        words = self.pairs + (self.units if self.cell in ("lstm", "gru", "gru_reset") else 0)
        return 4 * (words + (self.pairs if self.cell == "gru_reset" else 0))

    def instruction_features(self) -> Features:
        """Count words of weights, sums, units and steps."""
        steps, gates = self.z.pixels, GATES[self.cell]
        rows, units = steps * gates * self.units, steps * self.units
        parts: Features = {
            f"recurrent_word_w{self.bits}": rows * self.row_words,
            "recurrent_pair": steps * self.units * self.pairs * (3 if self.cell == "gru_reset" else 1),
            "recurrent_row": rows,
            f"recurrent_{self.cell}": units,
            "recurrent_step": steps,
            "call": 1,
        }
        for quick, count in ((self.quick, rows), ("", units * PRODUCTS[self.cell])):
            for key, own in requantized(self.mode, quick, clamped=True, count=count).items():
                parts[key] = parts.get(key, 0) + own
        return parts

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        gates = GATES[self.cell]
        parts: Features = {"code_recurrent": 1, f"code_recurrent_{self.cell}": 1, f"code_recurrent_w{self.bits}": gates}
        for quick, copies in ((self.quick, gates), ("", PRODUCTS[self.cell])):
            for key, own in result_code(self.mode, quick, "", copies).items():
                parts[key] = parts.get(key, 0) + own
        return parts

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        rows = GATES[self.cell] * self.units
        parameters = (
            self.z.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("w", "int32", self.weight_words),
            *([Parameter("bias", "int32", rows)] if self.biased else []),
            multiplier_parameter(self.mode, rows + PRODUCTS[self.cell]),
            Parameter("table", "int32", 256),
            *(Parameter(part, "int32") for part in ("x_zero", "x_factor", "x_shift")),
            *SCALAR_RANGE,
            Parameter("row", "int32", self.scratch_bytes // 4, constant=False),
        )
        return build(name, parameters, lambda b: _Emitter(self, b).emit())


class _Emitter:
    def __init__(self, spec: RecurrentSpec, b: Body) -> None:
        self.spec, self.b = spec, b
        self.acc, self.sums = b.array("acc", GATES[spec.cell]), b.array("sums", 2)
        self.state = spec.pairs
        self.rest = spec.pairs + spec.units
        """Where the states of units, and the codes that reset gates leave, begin in the scratch memory."""

    def emit(self) -> None:
        spec, b = self.spec, self.b
        with b.loop(spec.scratch_bytes // 4) as i:
            b.store(b["row"], i, 0)
        b.store(self.sums, 0, 0)
        with b.loop(spec.z.pixels) as step:
            t = b.bind(spec.z.pixels - 1 - step if spec.reverse else step + 0)
            if spec.cell == "gru_reset":
                self._reset(t)
            with b.loop(spec.units) as unit:
                getattr(self, f"_{spec.cell}")(t, unit)
            self._read(t)

    def _read(self, t: Any) -> None:
        """Put the codes of a step, less their zero point, side by side for the next."""
        spec, b = self.spec, self.b

        def code(channel: Any) -> Any:
            return b.bind(spec.y.load(b, b["y"], t, channel) - b["zero"])

        b.store(self.sums, 0, 0)
        if spec.units > 1:
            with b.loop(spec.units // 2) as pair:
                low, high = code(pair * 2), code(pair * 2 + 1)
                b.store(b["row"], pair, b.call("t_pair", low, high))
                b.store(self.sums, 0, self.sums[0] + low + high)
        if spec.units % 2:
            last = code(spec.units - 1)
            b.store(b["row"], spec.units // 2, b.call("t_pair", last, 0))
            b.store(self.sums, 0, self.sums[0] + last)

    def _sums(self, first: Any, gates: Sequence[tuple[int, int, int]]) -> None:
        """Sum up rows of weights, the first of them and those behind it.

        Parameters
        ----------
        first : expression
            Row.
        gates : sequence of (int, int, int)
            Of each row: its accumulator, where in the scratch memory the codes are that it takes, and their sum.
        """
        spec, b = self.spec, self.b
        half, mask = 1 << (spec.bits - 1), ((1 << spec.bits) - 1) * 0x10001
        fields = weights_per_word(spec.bits) // 2
        for place, (to, _, total) in enumerate(gates):
            added = b["bias"][first + place] if spec.biased else 0
            # Weights are kept without signs, half of their range too large.
            b.store(self.acc, to, added - self.sums[total] * half)
        starts = dict.fromkeys(start for _, start, _ in gates)
        with b.loop(spec.row_words) as k:
            codes = {s: [b.bind(b["row"][s + k * fields + f]) for f in range(fields)] for s in starts}
            for place, (to, start, _) in enumerate(gates):
                word = b.bind(b["w"][(first + place) * spec.row_words + k])
                for f in range(fields):
                    pair = b.call("t_fields", mask, word, f * spec.bits)
                    b.store(self.acc, to, b.call("t_smlad", pair, codes[start][f], self.acc[to]))

    def _from_input(self, t: Any, unit: Any, gate: int) -> Any:
        """Return what the input gives a gate."""
        spec, b = self.spec, self.b
        code = spec.z.load(b, b["x"], t, gate * spec.units + unit) - b["x_zero"]
        one = b.T.int32(1)
        return b.bind(_short(b, (code * b["x_factor"] + ((one << b["x_shift"]) >> 1)) >> b["x_shift"]))

    def _from_state(self, row: Any, place: int) -> Any:
        """Return what a sum gives its gate."""
        b = self.b
        found = scaled(b, self.spec.mode, self.acc[place], row, 0, -32768, 32767, self.spec.quick)
        return b.bind(found)

    def _gate(self, t: Any, unit: Any, gate: int, row: Any, place: int) -> Any:
        return self.b.bind(_short(self.b, self._from_input(t, unit, gate) + self._from_state(row, place)))

    def _sigmoid(self, x: Any) -> Any:
        b = self.b
        return b.bind(b.call("t_sigmoid16", x, b.address(b["table"], 0)))

    def _tangent(self, x: Any, left: int = 0) -> Any:
        b = self.b
        return b.bind(b.call("t_tanh16", x, *tanh_scalars(left), b.address(b["table"], 0)))

    def _product(self, value: Any, which: int) -> Any:
        """Return a product as a 16-bit code."""
        rows = GATES[self.spec.cell] * self.spec.units
        return self.b.bind(scaled(self.b, self.spec.mode, value, rows + which, 0, -32768, 32767))

    def _store(self, t: Any, unit: Any, value: Any) -> None:
        spec, b = self.spec, self.b
        last = GATES[spec.cell] * spec.units + PRODUCTS[spec.cell] - 1
        spec.y.store(b, b["y"], t, unit, scaled(b, spec.mode, value, last, b["zero"], b["low"], b["high"]))

    def _lstm(self, t: Any, unit: Any) -> None:
        b, row = self.b, unit * 4
        self._sums(row, [(gate, 0, 0) for gate in range(4)])
        i, o, f = (self._sigmoid(self._gate(t, unit, gate, row + gate, gate)) for gate in range(3))
        g = self._tangent(self._gate(t, unit, 3, row + 3, 3))
        kept = self._product(f * b["row"][self.state + unit], 0)
        cell = b.bind(_short(b, kept + self._product(i * g, 1)))
        b.store(b["row"], self.state + unit, cell)
        self._store(t, unit, o * self._tangent(cell, self.spec.left))

    def _gru(self, t: Any, unit: Any) -> None:
        b, row = self.b, unit * 3
        self._sums(row, [(gate, 0, 0) for gate in range(3)])
        update, reset = (self._sigmoid(self._gate(t, unit, gate, row + gate, gate)) for gate in range(2))
        new = self._from_input(t, unit, 2) + _half_up(reset * self._from_state(row + 2, 2))
        self._blend(t, unit, update, b.bind(_short(b, new)))

    def _reset(self, t: Any) -> None:
        """Multiply the hidden state's codes with the reset gates of all units."""
        spec, b = self.spec, self.b
        b.store(self.sums, 1, 0)

        def one(unit: Any, code: Any) -> Any:
            self._sums(unit, [(0, 0, 0)])
            left = b.bind(_half_up(self._sigmoid(self._gate(t, unit, 1, unit, 0)) * code))
            b.store(self.sums, 1, self.sums[1] + left)
            return left

        if spec.units > 1:
            with b.loop(spec.units // 2) as pair:
                word = b.bind(b["row"][pair])
                low = one(pair * 2, b.call("t_low", word))
                high = one(pair * 2 + 1, word >> 16)
                b.store(b["row"], self.rest + pair, b.call("t_pair", low, high))
        if spec.units % 2:
            low = one(spec.units - 1, b.call("t_low", b["row"][spec.units // 2]))
            b.store(b["row"], self.rest + spec.units // 2, b.call("t_pair", low, 0))

    def _gru_reset(self, t: Any, unit: Any) -> None:
        row = unit * 2 + self.spec.units
        self._sums(row, [(0, 0, 0), (1, self.rest, 1)])
        update = self._sigmoid(self._gate(t, unit, 0, row, 0))
        self._blend(t, unit, update, self._gate(t, unit, 2, row + 1, 1))

    def _blend(self, t: Any, unit: Any, update: Any, new: Any) -> None:
        """Store a unit's state, between what it was and what is new."""
        b, new = self.b, self._tangent(new)
        mixed = update * b["row"][self.state + unit] + ((1 << OUTPUT_BITS) - update) * new
        value = b.bind(_half_up(mixed))
        b.store(b["row"], self.state + unit, value)
        self._store(t, unit, value)

    def _tanh(self, t: Any, unit: Any) -> None:
        self._sums(unit, [(0, 0, 0)])
        self._store(t, unit, self._tangent(self._gate(t, unit, 0, unit, 0)))

    def _relu(self, t: Any, unit: Any) -> None:
        self._sums(unit, [(0, 0, 0)])
        self._store(t, unit, self.b.bind(self.b.T.max(self._gate(t, unit, 0, unit, 0), 0)))


def _short(b: Body, value: Any) -> Any:
    return b.T.min(b.T.max(value, -32768), 32767)


def _half_up(product: Any) -> Any:
    return (product + (1 << (OUTPUT_BITS - 1))) >> OUTPUT_BITS
