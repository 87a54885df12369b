"""How many windows, rows and taps of a layer lie inside its image."""

from collections.abc import Iterator

from tapc.kernels.layout import Plane
from tapc.kernels.window import Window

Features = dict[str, float]


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
