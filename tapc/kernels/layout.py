"""Activation access and epilogues that all kernels share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode
from tapc.kernels.builder import Body, Parameter
from tapc.kernels.packing import row_bytes


@dataclass(frozen=True)
class Plane:
    """An activation tensor in NHWC order.

    Attributes
    ----------
    height, width, channels : int
    bits : {4, 8}
        Signed 8-bit or unsigned 4-bit codes.
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

    def parameter(self, name: str, *, constant: bool = True) -> Parameter:
        """Declare a pointer to the tensor."""
        return Parameter(name, "int8" if self.bits == 8 else "uint8", self.bytes, constant)

    def load(self, b: Body, buffer: Any, pixel: Any, channel: Any) -> Any:
        """Return the code at a pixel and channel as int32."""
        if self.bits == 8:
            return b.T.Cast("int32", buffer[pixel * self.row + channel])
        return b.call("t_load4", b.address(buffer, pixel * self.row), channel)

    def store(self, b: Body, buffer: Any, pixel: Any, channel: Any, code: Any) -> None:
        """Store a code; the other half of a shared byte keeps its value."""
        if self.bits == 8:
            b.store(buffer, pixel * self.row + channel, b.T.Cast("int8", code))
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


SCALAR_RANGE = (Parameter("zero", "int32"), Parameter("low", "int32"), Parameter("high", "int32"))


def multiplier_parameter(mode: Mode, count: int) -> Parameter:
    """Declare requantization factors: float32 each, or (factor, shift) pairs of int32."""
    return Parameter("s", "float32", count) if mode == "float" else Parameter("s", "int32", 2 * count)


def requantize(b: Body, mode: Mode, acc: Any, channel: Any, bits: int = 0) -> Any:
    """Return the requantized accumulator as an expression.

    Parameters
    ----------
    b : Body
        With parameters s, zero, low and high.
    mode : {"float", "fixed"}
    acc, channel : expression
    bits : {0, 4, 8}
        Bits of the result where its range is all of its codes; 0 where it is [low, high].
    """
    s = b["s"]
    if mode == "float":
        if bits:
            return b.call(f"t_requant_float{bits}", acc, s[channel], b["zero"])
        return b.call("t_requant_float", acc, s[channel], b["zero"], b["low"], b["high"])
    return b.call("t_requant_fixed", acc, s[channel * 2], s[channel * 2 + 1], b["zero"], b["low"], b["high"])


SumForm = str
"""How codes are added: `LINEAR`, or the name of an arithmetic."""
LINEAR = "linear"


def add_parameters(form: SumForm) -> tuple[Parameter, ...]:
    """Declare the scalars of a quantized addition."""
    number = "float32" if form == "float" else "int32"
    names = [("a", number), ("b", number), ("offset", number)]
    names += [("shift", "int32")] if form != "float" else []
    names += [("zero", "int32")] if form == "fixed" else []
    names += [("low", "int32"), ("high", "int32")]
    return tuple(Parameter(f"add_{name}", dtype) for name, dtype in names)


def add_codes(b: Body, form: SumForm, a: Any, other: Any, bits: int = 0) -> Any:
    """Return the requantized sum of two codes as an expression.

    Parameters
    ----------
    b : Body
        With the parameters of `add_parameters`.
    form : {"linear", "float", "fixed"}
    a, other : expression
    bits : {0, 4, 8}
        As for `requantize`; used by the linear form.
    """
    if form == "linear":
        scalars = [b[f"add_{name}"] for name in ("a", "b", "offset", "shift")]
        if bits:
            return b.call(f"t_add_linear{bits}", a, other, *scalars)
        return b.call("t_add_linear", a, other, *scalars, b["add_low"], b["add_high"])
    names = ["a", "b", "offset", *(["shift", "zero"] if form == "fixed" else []), "low", "high"]
    return b.call(f"t_add_{form}", a, other, *(b[f"add_{name}"] for name in names))
