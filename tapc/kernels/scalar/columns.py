"""im2col for cores without SIMD: one word a tap, in (kernel y, kernel x, channel) order."""

from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.im2col import Im2col
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.window import dilated


@dataclass(frozen=True)
class Columns(Im2col):
    """The column buffer of one convolution.

    Attributes
    ----------
    packed : bool
        Both pixels share a word, x0 + 65536 x1; otherwise each has its own, in turn.
    """

    packed: bool

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
        window, x, origin = self.window, self.x, self.origin(b, pixel)
        start = group * self.depth

        def source(ky: Any, kx: Any) -> Any:
            rows, columns = dilated(ky, window.dilation_y), dilated(kx, window.dilation_x)
            return (origin[0] + rows) * x.width + origin[1] + columns

        def whole() -> None:
            with b.loop(window.height) as ky:
                if not self.scattered and (x.bits == 8 or self.paired):
                    self._span(b, slot, source(ky, 0), 0, ky * window.width * self.depth, window.width * self.depth)
                else:
                    with b.loop(window.width) as kx:
                        at = (ky * window.width + kx) * self.depth
                        self._span(b, slot, source(ky, kx), start, at, self.depth)

        def border() -> None:
            def inside(pixel: Any, tap: Any) -> None:
                self._span(b, slot, pixel, start, tap * self.depth, self.depth)

            def outside(tap: Any) -> None:
                with b.loop(self.depth) as i:
                    self._place(b, slot, tap * self.depth + i, b["pad"])

            self.each_tap(b, origin, inside, outside)

        self.whole_or_taps(b, origin, whole, border)

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
