"""Depthwise convolution: every output channel reads one input channel."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.interface import Quick
from tapc.base.isa import Isa
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.forms import form_of
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantized, result_code
from tapc.kernels.packing import weights_per_word
from tapc.kernels.spec import Features, KernelSpec
from tapc.kernels.window import Window


class DepthwiseForm(Protocol):
    """What an instruction set's form of a depthwise convolution offers."""

    @property
    def in_place(self) -> bool:
        """Whether the output may replace an input with the same bytes a pixel."""

    @property
    def run_bits(self) -> int | None:
        """Bits that the sums of `DepthwiseSpec.run` taps must be proved to fit; None: they hold any."""

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory."""

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Lay weights out in reading order."""

    def instruction_features(self) -> Features:
        """Count how often each part of the kernel runs."""

    def code_features(self) -> Features:
        """Return the parts of the machine code."""

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""


@dataclass(frozen=True)
class DepthwiseSpec(KernelSpec):
    """A depthwise kernel instance; attributes as in `ConvSpec`, but for `run`, which counts taps."""

    x: Plane
    y: Plane
    window: Window
    w_bits: int
    mode: Mode
    isa: Isa = "dsp"
    clamped: bool = True
    quick: Quick = ""
    run: int = 1
    shift: int = 0
    """Power of two that the sums are multiplied by, with an instruction for each weight of a channel."""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"depthwise_w{self.w_bits}a{self.x.bits}o{self.y.bits}"

    def result_features(self, count: float, *, lanes: bool = False) -> Features:
        """Count what becomes of so many accumulators, one by one or in vectors."""
        own = {f"codes_o{self.y.bits}": count, "codes_c": count if self.clamped else 0}
        return own | requantized(self.mode, self.quick, clamped=self.clamped, count=count, lanes=lanes)

    def result_code(self, count: int) -> Features:
        """Count what becomes of so many accumulators in the machine code."""
        return result_code(self.mode, self.quick, "", count)

    @property
    def taps(self) -> int:
        """Weights per channel."""
        return self.window.taps

    @property
    def multiplier(self) -> int:
        """Output channels per input channel."""
        return self.y.channels // self.x.channels

    @cached_property
    def form(self) -> DepthwiseForm:
        """How the instruction set computes it."""
        form: DepthwiseForm = form_of("depthwise", self.isa)(self)
        return form

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory."""
        return self.form.scratch_bytes

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        return self.form.weight_words

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Pack weights of shape (channels, kernel height, kernel width, 1)."""
        return self.form.pack(weights)

    def instruction_features(self) -> Features:
        """Count how often each part runs."""
        return self.form.instruction_features()

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return self.form.code_features()

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        parameters = (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("plane", "int32", self.scratch_bytes // 4, constant=False),
            Parameter("w", "int32", self.weight_words),
            Parameter("bias", "int32", self.y.channels),
            multiplier_parameter(self.mode, self.y.channels, self.quick),
            Parameter("pad", "int32"),
            *SCALAR_RANGE,
        )
        return build(name, parameters, self.form.emit)


def unpacked_weight(spec: DepthwiseSpec, b: Body, index: Any) -> Any:
    """Return a weight of the linear packing as an expression."""
    bits, per_word = spec.w_bits, weights_per_word(spec.w_bits)
    T = b.T
    if bits == 8:
        return b.call("t_load8", b.call("t_at", b.address(b["w"], 0), index, dtype="handle"))
    word = b["w"][T.truncdiv(index, per_word)]
    shift = T.truncmod(index, per_word) * bits
    return T.bitwise_and(T.shift_right(word, shift), (1 << bits) - 1) - (1 << (bits - 1))
