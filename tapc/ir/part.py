"""One of several results that lie in one tensor of bytes, behind each other."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tapc.base.arithmetic import Ints
from tapc.ir.program import Op, Program, Step
from tapc.kernels.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Part(Op):
    """Bytes of its input where they lie, as codes of its output: what an NPU's part gives, or a loop of LSTM steps.

    Attributes
    ----------
    first : int
        The first of them, a multiple of 4.
    """

    first: int

    @property
    def in_place(self) -> bool:
        """No kernel runs."""
        return True

    @property
    def begin(self) -> int:
        """Where it begins in its input."""
        return self.first

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        """Return some bytes of the input; two of them are a code of 16 bits."""
        y = program.tensors[self.output]
        codes = x[0].reshape(len(x[0]), -1)[:, self.first : self.first + y.bytes]
        if y.bits == 16:
            codes = np.ascontiguousarray(codes.astype(np.int8)).view("<i2").astype(np.int64)
        return codes.reshape(len(codes), *y.shape)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        """Nothing is copied."""
        return []
