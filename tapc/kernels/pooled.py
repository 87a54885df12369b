"""A convolution and the max-pooling behind it, a line of the result at a time.

The convolution writes the lines of one row of windows, or of some, to a buffer, from which the pooling makes lines of
the output: the convolution's result as a whole is never in memory.
"""

from dataclasses import dataclass, replace
from typing import Any

from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.conv import ConvForm, ConvSpec
from tapc.kernels.layout import Plane
from tapc.kernels.pool import PoolSpec
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import Features, KernelSpec
from tapc.kernels.window import Window

_POOL_RANGE = {"low": "pool_low", "high": "pool_high"}  # the convolution has its own


@dataclass(frozen=True)
class PooledSpec(KernelSpec):
    """A kernel instance.

    Attributes
    ----------
    conv : ConvSpec
        Computes the lines of a row of windows; by a transform of some rows.
    y : Plane
        The pooled output.
    height, width, stride_y, stride_x : int
        Of the pooling's windows; neighbours share no line.
    """

    conv: ConvSpec
    y: Plane
    height: int
    width: int
    stride_y: int
    stride_x: int

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"{self.conv.kind}_maxpool"

    @property
    def transformed(self) -> bool:
        """Whether the convolution is computed by a transform."""
        return self.conv.transformed

    @property
    def nested(self) -> bool:
        """Whether two weights share a half-word."""
        return self.conv.nested

    @property
    def rows(self) -> int:
        """Rows of windows whose lines are in the buffer."""
        return (self.conv.lines - self.height) // self.stride_y + 1

    @property
    def calls(self) -> int:
        """Calls of the convolution."""
        return -(-self.y.height // self.rows)

    @property
    def tuned(self) -> Schedule | None:
        """The convolution's schedule in place of the default."""
        return self.conv.tuned

    def with_schedule(self, schedule: Schedule) -> "PooledSpec":
        """Return the same with another schedule of the convolution."""
        return replace(self, conv=self.conv.with_schedule(schedule))

    @property
    def w_bits(self) -> int:
        """Weight bits."""
        return self.conv.w_bits

    @property
    def passes(self) -> int:
        """All weights are read for every tile of output pixels of every call."""
        return self.calls * self.conv.passes

    @property
    def x(self) -> Plane:
        """The input."""
        return self.conv.x

    @property
    def lines(self) -> Plane:
        """The buffer."""
        middle = self.conv.y
        return Plane(self.conv.lines, middle.width, middle.channels, middle.bits)

    @property
    def pool(self) -> PoolSpec:
        """The pooling of a row of windows."""
        window = Window(self.height, self.width, self.stride_y, self.stride_x, 0, 0)
        line = replace(self.y, height=1)
        return PoolSpec(
            replace(self.lines, height=self.height), line, window, "max", include_pad=False, mode=self.conv.mode
        )

    @property
    def window(self) -> Window:
        """The window of the input that a window of the output reads."""
        return self.conv.window.behind((self.height, self.width), (self.stride_y, self.stride_x))

    @property
    def form(self) -> ConvForm:
        """How the instruction set computes the convolution."""
        return self.conv.form

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        return self.conv.weight_words

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the columns and of the buffer behind them."""
        return self.conv.scratch_bytes + -(-self.lines.bytes // 4) * 4

    @property
    def _whole(self) -> tuple[ConvSpec, PoolSpec]:
        """Kernels that do the same all at once, on the lines that the pooling reads."""
        y, window = self.conv.y, replace(self.pool.window, stride_y=self.height)
        pool = replace(self.pool, x=replace(y, height=self.y.height * self.height), y=self.y, window=window)
        # A call of a transform computes whole rows of tiles.
        tile = self.form.together // y.width if self.transformed else 1
        lines = self.calls * -(-self.conv.lines // tile) * tile
        return replace(self.conv, y=replace(y, height=lines), lines=0), pool

    def instruction_features(self) -> Features:
        """Count the parts of the convolution and of the pooling, and their calls."""
        conv, pool = self._whole
        features = conv.instruction_features()
        for part, count in pool.instruction_features().items():
            features[part] = features.get(part, 0) + count
        return features | {"call": 1 + self.calls + self.y.height}

    def code_features(self) -> Features:
        """Return the parts of the machine code of both."""
        conv, pool = self._whole
        return conv.code_features() | pool.code_features()

    def kernel(self, name: str) -> Kernel:
        """Generate the C functions: the convolution's, the pooling's, and the one that calls them."""
        conv, pool = self.conv.kernel(f"{name}_lines"), self.pool.kernel(f"{name}_pool")
        own = {p.name: p for p in conv.parameters if p.name not in ("y", "col", "first")}
        parameters = (
            self.y.parameter("y", constant=False),
            Parameter("col", "int32", self.scratch_bytes // 4, constant=False),
            *own.values(),
            *(Parameter(new, "int32") for new in _POOL_RANGE.values()),
        )

        def emit(b: Body) -> None:
            buffer = b.call("t_to", b.address(b["col"], 0), self.conv.scratch_bytes, dtype="handle")

            def pool_row(line: Any, windows: Any) -> None:
                given = {"x": windows, "y": b.address(b["y"], line * (self.y.width * self.y.row))}
                given |= {old: b[new] for old, new in _POOL_RANGE.items()}
                b.do(pool.name, *(_argument(b, p, given) for p in pool.parameters))

            pitch = self.rows * self.stride_y * (1 if self.transformed else self.lines.width)
            with b.loop(self.calls) as call:
                given = {"y": buffer, "first": call * pitch, "col": b.address(b["col"], 0)}
                b.do(conv.name, *(_argument(b, p, given) for p in conv.parameters))
                if self.rows == 1:
                    pool_row(call, buffer)
                    return
                with b.loop(self.rows) as row:
                    line = b.bind(call * self.rows + row)
                    step = self.stride_y * self.lines.width * self.lines.row
                    windows = b.call("t_to", buffer, row * step, dtype="handle")
                    if self.y.height % self.rows:
                        b.when(line < self.y.height, lambda: pool_row(line, windows))
                    else:
                        pool_row(line, windows)

        outer = build(name, parameters, emit)
        # In place they would share registers with the loop around them, which then do not suffice.
        called = "static __attribute__((noinline))"
        return replace(outer, source=f"{called} {conv.source}\n{called} {pool.source}\n{outer.source}")


def _argument(b: Body, p: Parameter, given: dict[str, Any]) -> Any:
    if p.name in given:
        return given[p.name]
    return b[p.name] if p.size is None else b.address(b[p.name], 0)
