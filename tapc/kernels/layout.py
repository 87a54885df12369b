"""Activation access and epilogues that all kernels share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2
from typing import Any

from tapc.base.arithmetic import RATIO, Mode, SoftmaxForm, arithmetic_of, smm
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Parameter
from tapc.kernels.packing import row_bytes
from tapc.kernels.spec import Features


@dataclass(frozen=True)
class Plane:
    """An activation tensor in NHWC order.

    Attributes
    ----------
    height, width, channels : int
    bits : {4, 8, 16, 32}
        Signed 8-bit, 16-bit or 32-bit, or unsigned 4-bit codes.
    """

    height: int
    width: int
    channels: int
    bits: int

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width

    @property
    def row(self) -> int:
        """Bytes of a pixel."""
        return row_bytes(self.channels, self.bits)

    @property
    def bytes(self) -> int:
        """Bytes of the tensor."""
        return self.pixels * self.row

    def turned(self) -> "Plane":
        """Return the plane of the image whose rows are columns."""
        return replace(self, height=self.width, width=self.height)

    def of_bytes(self) -> "Plane":
        """Return the plane of its bytes."""
        return replace(self, channels=self.row, bits=8)

    def parameter(self, name: str, *, constant: bool = True) -> Parameter:
        """Declare a pointer to the tensor."""
        if self.bits > 8:
            return Parameter(name, f"int{self.bits}", self.bytes // (self.bits // 8), constant)
        return Parameter(name, "int8" if self.bits == 8 else "uint8", self.bytes, constant)

    def load(self, b: Body, buffer: Any, pixel: Any, channel: Any) -> Any:
        """Return the code at a pixel and channel as int32."""
        if self.bits == 8:
            return b.T.Cast("int32", buffer[pixel * self.row + channel])
        if self.bits > 8:
            return b.T.Cast("int32", buffer[pixel * self.channels + channel])
        return b.call("t_load4", b.address(buffer, pixel * self.row), channel)

    def store(self, b: Body, buffer: Any, pixel: Any, channel: Any, code: Any) -> None:
        """Store a code; the other half of a shared byte keeps its value."""
        if self.bits == 8:
            b.store(buffer, pixel * self.row + channel, b.T.Cast("int8", code))
        elif self.bits > 8:
            b.store(buffer, pixel * self.channels + channel, b.T.Cast(f"int{self.bits}", code))
        else:
            b.do("t_store4", b.address(buffer, pixel * self.row), channel, code)


def each_channel(b: Body, channels: int, body: Callable[[Any], None]) -> None:
    """Visit channels two by two, as 4-bit codes lie in a byte: the compiler then knows which half is meant."""
    if channels > 1:
        with b.loop(channels // 2) as pair:
            body(pair * 2)
            body(pair * 2 + 1)
    if channels % 2:
        body(channels - 1)


def copies_of(channels: int) -> int:
    """Return how often the machine code of `each_channel` has a body."""
    return 2 * (channels > 1) + channels % 2


SCALAR_RANGE = (Parameter("zero", "int32"), Parameter("low", "int32"), Parameter("high", "int32"))


def multiplier_parameter(mode: Mode, count: int, quick: Quick = "") -> Parameter:
    """Declare requantization factors."""
    own = arithmetic_of(mode)
    return Parameter("s", own.number if smm.shift_of(quick) is None else "int32", own.words * count)


def factor(b: Body, mode: Mode, channel: Any) -> tuple[Any, ...]:
    """Return the words of a channel's factor as expressions."""
    words = arithmetic_of(mode).words
    return tuple(b["s"][channel * words + i] for i in range(words))


def scaled(b: Body, mode: Mode, acc: Any, channel: Any, zero: Any, low: Any, high: Any, quick: Quick = "") -> Any:
    """Return an accumulator as a code of a zero point and a range."""
    return b.call(f"t_requant_{mode}{quick}", acc, *factor(b, mode, channel), zero, low, high)


def requantize(b: Body, mode: Mode, acc: Any, channel: Any, bits: int = 0, quick: Quick = "") -> Any:
    """Return the requantized accumulator as an expression.

    Parameters
    ----------
    b : Body
        With parameters s, zero, low and high.
    mode : Mode
    acc, channel : expression
    bits : {0, 4, 8}
        Bits of the result where its range is all of its codes; 0 where it is [low, high].
    quick : Quick
        See `Arithmetic.quick`.
    """
    if quick == NEAR:
        return Channel(b, mode, channel, quick, bits).code(acc)
    if bits and (quick or arithmetic_of(mode).saturating):
        return b.call(f"t_requant_{mode}{quick}{bits}", acc, *factor(b, mode, channel), b["zero"])
    return scaled(b, mode, acc, channel, b["zero"], b["low"], b["high"], quick)


class Channel:
    """Requantization of accumulators of one channel, whose factor is read once."""

    def __init__(self, b: Body, mode: Mode, channel: Any, quick: Quick, bits: int) -> None:
        self.b, self.mode, self.quick, self.bits = b, mode, quick, bits
        words = factor(b, mode, channel)
        if quick == NEAR:
            self.words = b.array("parts", 4)
            b.do("t_near", *words, b["zero"], b.address(self.words, 0))
        else:
            self.words = tuple(b.bind(word) for word in words)

    def code(self, acc: Any) -> Any:
        """Return the requantized accumulator as an expression."""
        b, ends = self.b, () if self.bits else (self.b["low"], self.b["high"])
        if self.quick == NEAR:
            return b.call(f"t_near_code{self.bits or ''}", acc, b.address(self.words, 0), *ends)
        if self.bits and (self.quick or arithmetic_of(self.mode).saturating):
            return b.call(f"t_requant_{self.mode}{self.quick}{self.bits}", acc, *self.words, b["zero"])
        return b.call(f"t_requant_{self.mode}{self.quick}", acc, *self.words, b["zero"], b["low"], b["high"])


def requantize_each(
    b: Body, mode: Mode, accumulators: list[Any], channels: list[Any], bits: int, quick: Quick, into: Any
) -> None:
    """Store the requantized accumulators; as `requantize`.

    Of two dependent instructions each, the first ones of all come first: a core that issues two at once then does.
    """
    shift, each = smm.shift_of(quick), list(enumerate(zip(accumulators, channels, strict=True)))
    if shift is None:
        for i, (acc, channel) in each:
            b.store(into, i, requantize(b, mode, acc, channel, bits, quick))
        return
    for i, (acc, channel) in each:
        b.store(into, i, b.call("t_smm", acc, *factor(b, mode, channel), b["zero"]))
    ends = () if bits else (b["low"], b["high"])
    for i, _ in each:
        b.store(into, i, b.call(f"t_smm_code{bits or ''}", into[i], shift, *ends))


SumForm = str
"""How codes are added: `LINEAR`, or the name of an arithmetic."""
LINEAR = "linear"


NEAR = "_near"
"""What is quick without wide products; see `Arithmetic.near`."""

RELATIVE = ("requantize", "requantize4", "sum", "sum4", "norm", "share", "mean", "slope", "product", "log", "embed")
"""First words of features that count what another arithmetic costs beside, or less than, the core's own."""


def is_own(feature: str, own: Mode) -> bool:
    """Return whether a feature counts what the core's own arithmetic does: nothing beside the other parts."""
    first, _, rest = feature.partition("_")
    return (
        first in RELATIVE
        and rest.split("_")[0] == own
        and not any(side in rest for side in ("_right", "_both", NEAR, smm.PREFIX))
    )


def requantized(
    mode: Mode, quick: Quick, *, clamped: bool, count: float, lanes: bool = False, part: str = "requantize"
) -> Features:
    """Count codes for the cost model, one by one or in vectors; the core's own arithmetic costs nothing beside them."""
    return {f"{part}{4 if lanes else ''}_{mode}{_form(quick)}{'_c' if clamped else ''}": count}


def _form(quick: Quick) -> str:
    """Return what features call a form: shifts cost the same whatever they are."""
    return quick if smm.shift_of(quick) is None else smm.PREFIX


def result_code(mode: Mode, quick: Quick, form: SumForm, count: int) -> Features:
    """Count what is requantized and added in a kernel's code, beside the core's own arithmetic."""
    sums = {} if form in ("", LINEAR) else {f"sum_{form}_code": count}
    return {f"requantize_{mode}{_form(quick)}_code": count, **sums}


def sum_key(form: SumForm) -> str:
    """Return what features are called of what adds codes: whether integers do, or an arithmetic of `summed`."""
    return LINEAR if form == LINEAR else "scaled" if form else ""


def summed(form: SumForm, count: float, *, lanes: bool = False) -> Features:
    """Count sums of codes for the cost model; the core's own arithmetic costs nothing beside them."""
    return {} if form in ("", LINEAR) else {f"sum{4 if lanes else ''}_{form}": count}


def lanes_of(quick: Quick) -> str:
    """Return what stands behind the name of an intrinsic that requantizes a vector."""
    return quick if quick == "_right" else ""


class SoftmaxShares:
    """What a softmax makes of its table's entries: statements and expressions of a form."""

    def __init__(self, b: Body, form: SoftmaxForm, levels: int) -> None:
        self.b, self.form, self.levels = b, form, levels
        self._words = None if form == RATIO else b.array("words", 2)

    def term(self, entry: Any) -> Any:
        """Return what is summed up of an entry."""
        return entry if self._words is None else self.b.call(f"t_softmax_term_{self.form}", entry)

    def start(self, total: Any) -> None:
        """Prepare for the shares of a sum."""
        if self._words is not None:
            self.b.do(f"t_softmax_scale_{self.form}", total, self.b.address(self._words, 0))

    def share(self, entry: Any, total: Any) -> Any:
        """Return an entry's share of the sum, without the zero point."""
        if self._words is None:
            # The table keeps the total below 2^31; the scaled term needs 32 unsigned bits.
            return self.b.call("t_ratio", entry, self.levels, total)
        # Each bit more of the result is one less of the shift.
        shift = self._words[1] - (self.levels.bit_length() - 9) if self.levels > 256 else self._words[1]
        return self.b.call(f"t_softmax_code_{self.form}", entry, self._words[0], shift)


def softmax_features(form: SoftmaxForm, codes: float, pixels: float, levels: int) -> Features:
    """Count for the cost model the bits of a softmax's quotients, or what its shares cost beside those of a ratio."""
    if form != RATIO:
        return {f"share_{form}_code": codes, f"share_{form}_pixel": pixels}
    # A core that cannot divide takes its time bit by bit.
    return {"quotient_bits": codes * max(log2(levels * pixels / codes), 0)}


def sum_scalars(form: SumForm) -> tuple[str, ...]:
    """Return the names of what a quantized addition is given, its range not counted."""
    names = ("a", "b", "offset", "shift") if form == LINEAR else arithmetic_of(form).sum_scalars
    return tuple(f"add_{name}" for name in names)


def add_parameters(form: SumForm) -> tuple[Parameter, ...]:
    """Declare the scalars of a quantized addition."""
    number = "int32" if form == LINEAR else arithmetic_of(form).number
    own = (Parameter(name, number) for name in sum_scalars(form))
    return (*own, Parameter("add_low", "int32"), Parameter("add_high", "int32"))


def add_codes(b: Body, form: SumForm, a: Any, other: Any, bits: int = 0) -> Any:
    """Return the requantized sum of two codes as an expression.

    Parameters
    ----------
    b : Body
        With the parameters of `add_parameters`.
    form : SumForm
    a, other : expression
    bits : {0, 4, 8}
        As for `requantize`; used by the linear form.
    """
    scalars = [b[name] for name in sum_scalars(form)]
    if bits and form == LINEAR:
        return b.call(f"t_add_{form}{bits}", a, other, *scalars)
    return b.call(f"t_add_{form}", a, other, *scalars, b["add_low"], b["add_high"])
