"""PRelu: a slope per channel where codes lie below the zero point."""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import (
    SCALAR_RANGE,
    Plane,
    copies_of,
    each_channel,
    multiplier_parameter,
    requantize,
    requantized,
    result_code,
)
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class PreluSpec(KernelSpec):
    """Requantized codes, of which negative ones are multiplied by their channel's slope.

    Attributes
    ----------
    x, y : Plane
    mode : Mode
    clamped : bool
        The result is clamped more narrowly than y's codes.
    quick : Quick
        How codes are requantized; see `Arithmetic.quick`.
    """

    x: Plane
    y: Plane
    mode: Mode
    clamped: bool
    quick: Quick = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"prelu_a{self.x.bits}o{self.y.bits}"

    @property
    def unroll(self) -> int:
        """Channels per iteration of the innermost loop."""
        return largest_divisor(self.x.channels, 4) if self.x.bits == self.y.bits == 8 else 2

    def instruction_features(self) -> Features:
        """Count codes, loops and pixels."""
        x, bits = self.x, self.y.bits
        count = x.pixels * x.channels
        return {
            f"prelu_a{x.bits}o{bits}": count, "prelu_c": count if self.clamped else 0,
            "prelu_loop": count / self.unroll if x.channels > self.unroll else 0, "prelu_pixel": x.pixels, "call": 1,
            # Codes of four bits are rarely negative.
            **{f"{key}_a{x.bits}": n for key, n in requantized(
                self.mode, self.quick, clamped=False, count=count, part="slope").items()},
        }  # fmt: skip

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        copies = copies_of(self.x.channels) if 4 in (self.x.bits, self.y.bits) else self.unroll
        return {
            **result_code(self.mode, self.quick, "", copies),
            "code_prelu": 1,
            f"code_prelu_a{self.x.bits}o{self.y.bits}": copies,
        }

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        slopes = (Parameter("slope", "int8", self.x.channels), multiplier_parameter(self.mode, 2))
        scalars = (Parameter("pad", "int32"), Parameter("slope_zero", "int32"), *SCALAR_RANGE)
        return build(name, (*planes, *slopes, *scalars), lambda b: _emit(self, b))


def _emit(spec: PreluSpec, b: Body) -> None:
    x, T, bits = spec.x, b.T, 0 if spec.clamped else spec.y.bits
    with b.loop(x.pixels) as p:

        def one(c: Any) -> None:
            value = b.bind(x.load(b, b["x"], p, c) - b["pad"])
            negative = b.bind(T.bitwise_and(T.shift_right(value, 31), 1))
            slope = T.Cast("int32", b["slope"][c]) - b["slope_zero"]
            acc = b.bind(value * T.if_then_else(negative > 0, slope, 1))
            spec.y.store(b, b["y"], p, c, requantize(b, spec.mode, acc, negative, bits, spec.quick))

        if 4 in (x.bits, spec.y.bits):
            each_channel(b, x.channels, one)
        else:
            with b.loop(x.channels // spec.unroll) as outer:
                for u in range(spec.unroll):
                    one(outer * spec.unroll + u)
