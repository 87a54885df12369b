"""Any function of one code, where the code or the result has 16 bits: a table of lines."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tapc.base.arithmetic import Ints, Values
from tapc.base.arithmetic.tables16 import SIDE, Form, Table16, table16
from tapc.base.errors import UnsupportedError
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.kernels.wide_table import WideTableSpec
from tapc.operators.common import Scalars


@dataclass(frozen=True, eq=False)
class WideTable(Op):
    """A function of one code.

    Attributes
    ----------
    table : Table16
    low, high : int
        Clamp bounds.
    """

    table: Table16
    low: int
    high: int

    def kind(self, spec: KernelSpec) -> str:
        return "lookup16"

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        return self.table(x[0], self.low, self.high)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        entries = self.table.entries
        spec = WideTableSpec(x.plane, y.plane, self.table.form, len(entries))
        words = Constant("t", -(-len(entries) // 2), lambda: np.pad(entries, (0, len(entries) % 2)).view(np.uint32))
        tensors = {"x": self.inputs[0], "y": self.output}
        ends: Scalars = {"low": self.low, "high": self.high}
        overlap = {self.inputs[0]: Overlap(0)} if x.bits >= y.bits else {}
        return [Step(self, spec, tensors, {"table": words}, ends, overlap)]


def wide_table(name: str, function: Values, source: str, x: Tensor, y: Tensor, key: str, low: int, high: int) -> Op:
    """Return a function of codes of which some have 16 bits.

    Raises
    ------
    UnsupportedError
        16-bit codes with a zero point, or codes of other than 8 and 16 bits.
    """
    if {x.bits, y.bits} - {8, 16} or (x.bits == 16 and x.zero):
        raise UnsupportedError(
            f"node {name!r}: functions are of 16-bit codes whose zero point is 0, or of 8-bit codes; "
            f"here {x.bits} bits (zero point {x.zero}) to {y.bits}"
        )
    table = table16(function, x.quantization, y.quantization, x.bits, y.bits, low, high)
    return WideTable(name, (source,), key, table, low, high)


@samples("wide", 0.9)
def _sample(s: Sampler) -> None:
    form: Form = ("each", "lines", "lines", "octaves", "octaves")[s.pick(0, 1, 2, 3, 4)]
    shape = (1, 1, s.pick(*range(8, 300)))
    x = s.tensor(shape, 8 if form == "each" else 16, zero=0)
    y = s.tensor(shape, 16 if form == "each" else s.pick(8, 16))
    count = {"each": 256, "lines": 513, "octaves": s.pick(SIDE + 1, 2 * SIDE)}[form]
    entries = np.sort(s.rng.integers(-(2**15), 2**15, count)).astype(np.int16)
    s.add(WideTable(s.name, (x.name,), y.name, Table16(form, entries, y.bits), y.low, y.high))
