"""LeakyRelu of 16-bit codes, as kept networks have it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.kernels.wide_leaky import WideLeakySpec
from tapc.operators.common import check_ratios, clamp, factors


@dataclass(frozen=True, eq=False)
class WideLeaky(Op):
    """x where it is positive, else alpha times x.

    Attributes
    ----------
    ratios : ndarray, shape (2,)
        Of scales, for what is not negative and for what is.
    low, high : int
        Clamp bounds.
    """

    ratios: Ratios
    low: int
    high: int

    def kind(self, spec: KernelSpec) -> str:
        return "leaky16"

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratios, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y, centred = program.tensors[self.output], x[0] - program.tensors[self.inputs[0]].zero
        usual, negative = (
            arithmetic.requantize(centred, arithmetic.multipliers(own, program.mode), y.zero, self.low, self.high)
            for own in (self.ratios[:1], self.ratios[1:])
        )
        return np.where(centred < 0, negative, usual)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        spec = WideLeakySpec(x.plane, y.plane, program.mode)
        scalars = {**clamp(y, self.low, self.high), "start": x.zero}
        constants = {"s": factors(self.ratios, program.mode)}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars)]


def leaky_ratios(x: float, y: float, alpha: float) -> Ratios:
    """Return the ratios for scales of input and output, all float32; the division has 64 bits."""
    own, other, slope = (np.float64(np.float32(value)) for value in (x, y, alpha))
    return np.array([own / other, own * slope / other])


@samples("wide", 0.8)
def _sample(s: Sampler) -> None:
    shape = (1, 1, s.pick(*range(2, 300)))
    x, y = (s.tensor(shape, 16, zero=0) for _ in range(2))
    ratios = arithmetic_of(s.mode).ratios((s.ratios(2),), 1.0)
    s.add(WideLeaky(s.name, (x.name,), y.name, ratios, y.low, y.high))
