"""Convolution and dense layers: what a kernel instance is. Each instruction set computes it in its own form."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.interface import Quick
from tapc.base.isa import Isa
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.forms import form_of
from tapc.kernels.layout import (
    SCALAR_RANGE,
    Plane,
    SumForm,
    add_codes,
    add_parameters,
    multiplier_parameter,
    requantized,
    result_code,
    sum_key,
    summed,
)
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import Features, KernelSpec
from tapc.kernels.window import Window


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of weight words whose sums a form holds in fewer bits than an accumulator has.

    Attributes
    ----------
    bits : int
        What the sum of every run must fit, for every input.
    words : int
        Weight words of an output channel; the length of a run divides them.
    order : ndarray of int64
        Tap at each place of the packed weights, -1 for none.
    spare : int or None
        Where 2^spare times every accumulator fits 32 bits no run has to end; None: runs are wanted all the same.
    """

    bits: int
    words: int
    order: NDArray[np.int64]
    spare: int | None


class ConvForm(Protocol):
    """What an instruction set's form of a convolution offers."""

    @property
    def schedule(self) -> Schedule:
        """Loop structure."""

    def candidates(self) -> tuple[Schedule, ...]:
        """Return schedules that tuning may try."""

    def nested(self, taps: int, *, single: bool) -> Schedule | None:
        """Return the schedule in which two weights share a half-word; None where there is none.

        Parameters
        ----------
        taps : int
            Taps that a loop's body spells out, at most.
        single : bool
            Words are loaded between products, not before them.
        """

    @property
    def passes(self) -> int:
        """How often a call reads all weights."""

    @property
    def together(self) -> int:
        """Output pixels that are written together."""

    @property
    def buffered(self) -> bool:
        """Whether a tile's input is copied before its first result is stored."""

    @property
    def shift(self) -> int:
        """Power of two that the accumulators are multiplied by."""

    @property
    def stored_bits(self) -> int:
        """Bits to store each weight with: more than it has where unpacking costs more than it saves."""

    @property
    def runs(self) -> Runs | None:
        """What `ConvSpec.run` must be proved to keep to; None where it is 0 for all weights."""

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

    def lacking(self, weights: NDArray[np.int8]) -> NDArray[np.int64]:
        """Return what the bias of each output channel has to make up for, before it is shifted."""

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""


@dataclass(frozen=True)
class Whole:
    """Base of the forms whose products are those of the weights and the codes as they are."""

    spec: "ConvSpec"

    def nested(self, taps: int, *, single: bool) -> Schedule | None:
        """Return no schedule."""
        return None

    def lacking(self, weights: NDArray[np.int8]) -> NDArray[np.int64]:
        """Return what the sums lack: nothing."""
        return np.zeros(len(weights), np.int64)


@dataclass(frozen=True)
class Direct(Whole):
    """Base of the forms that compute a tile of pixels after the other."""

    @property
    def schedule(self) -> Schedule:
        """Loop structure."""
        raise NotImplementedError

    @property
    def passes(self) -> int:
        """All weights are read for every tile of output pixels."""
        return -(-self.spec.pixels // self.schedule.pixels)

    @property
    def together(self) -> int:
        """A tile's pixels."""
        return self.schedule.pixels


@dataclass(frozen=True)
class ConvSpec(KernelSpec):
    """A convolution kernel instance; everything that changes the generated code and nothing else.

    Attributes
    ----------
    x, y : Plane
        Input and output.
    window : Window
    groups : int
    w_bits : {2, 4, 8}
    mode : Mode
    isa : {"dsp", "mve", "scalar"}
    residual_bits : {0, 4, 8}
        Bits of a tensor of y's shape that is added after requantization; 0 for none.
    residual_first : bool
        The residual is the addition's first operand (the float form rounds twice, so the order matters).
    sum_form : SumForm
    sum_clamped : bool
        The sum is clamped more narrowly than y's codes.
    clamped : bool
        The convolution's result is clamped to other codes than all that y has.
    run : int
        Weight words, a divisor of an output channel's whole ones. dsp: after so many, sums at the top of the
        accumulators are shifted back; 0 where they never overflow. scalar: the products of so many with two pixels
        at once stay within 16 bits each; 0 where there are none.
    tuned : Schedule or None
        A schedule in place of the default.
    lines : int
        Lines of y that a call computes and writes, from pixel `first` on (from line `first`: a transform); 0 for all.
    quick : Quick
        How its sums are requantized; see `Arithmetic.quick`.
    pool : (int, int)
        Rows and columns of neighbouring results of which the greatest alone is stored; they divide a transform's tile
        and y's sides.
    """

    x: Plane
    y: Plane
    window: Window
    groups: int
    w_bits: int
    mode: Mode
    isa: Isa = "dsp"
    residual_bits: int = 0
    residual_first: bool = False
    sum_form: SumForm = "float"
    sum_clamped: bool = True
    clamped: bool = True
    run: int = 0
    tuned: Schedule | None = None
    lines: int = 0
    quick: Quick = ""
    pool: tuple[int, int] = (1, 1)

    def with_schedule(self, schedule: Schedule) -> "ConvSpec":
        """Return the same with a schedule in place of the default."""
        return replace(self, tuned=schedule)

    @property
    def transformed(self) -> bool:
        """Whether it is computed by a transform."""
        return self.tuned is not None and self.tuned.algorithm != "direct"

    @property
    def nested(self) -> bool:
        """Whether two weights share a half-word."""
        return self.tuned is not None and self.tuned.nested

    @property
    def pixels(self) -> int:
        """Output pixels of a call."""
        return self.lines * self.y.width or self.y.pixels

    @property
    def pooled(self) -> bool:
        """Whether a max-pooling is part of it."""
        return self.pool != (1, 1)

    @property
    def stored(self) -> Plane:
        """What is stored of y."""
        return replace(self.y, height=self.y.height // self.pool[0], width=self.y.width // self.pool[1])

    @property
    def passes(self) -> int:
        """How often all weights are read."""
        return self.form.passes

    def output_pixel(self, b: Body, pixel: Any) -> Any:
        """Return where in y the call's pixel lies."""
        return pixel + b["first"] if self.lines else pixel

    def store_tile(self, b: Body, pixel: Any, step: Any) -> None:
        """Store which pixels of the call a tile computes: a last one that is not full repeats the last pixel."""
        tile = self.form.schedule.pixels
        for j in range(tile):
            index = step * tile + j
            b.store(pixel, j, b.T.min(index, self.pixels - 1) if self.pixels % tile and j else index)

    @property
    def residual_key(self) -> str:
        """What features of the cost model are called that a residual changes."""
        return f"r{self.residual_bits}{sum_key(self.sum_form)}" if self.residual_bits else ""

    def result_features(self, count: float, *, lanes: bool = False) -> Features:
        """Count what becomes of so many accumulators, one by one or in vectors."""
        bits, vector = self.y.bits, "4" if lanes else ""
        parts: Features = {f"code{vector}_o{bits}": count, f"code{vector}_c": count if self.clamped else 0}
        parts |= requantized(self.mode, self.quick, clamped=self.clamped, count=count, lanes=lanes)
        if self.residual_bits:
            parts |= {
                f"residual{vector}_{self.residual_key}": count,
                f"residual{vector}_{sum_key(self.sum_form)}c": count if self.sum_clamped else 0,
                **summed(self.sum_form, count, lanes=lanes),
            }
        return parts

    def result_code(self, count: int) -> Features:
        """Count what becomes of so many accumulators in the machine code."""
        parts = result_code(self.mode, self.quick, self.sum_form if self.residual_bits else "", count)
        parts |= {f"code_result_o{self.y.bits}": count, "code_result_c": count if self.clamped else 0}
        if self.residual_bits:
            parts[f"code_residual_{self.residual_key}"] = count
            parts[f"code_residual_{sum_key(self.sum_form)}c"] = count if self.sum_clamped else 0
        return parts

    @property
    def kind(self) -> str:
        """Short name of the code shape, used in symbol names and the cost model."""
        shape = "dense" if self.y.pixels == 1 else "conv"
        if self.transformed and self.tuned is not None:
            shape = f"conv{self.tuned.algorithm}"
        behind = "_add" if self.residual_bits else "_maxpool" if self.pooled else ""
        return f"{shape}_w{self.w_bits}a{self.x.bits}o{self.y.bits}{behind}"

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.y.channels // self.groups

    @property
    def depth(self) -> int:
        """Input channels that one output channel reads."""
        return self.x.channels // self.groups

    @property
    def taps(self) -> int:
        """Weights of one output channel."""
        return self.window.taps * self.depth

    @cached_property
    def form(self) -> ConvForm:
        """How the instruction set computes it."""
        form: ConvForm = form_of("winograd" if self.transformed else "conv", self.isa)(self)
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
        """Lay weights out in reading order.

        Parameters
        ----------
        weights : ndarray of int8, shape (outputs, kernel height, kernel width, inputs / groups)
        """
        return self.form.pack(weights)

    def instruction_features(self) -> Features:
        """Count how often each part runs."""
        return self.form.instruction_features()

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return self.form.code_features()

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        y = self.y.parameter("y")
        parameters: tuple[Parameter, ...] = (
            self.x.parameter("x"),
            Parameter("y", y.dtype, self.pixels // math.prod(self.pool) * self.y.row, constant=False),
            Parameter("col", "int32", self.scratch_bytes // 4, constant=False),
            Parameter("w", "int32", self.weight_words),
            Parameter("bias", "int32", self.y.channels),
            multiplier_parameter(self.mode, self.y.channels, self.quick),
            Parameter("pad", "int32"),
            *SCALAR_RANGE,
        )
        if self.residual_bits:
            residual = Plane(self.y.height, self.y.width, self.y.channels, self.residual_bits)
            parameters += (residual.parameter("r"), *add_parameters(self.sum_form))
        if self.lines:
            parameters += (Parameter("first", "int32"),)
        return build(name, parameters, self.form.emit)


def add_residual(spec: ConvSpec, b: Body, code: Any, index: int, pixel: Any, channel: Any) -> None:
    """Add the residual's code at a pixel and channel to `code[index]`."""
    residual = Plane(spec.y.height, spec.y.width, spec.y.channels, spec.residual_bits)
    other = residual.load(b, b["r"], pixel, channel)
    operands = (other, code[index]) if spec.residual_first else (code[index], other)
    bits = 0 if spec.sum_clamped else spec.y.bits
    b.store(code, index, add_codes(b, spec.sum_form, *operands, bits))
