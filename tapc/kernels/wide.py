"""Kernels of 16-bit codes: what integer LSTMs and SVDFs of TFLite are made of."""

from dataclasses import dataclass
from typing import Any, Literal

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.gates import PLAIN, Scalars
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantized, result_code, scaled
from tapc.kernels.packing import weights_per_word
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec

Work = Literal["sum", "product", "scale", "sigmoid", "tanh"]


@dataclass(frozen=True)
class WideSpec(KernelSpec):
    """A sum or product of two tensors, or a gate or change of scale of one, element by element.

    Attributes
    ----------
    work : {"sum", "product", "scale", "sigmoid", "tanh"}
    x, y : Plane
        Of 16 bits; the result of a product may have 8, both ends of a change of scale any.
    mode : Mode
    scalars : (int, int, int)
        Of what a gate is taken; see `gate_scalars`.
    """

    work: Work
    x: Plane
    y: Plane
    mode: Mode = ""
    scalars: Scalars = PLAIN

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"wide_{self.work}o{self.y.bits}"

    def instruction_features(self) -> Features:
        """Count codes."""
        return {f"wide_{self._part}": self.y.pixels * self.y.channels, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {f"code_wide_{self._part}": 1}

    @property
    def _part(self) -> str:
        """What costs the same: all of a work, but that of products and scales lies in how they are requantized."""
        if self.work == "scale":
            return f"scale_{self.x.bits}o{self.y.bits}_{self.mode}"
        if self.work == "sigmoid" and self.scalars != PLAIN:
            return "tanh"  # of which codes are scaled first, too
        return f"product_{self.mode}" if self.work == "product" else self.work

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        count = self.y.pixels * self.y.channels
        gate = self.work in ("sigmoid", "tanh")
        parameters = (
            self.x.parameter("x"),
            *((self.x.parameter("r"),) if self.work in ("sum", "product") else ()),
            self.y.parameter("y", constant=False),
            *((multiplier_parameter(self.mode, 1),) if self.work in ("product", "scale") else ()),
            *((Parameter("table", "int32", 256),) if gate else SCALAR_RANGE),
            *((Parameter("start", "int32"),) if self.work == "scale" else ()),
        )

        def emit(b: Body) -> None:
            with b.loop(count) as i:
                x = b.bind(self.x.load(b, b["x"], 0, i))
                self.y.store(b, b["y"], 0, i, self._result(b, x, i))

        return build(name, parameters, emit)

    def _result(self, b: Body, x: Any, i: Any) -> Any:
        if self.work == "sigmoid":
            if self.scalars != PLAIN:
                return b.call("t_sigmoid16_of", x, *self.scalars, b.address(b["table"], 0))
            return b.call("t_sigmoid16", x, b.address(b["table"], 0))
        if self.work == "tanh":
            return b.call("t_tanh16", x, *self.scalars, b.address(b["table"], 0))
        if self.work == "scale":
            return scaled(b, self.mode, x - b["start"], 0, b["zero"], b["low"], b["high"])
        r = b.bind(self.x.load(b, b["r"], 0, i))
        if self.work == "sum":
            return b.T.min(b.T.max(x + r, b["low"]), b["high"])
        return scaled(b, self.mode, x * r, 0, b["zero"], b["low"], b["high"])


@dataclass(frozen=True)
class WideFilterSpec(KernelSpec):
    """A filter over all steps of 16-bit codes for each unit, by 16-bit weights.

    Attributes
    ----------
    x : Plane
        Steps, 1, units times rank.
    y : Plane
        1, 1, units; of 8 bits.
    rank : int
        Channels of a unit.
    mode : Mode
    """

    x: Plane
    y: Plane
    rank: int
    mode: Mode

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "wide_filter"

    def instruction_features(self) -> Features:
        """Count products and units."""
        units = self.y.channels
        own: Features = {
            **({"wide_tap": units * self.rank * self.x.pixels} if self.rank > 1 else {}),
            "wide_turns_of_several" if self.rank > 1 else "wide_turns_of_one": units * self.x.pixels,
            "wide_unit": units,
            "call": 1,
        }
        return own | requantized(self.mode, "", clamped=True, count=units)

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {"code_wide_filter": 1, **result_code(self.mode, "", "", 1)}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        units, count = self.y.channels, self.x.channels
        parameters = (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("w", "int16", self.x.pixels * count),
            Parameter("bias", "int32", units),
            multiplier_parameter(self.mode, units),
            *SCALAR_RANGE,
        )

        def emit(b: Body) -> None:
            acc = b.array("acc", 1)
            with b.loop(units) as u:
                b.store(acc, 0, b["bias"][u])
                with b.loop(self.x.pixels) as step:
                    for r in range(self.rank):
                        at = step * count + u * self.rank + r
                        # Sums beyond int32 begin anew below, as TFLite's do.
                        b.store(acc, 0, b.call("t_smlabb", *(b.T.Cast("int32", b[name][at]) for name in "xw"), acc[0]))
                code = scaled(b, self.mode, acc[0], u, b["zero"], b["low"], b["high"])
                self.y.store(b, b["y"], 0, u, code)

        return build(name, parameters, emit)


@dataclass(frozen=True)
class WideDenseSpec(KernelSpec):
    """A product of a vector of 8-bit codes by a matrix, whose results have 16 bits.

    Attributes
    ----------
    x, y : Plane
    bits : {2, 4, 8}
        Of the weights.
    mode : Mode
    quick : Quick
        How sums are requantized.
    """

    x: Plane
    y: Plane
    bits: int
    mode: Mode
    quick: Quick = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"wide_dense_w{self.bits}"

    @property
    def row_words(self) -> int:
        """Words of a row of weights, padded with zeros."""
        return -(-self.x.channels // weights_per_word(self.bits))

    @property
    def tile(self) -> int:
        """Rows that are summed up together."""
        return largest_divisor(self.y.channels, 4)

    @property
    def scratch_bytes(self) -> int:
        """The vector, two codes in a word."""
        return 2 * self.row_words * weights_per_word(self.bits)

    def instruction_features(self) -> Features:
        """Count words of weights, rows, and words of the vector."""
        rows, pairs = self.y.channels, self.scratch_bytes // 4
        parts: Features = {
            f"wide_word_w{self.bits}": rows * self.row_words,
            "wide_turn": rows // self.tile * pairs,
            "wide_row": rows,
            "wide_pair": pairs,
            "call": 1,
        }
        return parts | requantized(self.mode, self.quick, clamped=True, count=rows)

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        own: Features = {"code_wide_dense": 1, f"code_wide_word_w{self.bits}": self.tile}
        return own | result_code(self.mode, self.quick, "", self.tile)

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        rows = self.y.channels
        parameters = (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("w", "int32", rows * self.row_words),
            Parameter("bias", "int32", rows),
            multiplier_parameter(self.mode, rows),
            *SCALAR_RANGE,
            Parameter("row", "int32", self.scratch_bytes // 4, constant=False),
        )
        return build(name, parameters, self._emit)

    def _emit(self, b: Body) -> None:
        fields, count = weights_per_word(self.bits) // 2, self.x.channels
        half, mask = 1 << (self.bits - 1), ((1 << self.bits) - 1) * 0x10001
        acc, total = b.array("acc", self.tile), b.array("total", 1)
        b.store(total, 0, 0)
        with b.loop(self.scratch_bytes // 4) as i:
            b.store(b["row"], i, 0)

        def put(pair: Any, low: Any, high: Any) -> None:
            b.store(b["row"], pair, b.call("t_pair", low, high))
            b.store(total, 0, total[0] + low + high)

        if count > 1:
            with b.loop(count // 2) as pair:
                put(pair, *(b.bind(self.x.load(b, b["x"], 0, pair * 2 + side)) for side in range(2)))
        if count % 2:
            put(count // 2, b.bind(self.x.load(b, b["x"], 0, count - 1)), b.T.int32(0))
        with b.loop(self.y.channels // self.tile) as outer:
            for u in range(self.tile):
                # Weights are kept without signs, half of their range too large.
                b.store(acc, u, b["bias"][outer * self.tile + u] - total[0] * half)
            with b.loop(self.row_words) as k:
                codes = [b.bind(b["row"][k * fields + f]) for f in range(fields)]
                for u in range(self.tile):
                    word = b.bind(b["w"][(outer * self.tile + u) * self.row_words + k])
                    for f in range(fields):
                        pair = b.call("t_fields", mask, word, f * self.bits)
                        b.store(acc, u, b.call("t_smlad", pair, codes[f], acc[u]))
            for u in range(self.tile):
                row = outer * self.tile + u
                code = scaled(b, self.mode, acc[u], row, b["zero"], b["low"], b["high"], self.quick)
                self.y.store(b, b["y"], 0, row, code)
