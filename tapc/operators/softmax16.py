"""Softmax of 16-bit codes, as kept networks have it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tapc.base.arithmetic import Ints
from tapc.base.arithmetic.softmax16 import STEPS, softmax16, softmax_factor, softmax_words
from tapc.base.errors import UnsupportedError
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.schedule import Schedule
from tapc.kernels.softmax16 import WideSoftmaxSpec
from tapc.kernels.spec import KernelSpec

_TABLES = Constant("t", STEPS + 2, softmax_words)


@dataclass(frozen=True, eq=False)
class WideSoftmax(Op):
    """Softmax over channels of 16-bit codes; results are of 2^-15."""

    def kind(self, spec: KernelSpec) -> str:
        return "softmax16"

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        return softmax16(x[0], program.tensors[self.inputs[0]].scale)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        factor, right = softmax_factor(x.scale)
        scalars: dict[str, int | float] = {"factor": factor, "shift": right - 32}
        tensors = {"x": self.inputs[0], "y": self.output}
        spec, near = WideSoftmaxSpec(x.plane, y.plane), {self.inputs[0]: Overlap(0)}
        return [Step(self, spec, tensors, {"table": _TABLES}, scalars, near)]


def wide_softmax(name: str, source: str, x: Tensor, y: Tensor, key: str) -> Op:
    """Return a softmax of 16-bit codes.

    Raises
    ------
    UnsupportedError
        Of other scales or widths than there is a kernel for.
    """
    if (x.bits, y.bits, y.quantization, x.zero) != (16, 16, (2.0**-15, 0), 0) or x.scale > 1:
        raise UnsupportedError(f"node {name!r}: a Softmax of 16-bit codes has results of 16 bits and scale 1/32768")
    return WideSoftmax(name, (source,), key)


@samples("softmax16", 1.0)
def _sample(s: Sampler) -> None:
    shape = (1, s.pick(1, 1, 3), s.pick(*range(2, 120)))
    x = s.tensor(shape, 16, scale=float(s.rng.uniform(1e-4, 1e-3)), zero=0)
    s.add(WideSoftmax(s.name, (x.name,), s.tensor(shape, 16, scale=2.0**-15, zero=0).name))
