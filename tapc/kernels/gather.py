"""A copy of some elements in another order: nested loops with strides, or tables where there are none."""

from dataclasses import dataclass
from math import log2
from typing import Any

from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.copies import copy_run, of_words, run_code, run_features
from tapc.kernels.layout import Plane
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec

_UNROLL = 4


@dataclass(frozen=True)
class GatherSpec(KernelSpec):
    """y's elements, in the order in which they are stored, from x's.

    Attributes
    ----------
    x, y : Plane
        Of the same bits.
    first : int
        Where the loops begin in x, in elements.
    loops : tuple of (int, int or None)
        Extent and stride of each loop, outermost first; None: the loop has a table of offsets, one after the other.
    """

    x: Plane
    y: Plane
    first: int
    loops: tuple[tuple[int, int | None], ...]

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"gather_a{self.x.bits}" + ("_table" if self.table_words else "")

    @property
    def table_words(self) -> int:
        """Entries of the tables."""
        return sum(extent for extent, stride in self.loops if stride is None)

    @property
    def form(self) -> str:
        """What the innermost loop reads."""
        stride = self.loops[-1][1] if self.loops else 1
        reads = {None: "table", 1: "run"}.get(stride, "step")
        return f"{reads}{self.x.bits}"

    @property
    def runs(self) -> bool:
        """Whether runs of bytes are copied."""
        return self.x.bits == 8 and bool(self.loops) and self.loops[-1][1] == 1

    @property
    def words(self) -> bool:
        """Whether every run begins at whole words."""
        return of_words((self.first, self.loops[-1][0], *(stride for _, stride in self.loops[:-1])))

    def instruction_features(self) -> Features:
        """Count elements, and how often the innermost loop begins."""
        inner = self.loops[-1][0] if self.loops else 1
        unroll = largest_divisor(inner, _UNROLL)
        total, turns = self.y.pixels * self.y.channels, inner // unroll
        rows, narrow, channels = total / inner, "4" if self.x.bits == 4 else "", self.y.channels
        if self.runs:
            own = run_features("copy", rows, inner, words=self.words)
            tabled = any(stride is None for _, stride in self.loops[:-1])
            return own | {"gather_rowtable": rows if tabled else 0, "gather_outer": self._outer(rows), "call": 1}
        tabled = any(stride is None for _, stride in self.loops[:-1])
        # Of 4-bit codes it must be known which half of a byte they are, without a division.
        far = "far" if (narrow and tabled) or self.form == "table4" else ""
        # A division by a number of channels, where neither loops nor shifts are one.
        apart = inner == channels or not (inner % channels or unroll % channels) or self.y.pixels == 1
        divisions = bool(far and self.x.channels & (self.x.channels - 1)) + bool(
            not apart and channels & (channels - 1)
        )
        return {
            f"gather_{self.form}{far}": total,
            "gather_divide": total * divisions if narrow else 0,
            "gather_quotient": total * divisions * log2(total / channels) if narrow else 0,
            "gather_half": total if narrow and unroll % 2 and turns > 1 else 0,
            # A loop of one turn is none.
            f"gather_turn{narrow}": rows * turns if turns > 1 else 0,
            f"gather_row{narrow}": rows if rows > 1 else 0,
            f"gather_rowtable{narrow}": rows if tabled else 0,
            f"gather_outer{narrow}": self._outer(rows),
            "call": 1,
        }

    def _outer(self, rows: float) -> float:
        """Return how often a loop around that of the rows goes on."""
        return rows / self.loops[-2][0] if len(self.loops) > 2 else 0

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        unroll = largest_divisor(self.loops[-1][0], _UNROLL) if self.loops else 1
        if self.runs:
            return {
                **run_code("run", self.loops[-1][0], words=self.words),
                "code_gather_loop": len(self.loops) - 1,
                "code_gather": 1,
            }
        return {f"code_gather_{self.form}": unroll, "code_gather_loop": len(self.loops), "code_gather": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        tables = (Parameter("table", "int32", self.table_words),) if self.table_words else ()
        return build(name, (*planes, *tables), lambda b: _emit(self, b))


def _emit(spec: GatherSpec, b: Body) -> None:
    begins, words = [], 0
    for extent, stride in spec.loops:
        begins.append(words)
        words += extent if stride is None else 0

    def copy(source: Any, target: Any) -> None:
        if spec.x.bits == 8:
            b.store(b["y"], target, b["x"][source])
            return
        codes = spec.x.load(b, b["x"], b.T.truncdiv(source, spec.x.channels), b.T.truncmod(source, spec.x.channels))
        spec.y.store(b, b["y"], b.T.truncdiv(target, spec.y.channels), b.T.truncmod(target, spec.y.channels), codes)

    def walk(depth: int, source: Any, target: Any) -> None:
        extent, stride = spec.loops[depth]
        inner = depth == len(spec.loops) - 1
        if inner and spec.runs:
            copy_run(b, target * extent, source, extent, words=spec.words)
            return
        unroll = largest_divisor(extent, _UNROLL) if inner else 1
        with b.loop(extent // unroll) as outer:
            for i in range(unroll):
                step = outer * unroll + i
                offset = b["table"][step + begins[depth]] if stride is None else step * stride
                if inner:
                    copy(source + offset, target * extent + step)
                else:
                    walk(depth + 1, source + offset, target * extent + step)

    if spec.loops:
        walk(0, spec.first, 0)
    else:
        copy(spec.first, 0)
