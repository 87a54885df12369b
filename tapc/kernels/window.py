"""Sliding windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.layout import Plane


@dataclass(frozen=True)
class Window:
    """A sliding window: taps, stride, leading padding, and the distance of neighbouring taps."""

    height: int
    width: int
    stride_y: int
    stride_x: int
    top: int
    left: int
    dilation_y: int = 1
    dilation_x: int = 1

    @property
    def taps(self) -> int:
        """Height times width."""
        return self.height * self.width

    @property
    def rows(self) -> int:
        """Rows of the image from the first tap to the last."""
        return (self.height - 1) * self.dilation_y + 1

    @property
    def columns(self) -> int:
        """Columns of the image from the first tap to the last."""
        return (self.width - 1) * self.dilation_x + 1

    def turned(self) -> "Window":
        """Return the window of an image whose rows are columns."""
        stride, first, apart = (self.stride_x, self.stride_y), (self.left, self.top), (self.dilation_x, self.dilation_y)
        return Window(self.width, self.height, *stride, *first, *apart)

    def behind(self, kernel: tuple[int, int], stride: tuple[int, int]) -> "Window":
        """Return the window of the input that windows of this one's output read, as one without dilation."""
        rows, columns = ((n - 1) * s for n, s in zip(kernel, (self.stride_y, self.stride_x), strict=True))
        strides = stride[0] * self.stride_y, stride[1] * self.stride_x
        return Window(rows + self.rows, columns + self.columns, *strides, self.top, self.left)

    def inside(self, x: Plane, y: Plane) -> bool:
        """Whether all windows lie inside the image."""
        bottom = (y.height - 1) * self.stride_y - self.top + self.rows
        right = (y.width - 1) * self.stride_x - self.left + self.columns
        return self.top == 0 and self.left == 0 and bottom <= x.height and right <= x.width

    def covers(self, b: Body, origin: Any, x: Plane) -> Any:
        """Return the condition that the window at (row, column) `origin` lies inside the image."""
        T = b.T
        rows = T.And(origin[0] >= 0, origin[0] + self.rows <= x.height)
        return T.And(rows, T.And(origin[1] >= 0, origin[1] + self.columns <= x.width))


def clip_window(b: Body, start: Any, size: int, extent: int, bounds: Any, slot: int, dilation: int = 1) -> None:
    """Store the first and one-past-last tap of a window that lie inside an axis."""
    T = b.T

    def taps(distance: Any) -> Any:
        return distance if dilation == 1 else T.truncdiv(distance + (dilation - 1), dilation)

    b.store(bounds, slot, taps(T.max(0, 0 - start)))
    b.store(bounds, slot + 1, T.min(size, taps(extent - start)))


def dilated(index: Any, dilation: int) -> Any:
    """Return how far a tap lies from the first."""
    return index if dilation == 1 else index * dilation


def _inside(extent: int, count: int, size: int, stride: int, before: int, dilation: int) -> Iterator[int]:
    """Yield, for each output position of an axis, how many taps lie inside the input."""
    for i in range(count):
        start = i * stride - before
        yield sum(0 <= start + tap * dilation < extent for tap in range(size))


def inside_taps(x: Plane, y: Plane, window: Window) -> tuple[int, int]:
    """Return (window rows, taps) that lie inside the image, summed over all output pixels."""
    rows = sum(_inside(x.height, y.height, window.height, window.stride_y, window.top, window.dilation_y))
    columns = sum(_inside(x.width, y.width, window.width, window.stride_x, window.left, window.dilation_x))
    return rows * y.width, rows * columns


def whole_windows(x: Plane, y: Plane, window: Window) -> int:
    """Return how many windows lie inside the image."""
    rows = _inside(x.height, y.height, window.height, window.stride_y, window.top, window.dilation_y)
    columns = _inside(x.width, y.width, window.width, window.stride_x, window.left, window.dilation_x)
    return sum(n == window.height for n in rows) * sum(n == window.width for n in columns)
