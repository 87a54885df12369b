"""Sums, differences and products of two tensors of which some have codes of 16 bits, or of one and a constant.

Sums are those of TFLite in every arithmetic. Products are requantized by the arithmetic's own factors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.arithmetic.wide import wide_add, wide_sum
from tapc.base.errors import UnsupportedError
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.binary import Operation
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.kernels.wide_binary import WideBinarySpec, WideOperation
from tapc.operators.common import as_words, check_ratios, clamp, factors
from tapc.operators.fixed import Fixed
from tapc.operators.wide import Wide, plain_product

_KINDS = {"add": "add16", "sub": "subtract16", "mul": "multiply16"}


@dataclass(frozen=True, eq=False)
class WideBinary(Op):
    """Sum, difference or product; extents of 1 are repeated to those of the other operand.

    Attributes
    ----------
    operation : {"add", "sub", "mul"}
    low, high : int
        Clamp bounds.
    fixed : Fixed or None
        The constant operand, where there is one.
    """

    operation: WideOperation
    low: int
    high: int
    fixed: Fixed | None = None

    def kind(self, spec: KernelSpec) -> str:
        return _KINDS[self.operation]

    def operands(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return both operands; a constant one has no name."""
        a, b = _with_fixed(self.fixed, [tensors[name] for name in self.inputs])
        return a, b

    def ratios(self, tensors: Mapping[str, Tensor], mode: Mode) -> Ratios:
        """Return the ratio of a product's scales, shape (1,)."""
        a, b = self.operands(tensors)
        return np.atleast_1d(arithmetic_of(mode).ratios((a.scale, b.scale), tensors[self.output].scale))

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        a, b = self.operands(tensors)
        if self.operation == "mul":
            check_ratios(self.ratios(tensors, mode), mode)
        else:
            wide_sum(a.quantization, b.quantization, tensors[self.output].quantization)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        (a, b), y = self.operands(program.tensors), program.tensors[self.output]
        codes = list(x)
        if self.fixed is not None:
            codes.insert(0 if self.fixed.first else 1, self.fixed.codes[None].astype(np.int64))
        if self.operation == "mul":
            m = arithmetic.multipliers(self.ratios(program.tensors, program.mode), program.mode)
            return arithmetic.requantize((codes[0] - a.zero) * (codes[1] - b.zero), m, y.zero, self.low, self.high)
        f = wide_sum(a.quantization, b.quantization, y.quantization)
        return wide_add(codes[0], codes[1], f, y.zero, self.low, self.high, minus=self.operation == "sub")

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        (a, b), y = self.operands(program.tensors), program.tensors[self.output]
        product, fixed = self.operation == "mul", self.fixed
        spec = WideBinarySpec(self.operation, a.plane, b.plane, y.plane, program.mode if product else "")
        constants: dict[str, Constant] = {}
        if product:
            scalars: dict[str, int] = {"a_zero": a.zero, "b_zero": b.zero}
            constants["s"] = factors(self.ratios(program.tensors, program.mode), program.mode)
        else:
            scalars = wide_sum(a.quantization, b.quantization, y.quantization).scalars()
        parts = ["x", "r"]
        if fixed is not None:
            words = Constant("m", -(-fixed.codes.size // 4), lambda: as_words(fixed.codes))
            constants[parts.pop(0 if fixed.first else 1)] = words
        tensors = dict(zip(parts, self.inputs, strict=True)) | {"y": self.output}
        near = {
            name: Overlap(0) for name in self.inputs
            if program.tensors[name].bits >= y.bits and program.tensors[name].shape == y.shape
        }  # fmt: skip
        distance = near if len(set(self.inputs)) == len(self.inputs) else {}
        return [Step(self, spec, tensors, constants, {**scalars, **clamp(y, self.low, self.high)}, distance)]


def _with_fixed(fixed: Fixed | None, own: Sequence[Tensor]) -> list[Tensor]:
    found = list(own)
    if fixed is not None:
        found.insert(0 if fixed.first else 1, fixed.tensor)
    return found


def wide_binary(name: str, operation: Operation, inputs: tuple[str, ...], x: Sequence[Tensor], y: Tensor, key: str,
                low: int, high: int, fixed: Fixed | None = None) -> Op:  # fmt: skip
    """Return an operator of two operands of which some have 16 bits.

    Raises
    ------
    UnsupportedError
        Least and greatest of two, 4-bit codes, or zero points other than 0 of 16 bits.
    """
    given = _with_fixed(fixed, x)
    if operation == "min" or operation == "max" or 4 in (y.bits, *(t.bits for t in given)):
        raise UnsupportedError(
            f"node {name!r}: of codes of 16 bits, beside 8, there are sums, differences and products, not {operation} "
            f"of {' and '.join(str(t.bits) for t in given)} bits as {y.bits}"
        )
    if operation == "mul":
        if any(t.bits == 16 and t.zero for t in given):
            raise UnsupportedError(f"node {name!r}: products are of 16-bit codes whose zero point is 0")
        if fixed is None and plain_product(given, y):
            return Wide(name, inputs, key, "product", low, high)
    return WideBinary(name, inputs, key, operation, low, high, fixed)


@samples("codes16", 0.7)
def _sample_add(s: Sampler) -> None:
    shape, bits = (1, s.pick(1, 3), s.pick(*range(2, 100))), s.pick(8, 16, 16)
    a = s.tensor(shape, bits)
    b = s.tensor(shape if shape[2] % 5 else (1, 1, shape[2]), s.pick(8, 16))
    y = s.tensor(shape, 16)
    s.add(WideBinary(s.name, (a.name, b.name), y.name, "sub" if shape[2] % 3 == 0 else "add", y.low, y.high))


@samples("wide", 1.0)
def _sample_product(s: Sampler) -> None:
    shape = (1, s.pick(1, 3), s.pick(*range(2, 100)))
    a = s.tensor(shape, s.pick(8, 16), zero=0)
    b = s.tensor(shape if shape[2] % 5 else (1, 1, shape[2]), 16 if a.bits == 8 else s.pick(8, 16), zero=0)
    y = s.tensor(shape, s.pick(8, 16), zero=0)
    s.add(WideBinary(s.name, (a.name, b.name), y.name, "mul", y.low, y.high))
