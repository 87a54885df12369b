"""Sliding windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.layout import Plane


@dataclass(frozen=True)
class Window:
    """A sliding window: kernel, stride and leading padding."""

    height: int
    width: int
    stride_y: int
    stride_x: int
    top: int
    left: int

    @property
    def taps(self) -> int:
        """Height times width."""
        return self.height * self.width

    def inside(self, x: Plane, y: Plane) -> bool:
        """Whether all windows lie inside the image."""
        bottom = (y.height - 1) * self.stride_y - self.top + self.height
        right = (y.width - 1) * self.stride_x - self.left + self.width
        return self.top == 0 and self.left == 0 and bottom <= x.height and right <= x.width

    def covers(self, b: Body, origin: Any, x: Plane) -> Any:
        """Return the condition that the window at (row, column) `origin` lies inside the image."""
        T = b.T
        rows = T.And(origin[0] >= 0, origin[0] + self.height <= x.height)
        return T.And(rows, T.And(origin[1] >= 0, origin[1] + self.width <= x.width))


def clip_window(b: Body, start: Any, size: int, extent: int, bounds: Any, slot: int) -> None:
    """Store the first and one-past-last tap of a window that lie inside an axis."""
    T = b.T
    b.store(bounds, slot, T.max(0, 0 - start))
    b.store(bounds, slot + 1, T.min(size, extent - start))


def _inside(extent: int, count: int, size: int, stride: int, before: int) -> Iterator[int]:
    """Yield, for each output position of an axis, how many taps lie inside the input."""
    for i in range(count):
        start = i * stride - before
        yield min(size, extent - start) - max(0, -start)


def inside_taps(x: Plane, y: Plane, window: Window) -> tuple[int, int]:
    """Return (window rows, taps) that lie inside the image, summed over all output pixels."""
    rows = sum(_inside(x.height, y.height, window.height, window.stride_y, window.top))
    columns = sum(_inside(x.width, y.width, window.width, window.stride_x, window.left))
    return rows * y.width, rows * columns


def whole_windows(x: Plane, y: Plane, window: Window) -> int:
    """Return how many windows lie inside the image."""
    rows = _inside(x.height, y.height, window.height, window.stride_y, window.top)
    columns = _inside(x.width, y.width, window.width, window.stride_x, window.left)
    return sum(n == window.height for n in rows) * sum(n == window.width for n in columns)
