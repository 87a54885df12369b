"""im2col: the receptive fields of a convolution's outputs, as every instruction set visits them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.layout import Plane
from tapc.kernels.window import Window, dilated


@dataclass(frozen=True)
class Im2col:
    """The fields of a tile of output pixels, which the column buffer holds.

    Attributes
    ----------
    x, y : Plane
    window : Window
    groups : int
    pixels : int
        Output pixels of the tile.
    """

    x: Plane
    y: Plane
    window: Window
    groups: int
    pixels: int

    @property
    def depth(self) -> int:
        """Input channels that one output channel reads."""
        return self.x.channels // self.groups

    @property
    def taps(self) -> int:
        """Length of a field."""
        return self.window.taps * self.depth

    @property
    def scattered(self) -> bool:
        """Whether something lies in memory between a row's taps."""
        return self.groups > 1 or self.window.dilation_x > 1

    @property
    def row_taps(self) -> int:
        """Taps that lie side by side in memory where the window is inside the image."""
        return self.depth * (1 if self.scattered else self.window.width)

    @property
    def pitch(self) -> int:
        """Bytes of the input from a row of taps to the next."""
        return self.x.width * self.x.row * self.window.dilation_y

    @property
    def step(self) -> int:
        """Bytes of the input from a tap to the next in its row."""
        return self.x.row * self.window.dilation_x

    @property
    def inside(self) -> bool:
        """Whether no window reaches over the border."""
        return self.window.inside(self.x, self.y)

    def origin(self, b: Body, pixel: Any) -> Any:
        """Declare the row and the column at which an output pixel's window begins."""
        T, window = b.T, self.window
        origin = b.array("origin", 2)
        b.store(origin, 0, T.truncdiv(pixel, self.y.width) * window.stride_y - window.top)
        b.store(origin, 1, T.truncmod(pixel, self.y.width) * window.stride_x - window.left)
        return origin

    def each_tap(
        self, b: Body, origin: Any, inside: Callable[[Any, Any], None], outside: Callable[[Any], None]
    ) -> None:
        """Visit a window's taps, one by one: `inside(source pixel, tap)` or `outside(tap)`."""
        T, window, x = b.T, self.window, self.x
        with b.loop(window.height) as ky, b.loop(window.width) as kx:
            iy, ix = origin[0] + dilated(ky, window.dilation_y), origin[1] + dilated(kx, window.dilation_x)
            tap = ky * window.width + kx
            rows, columns = T.And(iy >= 0, iy < x.height), T.And(ix >= 0, ix < x.width)
            b.when(T.And(rows, columns), lambda: inside(iy * x.width + ix, tap), lambda: outside(tap))

    def whole_or_taps(self, b: Body, origin: Any, whole: Callable[[], None], taps: Callable[[], None]) -> None:
        """Write `whole` where the window lies inside the image, and `taps` where it may reach over the border."""
        if self.inside:
            whole()
        else:
            b.when(self.window.covers(b, origin, self.x), whole, taps)
