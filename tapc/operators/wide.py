"""Operators of 16-bit codes, as kept networks have them within integer LSTMs and SVDFs of TFLite.

Sums have the scale of their operands. Sigmoid and tanh (`tapc.base.arithmetic.gates`) are of codes of any scale, and
give codes of 2^-15. Zero points of their 16-bit codes are 0. Changes of scale and
softmax have any zero points.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.arithmetic.gates import INPUT_BITS, OUTPUT_BITS, PLAIN, gate_scalars, gate_words, sigmoid16, tanh16
from tapc.base.errors import UnsupportedError
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.packing import pair_words, weights_per_word
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.kernels.wide import WideDenseSpec, WideFilterSpec, WideSpec, Work
from tapc.operators.common import LARGEST, check_ratios, clamp, factors, quick
from tapc.operators.products import coarser

_TABLE = Constant("t", 256, gate_words)
_LEAST, _MOST = 2.0**-20, 2.0**-4
"""Scales of what gates are taken of."""


@dataclass(frozen=True, eq=False)
class Wide(Op):
    """A sum or product of two tensors, or a gate or a change of scale of one.

    Attributes
    ----------
    work : {"sum", "product", "scale", "sigmoid", "tanh"}
    low, high : int
        Clamp bounds.
    """

    work: Work
    low: int
    high: int

    def kind(self, spec: KernelSpec) -> str:
        return {"sum": "add16", "product": "multiply16", "scale": "requantize16"}.get(self.work, f"{self.work}16")

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        if self.work in ("product", "scale"):
            check_ratios(self.ratio(tensors, mode), mode)

    def ratio(self, tensors: Mapping[str, Tensor], mode: Mode) -> Ratios:
        """Return the ratio of a product's or a change's scales, shape (1,)."""
        scales = tuple(tensors[name].scale for name in self.inputs)
        return np.atleast_1d(arithmetic_of(mode).ratios(scales, tensors[self.output].scale))

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y = program.tensors[self.output]
        if self.work == "sum":
            total: Ints = np.clip(x[0] + x[1], self.low, self.high)
            return total
        if self.work == "product":
            m = arithmetic.multipliers(self.ratio(program.tensors, program.mode), program.mode)
            return arithmetic.requantize(x[0] * x[1], m, y.zero, self.low, self.high)
        if self.work == "scale":
            m = arithmetic.multipliers(self.ratio(program.tensors, program.mode), program.mode)
            centred = x[0] - program.tensors[self.inputs[0]].zero
            return arithmetic.requantize(centred, m, y.zero, self.low, self.high)
        scalars = gate_scalars(program.tensors[self.inputs[0]].scale)
        return sigmoid16(x[0], scalars) if self.work == "sigmoid" else tanh16(x[0], scalars=scalars)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        gate = self.work in ("sigmoid", "tanh")
        ends, scales = (self.low, self.high), self.work in ("product", "scale")
        mode = program.mode if scales else ""
        spec = WideSpec(self.work, x.plane, y.plane, mode, gate_scalars(x.scale) if gate else PLAIN)
        constants = {"table": _TABLE} if gate else {}
        if scales:
            constants["s"] = factors(self.ratio(program.tensors, program.mode), program.mode)
        tensors = dict(zip(("x", "r"), self.inputs, strict=False)) | {"y": self.output}
        scalars = {} if gate else clamp(y, *ends)
        if self.work == "scale":
            scalars["start"] = x.zero
            return [Step(self, spec, tensors, constants, scalars)]
        distance = {self.inputs[0]: Overlap(0)} if len(set(self.inputs)) == len(self.inputs) else {}
        return [Step(self, spec, tensors, constants, scalars, distance)]


@dataclass(frozen=True, eq=False)
class WideDense(Op):
    """A dense layer whose results have 16 bits.

    Attributes
    ----------
    weights : ndarray of int8, shape (outputs, inputs)
    w_bits : {2, 4, 8}
    bias : ndarray of int32, shape (outputs,)
        Without the input's zero point.
    ratios : ndarray, shape (outputs,)
    low, high : int
        Clamp bounds.
    """

    weights: NDArray[np.int8]
    w_bits: int
    bias: NDArray[np.int32]
    ratios: Ratios
    low: int
    high: int

    @property
    def weight_bits(self) -> int:
        return self.w_bits

    def kind(self, spec: KernelSpec) -> str:
        return "dense16"

    def macs(self, program: Program) -> int:
        return int(self.weights.size)

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratios, mode)

    def with_bits(self, program: Program, weights: Mapping[str, int], changed: Callable[[Tensor], Tensor]) -> Self:
        return coarser(self, weights.get(self.name, self.w_bits))

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        source, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        codes = (x[0].reshape(len(x[0]), -1) - source.zero).astype(np.float64)
        acc = np.rint(codes @ self.weights.T.astype(np.float64)).astype(np.int64) + self.bias
        m = arithmetic.multipliers(self.ratios, program.mode)
        return arithmetic.requantize(acc, m, y.zero, self.low, self.high).reshape(len(acc), *y.shape)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        sums = self.weights.astype(np.int64).sum(axis=1)
        largest = np.abs(self.weights.astype(np.int64)).sum(axis=1) * LARGEST + np.abs(self.bias.astype(np.int64))
        flat = x.plane if x.shape[:2] == (1, 1) else Tensor(x.name, (1, 1, int(np.prod(x.shape))), 8, 1.0, 0).plane
        spec = WideDenseSpec(flat, y.plane, self.w_bits, program.mode, quick(program, self.ratios, largest))

        def packed() -> NDArray[np.uint32]:
            wide = self.weights.astype(np.int64)
            wide = np.pad(wide, ((0, 0), (0, -wide.shape[1] % weights_per_word(self.w_bits))))
            return pair_words(wide + (1 << (self.w_bits - 1)), self.w_bits).reshape(-1)

        constants = {
            "w": Constant("w", len(self.bias) * spec.row_words, packed),
            "bias": Constant("b", len(self.bias), lambda: (self.bias - x.zero * sums).astype(np.int32)),
            "s": factors(self.ratios, program.mode),
        }
        tensors = {"x": self.inputs[0], "y": self.output}
        return [Step(self, spec, tensors, constants, clamp(y, self.low, self.high))]


@dataclass(frozen=True, eq=False)
class WideFilter(Op):
    """A filter over 16-bit codes of some steps for each unit, of one or more channels; sums end as int32 does.

    Attributes
    ----------
    weights : ndarray of int16, shape (units, channels of one, steps)
    bias : ndarray of int32, shape (units,)
        Without the input's zero point.
    ratios : ndarray, shape (units,)
    low, high : int
        Clamp bounds.
    """

    weights: NDArray[np.int16]
    bias: NDArray[np.int32]
    ratios: Ratios
    low: int
    high: int

    @property
    def weight_bits(self) -> int:
        return 16

    def kind(self, spec: KernelSpec) -> str:
        return "filter16"

    def macs(self, program: Program) -> int:
        return int(self.weights.size)

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratios, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        source, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        units, rank, steps = self.weights.shape
        codes = (x[0] - source.zero).reshape(len(x[0]), steps, units, rank)
        acc = np.einsum("nsur,urs->nu", codes, self.weights.astype(np.int64)) + self.bias
        acc = (acc + 2**31) % 2**32 - 2**31
        m = arithmetic.multipliers(self.ratios, program.mode)
        return arithmetic.requantize(acc, m, y.zero, self.low, self.high).reshape(len(acc), *y.shape)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        spec = WideFilterSpec(x.plane, y.plane, self.weights.shape[1], program.mode)
        sums = self.weights.astype(np.int64).sum(axis=(1, 2))

        def packed() -> NDArray[np.uint32]:
            flat = self.weights.transpose(2, 0, 1).reshape(-1)
            return np.pad(flat, (0, flat.size % 2)).view(np.uint32)

        def bias() -> NDArray[np.int32]:
            total: NDArray[np.int64] = self.bias - x.zero * sums
            return total.astype(np.uint32).view(np.int32)

        constants = {
            "w": Constant("w", -(-self.weights.size // 2), packed),
            "bias": Constant("b", len(self.bias), bias),
            "s": factors(self.ratios, program.mode),
        }
        tensors = {"x": self.inputs[0], "y": self.output}
        return [Step(self, spec, tensors, constants, clamp(y, self.low, self.high))]


def wide_filter(name: str, source: str, x: Tensor, y: Tensor, key: str, weights: Ints, bias: Ints, ratios: Ratios,
                groups: int, pads: tuple[int, ...], low: int, high: int) -> Op:  # fmt: skip
    """Return a convolution of 16-bit codes by 16-bit weights.

    Raises
    ------
    UnsupportedError
        Other than a filter over all steps for each unit.
    """
    units, height, width, rank = weights.shape
    whole = (height, width, rank * units) == x.shape and groups == units and not any(pads)
    if x.bits != 16 or y.bits != 8 or not whole:
        raise UnsupportedError(
            f"node {name!r}: of 16-bit codes only filters over all steps, with results of 8 bits, have a kernel"
        )
    codes = weights.reshape(units, height * width, rank).transpose(0, 2, 1).astype(np.int16)
    return WideFilter(name, (source,), key, codes, bias.astype(np.int32), ratios, low, high)


def plain_product(x: Sequence[Tensor], y: Tensor) -> bool:
    """Whether a product is one of `Wide`."""
    return all(t.bits == 16 and t.zero == 0 and t.shape == y.shape for t in x) and not (y.bits == 16 and y.zero)


def wide(name: str, work: Work, inputs: tuple[str, ...], x: tuple[Tensor, ...], y: Tensor, key: str,
         low: int, high: int) -> Op | None:  # fmt: skip
    """Return an operator of 16-bit codes; None where all have 8 bits or fewer.

    Raises
    ------
    UnsupportedError
        Of other scales or widths than there are kernels for.
    """
    if y.bits != 16 and all(t.bits != 16 for t in x):
        return None
    one = 2.0**-OUTPUT_BITS
    fits = all(t.bits == 16 and t.zero == 0 and t.shape == y.shape for t in x)
    if work == "sum":
        fits = fits and y.bits == 16 and all(t.quantization == y.quantization for t in x)
    elif work == "product":
        fits = fits and (y.bits == 8 or (y.bits == 16 and y.zero == 0))
    else:
        fits = fits and y.bits == 16 and y.quantization == (one, 0) and _LEAST < x[0].scale < _MOST
    if not fits:
        found = ", ".join(f"{'x'.join(map(str, t.shape))} of {t.bits} bits, scale {t.scale:.3g}" for t in (*x, y))
        raise UnsupportedError(f"node {name!r}: no kernel for 16-bit codes of these shapes and scales: {found}")
    return Wide(name, inputs, key, work, low, high)


@samples("wide", 2.0)
def _sample(s: Sampler) -> None:
    work: Work = ("sum", "product", "product", "sigmoid", "tanh")[s.pick(0, 1, 2, 3, 4)]
    shape = (1, 1, s.pick(*range(8, 300)))
    one = {"scale": 2.0**-INPUT_BITS, "zero": 0}
    inputs = [s.tensor(shape, 16, **one) for _ in range(2 if work in ("sum", "product") else 1)]
    y = s.tensor(shape, s.pick(8, 16) if work == "product" else 16, scale=2.0**-OUTPUT_BITS, zero=0)
    s.add(Wide(s.name, tuple(t.name for t in inputs), y.name, work, y.low, y.high))


@samples("wide", 0.5)
def _sample_scale(s: Sampler) -> None:
    shape, bits = (1, 1, s.pick(*range(2, 300))), s.pick(8, 16, 16)
    x, y = s.tensor(shape, bits), s.tensor(shape, s.pick(16, 32) if bits == 8 else s.pick(8, 16, 32))
    s.add(Wide(s.name, (x.name,), y.name, "scale", y.low, y.high))


@samples("wide", 2.2)
def _sample_filter(s: Sampler) -> None:
    units, rank, steps = s.pick(1, 3, 8, 8, 16, 20, 20, 64), s.pick(1, 1, 2), s.pick(2, 8, 8, 10, 10, 32)
    x, y = s.tensor((steps, 1, units * rank), 16, zero=0), s.tensor((1, 1, units), 8)
    weights = s.rng.integers(-(2**15), 2**15, (units, rank, steps)).astype(np.int16)
    ratios = arithmetic_of(s.mode).ratios((s.ratios(units),), 1.0)
    s.add(WideFilter(s.name, (x.name,), y.name, weights, np.zeros(units, np.int32), ratios, y.low, y.high))


@samples("wide", 1.2)
def _sample_dense(s: Sampler) -> None:
    outputs, depth, bits = s.pick(1, 3, 8, 20, 64), s.pick(1, 7, 16, 40, 129), s.pick(2, 4, 8)
    half = 1 << (bits - 1)
    x, y = s.tensor((1, 1, depth), 8), s.tensor((1, 1, outputs), 16, scale=2.0**-INPUT_BITS, zero=0)
    weights = s.rng.integers(-half, half, (outputs, depth)).astype(np.int8)
    ratios = arithmetic_of(s.mode).ratios((s.ratios(outputs),), 1.0)
    s.add(WideDense(s.name, (x.name,), y.name, weights, bits, np.zeros(outputs, np.int32), ratios, y.low, y.high))


def wide_gate(name: str, function: str, source: str, x: Tensor, y: Tensor, key: str) -> Op | None:
    """Return a gate of 16-bit codes by its function's name; None for others, or for codes that gates do not take."""
    alike = x.bits == y.bits == 16 and x.zero == 0 and y.quantization == (2.0**-OUTPUT_BITS, 0)
    if function not in ("sigmoid", "tanh") or not alike or not _LEAST < x.scale < _MOST:
        return None
    return wide(name, "sigmoid" if function == "sigmoid" else "tanh", (source,), (x,), y, key, y.low, y.high)
