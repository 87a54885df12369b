"""Convolutions, dense layers and sums of which some codes have 16 bits.

Sums of layers are exact, in 32 bits where their weights prove that these suffice and in 64 where not. Factors of 15
bits make codes of them, as TFLite does it where biases have 64 bits; where they do not, the arithmetic's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.arithmetic.wide import long_multipliers, long_requantize, long_words
from tapc.base.errors import RangeError
from tapc.ir.overlap import Overlap, window_distance
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.packing import linear_words, pair_words, weights_per_word
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.kernels.wide_layers import Sums, WideConvSpec, WideDepthwiseSpec
from tapc.kernels.window import Window
from tapc.operators.common import check_ratios, clamp, factors, largest_code
from tapc.operators.products import accumulate, coarser

_LIMIT = 2**31


@dataclass(frozen=True, eq=False)
class WideLayer(Op):
    """A convolution or dense layer whose input or result has 16 bits.

    Attributes
    ----------
    weights : ndarray of int8, shape (outputs, kernel height, kernel width, inputs / groups)
    w_bits : {2, 4, 8}
    bias : ndarray of int32, shape (outputs,)
    ratios : ndarray, shape (outputs,)
        (x scale * weight scale) / result scale.
    stride : (int, int)
    pads : (int, int, int, int)
        Top, left, bottom, right.
    groups : int
    low, high : int
        Clamp bounds.
    dilation : (int, int)
    long : bool
        Factors have 15 bits.
    """

    weights: NDArray[np.int8]
    w_bits: int
    bias: NDArray[np.int32]
    ratios: Ratios
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int
    low: int
    high: int
    dilation: tuple[int, int] = (1, 1)
    long: bool = True

    @property
    def weight_bits(self) -> int:
        return self.w_bits

    def kind(self, spec: KernelSpec) -> str:
        if isinstance(spec, WideDepthwiseSpec):
            return "depthwise16"
        assert isinstance(spec, WideConvSpec)
        return "dense16" if spec.y.pixels == 1 else "conv16"

    def macs(self, program: Program) -> int:
        height, width, _ = program.tensors[self.output].shape
        return height * width * int(self.weights.size)

    def sums(self, x: Tensor) -> Sums:
        """Return how many bits sums take, and what makes codes of them."""
        if self.long:
            results = (self._most(x) + np.abs(self.bias.astype(np.int64))) * np.asarray(self.ratios, np.float64)
            if results.max() >= _LIMIT - 2**16:
                return "far"
            return "wide" if self._most(x).max() < _LIMIT else "long"
        return "short"

    def _most(self, x: Tensor) -> Ints:
        """Return how large the sums of products may be, shape (outputs,)."""
        magnitude: Ints = np.abs(self.weights.astype(np.int64)).reshape(len(self.weights), -1).sum(axis=1)
        return magnitude * largest_code(x)

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        x = tensors[self.inputs[0]]
        if self.long:
            long_multipliers(self.ratios)
        else:
            check_ratios(self.ratios, mode)
            if (self._most(x) + np.abs(self.bias.astype(np.int64))).max() >= _LIMIT:
                raise RangeError("its sums may take more than 32 bits, which biases of 32 bits do not allow")
        if self.depthwise(x) and self.sums(x) in ("long", "far"):
            raise RangeError("the sums or results of a depthwise filter may take more than 32 bits")

    def depthwise(self, x: Tensor) -> bool:
        """Whether each result reads one of several channels."""
        return self.groups > 1 and self.groups == x.shape[2]

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        source, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        acc = accumulate(self, x[0] - source.zero, self.weights, self.groups) + self.bias
        if self.long:
            return long_requantize(acc, long_multipliers(self.ratios), y.zero, self.low, self.high)
        m = arithmetic.multipliers(self.ratios, program.mode)
        return arithmetic.requantize(acc, m, y.zero, self.low, self.high)

    def with_bits(self, program: Program, weights: Mapping[str, int], changed: Callable[[Tensor], Tensor]) -> Self:
        return coarser(self, weights.get(self.name, self.w_bits))

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        _, height, width, _ = self.weights.shape
        window = Window(height, width, *self.stride, *self.pads[:2], *self.dilation)
        sums = self.sums(x)
        mode = program.mode if sums == "short" else ""
        spec: WideConvSpec | WideDepthwiseSpec
        if self.depthwise(x):
            spec = WideDepthwiseSpec(x.plane, y.plane, window, self.w_bits, sums, mode)
            flat = self.weights[..., 0].transpose(1, 2, 0)
            words = Constant("w", spec.words, lambda: linear_words(flat, self.w_bits, signed=True))
            distance = window_distance(x.plane, y.plane, window, 1, buffered=False)
        else:
            pairs = program.isa != "scalar"
            spec = WideConvSpec(x.plane, y.plane, window, self.w_bits, sums, mode, self.groups, pairs)
            words = Constant("w", spec.words, lambda: self._rows(pairs))
            distance = window_distance(x.plane, y.plane, window, 1, buffered=True)
        own = Constant("s", 2 * len(self.bias), lambda: long_words(long_multipliers(self.ratios)))
        constants = {
            "w": words,
            "bias": Constant("b", len(self.bias), lambda: self.bias),
            "s": own if self.long else factors(self.ratios, program.mode),
        }
        scalars = {**clamp(y, self.low, self.high), **({"start": x.zero} if spec.centred else {})}
        overlap = {self.inputs[0]: Overlap(distance)} if self.groups == 1 or self.depthwise(x) else {}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars, overlap)]

    def _rows(self, pairs: bool) -> NDArray[np.uint32]:
        rows = self.weights.reshape(len(self.weights), -1).astype(np.int64)
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % weights_per_word(self.w_bits))))
        if not pairs:
            return linear_words(rows, self.w_bits, signed=True)
        return pair_words(rows + (1 << (self.w_bits - 1) if self.w_bits < 8 else 0), self.w_bits).reshape(-1)


def _layer(
    s: Sampler, x: Tensor, y: Tensor, weights: tuple[int, ...], bits: int, stride: int, pad: int, groups: int
) -> None:
    half, outputs = 1 << (bits - 1), weights[0]
    codes = s.rng.integers(-half, half, weights).astype(np.int8)
    long = s.rng.random() < 0.5
    ratios = arithmetic_of(s.mode).ratios((s.ratios(outputs) / (16 if x.bits == 16 else 1),), 1.0)
    magnitude = np.abs(codes.astype(np.int64)).reshape(outputs, -1).sum(axis=1).max() * largest_code(x)
    s.add(WideLayer(s.name, (x.name,), y.name, codes, bits, np.zeros(outputs, np.int32), ratios, (stride, stride),
                    (pad,) * 4, groups, y.low, y.high, (1, 1), bool(long or magnitude >= _LIMIT)))  # fmt: skip


def _bits(s: Sampler) -> tuple[int, int]:
    x, y = ((16, 16), (16, 16), (8, 16), (16, 8))[s.pick(0, 1, 2, 3)]
    return x, y


@samples("codes16", 2.0)
def _sample_conv(s: Sampler) -> None:
    side, size, pad, stride = s.pick(1, 2, 4, 7), s.pick(1, 1, 3, 5), s.pick(0, 1), s.pick(1, 1, 2)
    depth, outputs, bits = s.pick(1, 3, 4, 8, 17, 32), s.pick(1, 3, 4, 8, 10, 16), s.pick(2, 4, 8, 8)
    if side + 2 * pad < size or (size == 1 and pad) or outputs * size * size * depth > s.largest:
        return
    extent, (x_bits, y_bits) = (side + 2 * pad - size) // stride + 1, _bits(s)
    x = s.tensor((side, side, depth), x_bits, **({"zero": 0} if x_bits == 16 else {}))
    _layer(s, x, s.tensor((extent, extent, outputs), y_bits), (outputs, size, size, depth), bits, stride, pad, 1)


@samples("codes16", 1.0)
def _sample_dense(s: Sampler) -> None:
    depth, outputs, bits = s.pick(7, 16, 64, 129, 600, 1200), s.pick(1, 3, 4, 8, 16, 30), s.pick(2, 4, 8, 8)
    if outputs * depth > s.largest:
        return
    x_bits, y_bits = _bits(s)
    x = s.tensor((1, 1, depth), x_bits, **({"zero": 0} if x_bits == 16 else {}))
    _layer(s, x, s.tensor((1, 1, outputs), y_bits), (outputs, 1, 1, depth), bits, 1, 0, 1)


@samples("codes16", 1.5)
def _sample_depthwise(s: Sampler) -> None:
    side, size, pad, stride = s.pick(2, 4, 7), s.pick(1, 3, 3, 5), s.pick(0, 1), s.pick(1, 1, 2)
    channels, multiple, bits = s.pick(2, 3, 8, 16), s.pick(1, 1, 2), s.pick(2, 4, 8, 8)
    if side + 2 * pad < size or (size == 1 and pad):
        return
    extent, (x_bits, y_bits), outputs = (side + 2 * pad - size) // stride + 1, _bits(s), channels * multiple
    x = s.tensor((side, side, channels), x_bits, **({"zero": 0} if x_bits == 16 else {}))
    _layer(s, x, s.tensor((extent, extent, outputs), y_bits), (outputs, size, size, 1), bits, stride, pad, channels)
