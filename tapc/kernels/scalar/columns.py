"""im2col for cores without SIMD: one word a tap, in (kernel y, kernel x, channel) order."""

from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.layout import Plane
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.window import Window


@dataclass(frozen=True)
class Columns:
    """The column buffer of one convolution.

    Attributes
    ----------
    x, y : Plane
    window : Window
    groups : int
    pixels : int
        Output pixels whose fields are held.
    packed : bool
        Both pixels share a word, x0 + 65536 x1; otherwise each has its own, in turn.
    """

    x: Plane
    y: Plane
    window: Window
    groups: int
    pixels: int
    packed: bool

    @property
    def depth(self) -> int:
        """Input channels that one output channel reads."""
        return self.x.channels // self.groups

    @property
    def stride(self) -> int:
        """Words of a tap."""
        return 1 if self.packed else self.pixels

    @property
    def paired(self) -> bool:
        """Whether two 4-bit codes are read at once."""
        return self.x.bits == 4 and self.depth % 2 == 0

    def emit(self, b: Body, pixel: Any, slot: int, group: Any) -> None:
        """Write one pixel's field; of a packed pair, slot 0 comes first."""
        T, window, x = b.T, self.window, self.x
        origin = b.array("origin", 2)
        b.store(origin, 0, T.truncdiv(pixel, self.y.width) * window.stride_y - window.top)
        b.store(origin, 1, T.truncmod(pixel, self.y.width) * window.stride_x - window.left)
        start = group * self.depth

        def source(ky: Any, kx: Any) -> Any:
            return (origin[0] + ky) * x.width + origin[1] + kx

        def whole() -> None:
            with b.loop(window.height) as ky:
                if self.groups == 1 and (x.bits == 8 or self.paired):
                    self._span(b, slot, source(ky, 0), 0, ky * window.width * self.depth, window.width * self.depth)
                else:
                    with b.loop(window.width) as kx:
                        at = (ky * window.width + kx) * self.depth
                        self._span(b, slot, source(ky, kx), start, at, self.depth)

        def border() -> None:
            with b.loop(window.height) as ky, b.loop(window.width) as kx:
                iy, ix, at = origin[0] + ky, origin[1] + kx, (ky * window.width + kx) * self.depth
                rows, columns = T.And(iy >= 0, iy < x.height), T.And(ix >= 0, ix < x.width)

                def outside() -> None:
                    with b.loop(self.depth) as i:
                        self._place(b, slot, at + i, b["pad"])

                b.when(
                    T.And(rows, columns),
                    lambda: self._span(b, slot, iy * x.width + ix, start, at, self.depth),
                    outside,
                )

        if window.inside(x, self.y):
            whole()
        else:
            b.when(window.covers(b, origin, x), whole, border)

    def _span(self, b: Body, slot: int, pixel: Any, channel: Any, at: Any, count: int) -> None:
        """Expand codes that lie side by side."""
        if not self.paired:
            step = largest_divisor(count, 4)
            with b.loop(count // step) as outer:
                for i in range(step):
                    code = self.x.load(b, b["x"], pixel, channel + outer * step + i)
                    self._place(b, slot, at + outer * step + i, code)
            return
        with b.loop(count // 2) as pair:
            byte = b.bind(b.T.Cast("int32", b["x"][pixel * self.x.row + b.T.truncdiv(channel, 2) + pair]))
            self._place(b, slot, at + pair * 2, b.T.bitwise_and(byte, 15))
            self._place(b, slot, at + pair * 2 + 1, b.T.shift_right(byte, 4))

    def _place(self, b: Body, slot: int, tap: Any, code: Any) -> None:
        col = b["col"]
        if self.packed and slot:
            b.store(col, tap, col[tap] + code * 65536)
        else:
            b.store(col, tap * self.stride + (0 if self.packed else slot), code)
