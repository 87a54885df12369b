"""A copy of some elements in another order: nested loops with strides, or tables where there are none."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.copies import copy_run, of_words, run_code, run_features
from tapc.kernels.layout import Plane
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec

_UNROLL = 4
SHORT = 2  # turns of a loop that is spelled out


@dataclass(frozen=True)
class GatherSpec(KernelSpec):
    """y's elements, in the order in which they are stored, from x's.

    Attributes
    ----------
    x, y : Plane
        Of the same bits.
    first : int
        Where the loops begin in x, in bytes; in halves of bytes where codes have 4 bits, as strides and tables are.
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
        return {None: "table", 1: "run"}.get(stride, "step")

    @property
    def runs(self) -> bool:
        """Whether runs of bytes are copied."""
        return self.x.bits == 8 and bool(self.loops) and self.loops[-1][1] == 1

    @property
    def words(self) -> bool:
        """Whether every run begins at whole words."""
        return of_words((self.first, self.loops[-1][0], *(stride for _, stride in self.loops[:-1])))

    @property
    def extents(self) -> tuple[int, ...]:
        """Turns of each loop; the innermost one's turns copy `unrolled` elements each, and `rest` follow."""
        return (*(extent for extent, _ in self.loops[:-1]), self.loops[-1][0] // self.unrolled) if self.loops else ()

    @property
    def unrolled(self) -> int:
        """Elements of a turn of the innermost loop: whole bytes, where that can be."""
        extent = self.loops[-1][0] if self.loops else 1
        if self.x.bits == 8:
            return largest_divisor(extent, _UNROLL)
        return extent if extent <= _UNROLL else _UNROLL

    @property
    def rest(self) -> int:
        """Elements after the innermost loop."""
        return self.loops[-1][0] % self.unrolled if self.loops else 0

    @property
    def elements(self) -> tuple[int, ...]:
        """Elements of y from one turn of each loop to the next."""
        extents = [extent for extent, _ in self.loops]
        return tuple(prod(extents[i + 1 :]) for i in range(len(extents)))

    @property
    def odd(self) -> bool:
        """Whether pixels of y end in half a byte that is no code's."""
        return self.y.bits == 4 and self.y.channels % 2 == 1 and self.y.pixels > 1

    @property
    def gaps(self) -> bool:
        """Whether a loop goes over such halves, so that it has no stride in y."""
        channels = self.y.channels
        return self.odd and any(
            count % channels and count * extent > channels
            for count, (extent, _) in zip(self.elements, self.loops, strict=True)
        )

    @property
    def targets(self) -> tuple[int, ...]:
        """Each loop's stride in y; in elements where there are `gaps`."""
        if not self.odd or self.gaps:
            return self.elements
        channels = self.y.channels
        return tuple(count // channels * 2 * self.y.row if count >= channels else count for count in self.elements)

    @property
    def in_pairs(self) -> bool:
        """Whether two codes that are copied one after the other fill a byte."""
        return self.x.bits == 4 and self.sides[1] and self.targets[-1:] == (1,)

    @property
    def pairs(self) -> tuple[int, int]:
        """Bytes that are filled in a turn of the innermost loop, and after it."""
        return (self.unrolled // 2, self.rest // 2) if self.in_pairs else (0, 0)

    @property
    def sides(self) -> tuple[bool, bool]:
        """Whether it is known which half of a byte of x is read, and which of y is written."""
        widths = (*(1 for _ in self.loops[:-1]), self.unrolled)

        def known(strides: Sequence[int | None]) -> bool:
            return all(
                stride is not None and (turns == 1 or stride * width % 2 == 0)
                for turns, stride, width in zip(self.extents, strides, widths, strict=False)
            )

        return known([stride for _, stride in self.loops]), not self.gaps and known(self.targets)

    def instruction_features(self) -> Features:
        """Count elements, and how often the innermost loop begins."""
        inner, channels = self.loops[-1][0] if self.loops else 1, self.y.channels
        total = self.y.pixels * channels
        rows, turns = total / inner, inner // self.unrolled
        tabled = any(stride is None for _, stride in self.loops[:-1])
        outer = rows / self.loops[-2][0] if len(self.loops) > 2 else 0
        if self.runs:
            own = run_features("copy", rows, inner, words=self.words)
            if len(self.loops) > 2 and self.loops[-2][0] <= SHORT:
                # Two runs are spelled out.
                own, outer = own | {"copy_run": outer if outer > 1 else 0}, 0
            return own | {"gather_rowtable": rows if tabled else 0, "gather_outer": outer, "call": 1}
        narrow = "4" if self.x.bits == 4 else ""
        counts: Features = {
            # A loop of one turn is none.
            f"gather_turn{narrow}": rows * turns if turns > 1 else 0,
            f"gather_row{narrow}": rows if rows > 1 else 0,
            f"gather_rowtable{narrow}": rows if tabled else 0,
            "gather_outer": outer,
            f"gather_call{narrow}": 1,
            "call": 1,
        }
        if not narrow:
            return counts | {f"gather_{self.form}8": total}
        read, written = self.sides
        pairs = rows * (turns * self.pairs[0] + self.pairs[1])
        return counts | {
            f"gather_{self.form}4{'known' if read else ''}": total,
            "gather_pair": pairs,
            f"gather_single{'known' if written else ''}": total - 2 * pairs,
            "gather_gap": total if self.gaps else 0,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        if self.runs:
            return {
                **run_code("run", self.loops[-1][0], words=self.words),
                "code_gather_loop": len(self.loops) - 1,
                "code_gather": 1,
            }
        copies, loops = self.unrolled + self.rest, sum(turns > 1 for turns in self.extents)
        if self.x.bits == 8:
            return {f"code_gather_{self.form}8": copies, "code_gather_loop": loops, "code_gather": 1}
        read, written = self.sides
        pairs = sum(self.pairs)
        return {
            f"code_gather_{self.form}4{'known' if read else ''}": copies,
            "code_gather_pair": pairs,
            f"code_gather_single{'known' if written else ''}": copies - 2 * pairs,
            "code_gather_gap": copies if self.gaps else 0,
            "code_gather_loop": loops,
            "code_gather": 1,
        }

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

    def copy(sources: Sequence[Any], places: Sequence[Any]) -> None:
        """Copy elements to places of y; to successive ones of a byte, at once."""
        if spec.x.bits == 8:
            for source, place in zip(sources, places, strict=True):
                b.store(b["y"], place, b["x"][source])
            return
        codes = [b.call("t_load4", b.address(b["x"], 0), source) for source in sources]
        paired = len(codes) // 2 * 2 if spec.in_pairs else 0
        for i in range(0, paired, 2):
            both = b.T.bitwise_or(codes[i], b.T.shift_left(codes[i + 1], 4))
            b.store(b["y"], b.T.truncdiv(places[i], 2), b.T.Cast("uint8", both))
        for code, place in zip(codes[paired:], places[paired:], strict=True):
            at = place + b.T.truncdiv(place, spec.y.channels) if spec.gaps else place
            b.do("t_store4", b.address(b["y"], 0), at, code)

    def walk(depth: int, source: Any, target: Any) -> None:
        (extent, stride), move = spec.loops[depth], spec.targets[depth]

        def place(step: Any) -> Any:
            return source + (b["table"][step + begins[depth]] if stride is None else step * stride)

        if depth < len(spec.loops) - 1:
            with b.loop(extent) as step:
                walk(depth + 1, place(step), target + step * move)
        elif spec.runs:
            copy_run(b, target, source, extent, words=spec.words)
        else:
            with b.loop(extent // spec.unrolled) as turn:
                steps: Sequence[Any] = [turn * spec.unrolled + i for i in range(spec.unrolled)]
                copy([place(step) for step in steps], [target + step * move for step in steps])
            if spec.rest:
                steps = range(extent - spec.rest, extent)
                copy([place(step) for step in steps], [target + step * move for step in steps])

    if spec.loops:
        walk(0, spec.first, 0)
    else:
        copy([spec.first], [0])
