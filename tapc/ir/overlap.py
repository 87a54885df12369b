"""How far an output must lie below the input that it overwrites.

Kernels walk their output in address order. While pixel p is written, the input is still needed from some address
on; the output may use everything below that. The distance is the largest such (bytes written - first byte needed)
over all pixels: with input address - output address >= distance, no byte is lost.
"""

from dataclasses import dataclass

import numpy as np

from tapc.kernels.layout import Plane
from tapc.kernels.window import Window


@dataclass(frozen=True)
class Overlap:
    """Where an output may overlap a dying input: by how much it must lie below it.

    Attributes
    ----------
    least : int
        Smallest (input address - output address).
    multiple : int
        That difference must be a multiple of this.
    apart : int
        That difference must be 0 or at least this, where it is above 0.
    """

    least: int
    multiple: int = 1
    apart: int = 0

    def allows(self, difference: int) -> bool:
        """Whether the output may lie `difference` bytes below the input."""
        if difference < self.least or difference % self.multiple:
            return False
        return not self.apart or difference == 0 or difference >= self.apart

    def shifted(self, bytes: int) -> "Overlap | None":
        """Return it for buffers that hold the tensors: the input begins so much further in its own than the output.

        None where no rule of this kind says it.
        """
        if not bytes:
            return self
        if bytes % self.multiple or self.apart:
            return None
        return Overlap(self.least - bytes, self.multiple)

    @property
    def closest(self) -> tuple[int, ...]:
        """Differences worth trying: where the output comes closest to the input, and where it first is apart."""
        return (self.least, self.apart) if self.apart > max(0, self.least) else (self.least,)


def window_distance(x: Plane, y: Plane, window: Window, tile: int, *, buffered: bool) -> int:
    """Return the distance for a kernel that slides a window.

    Parameters
    ----------
    x, y : Plane
    window : Window
    tile : int
        Pixels that are written together.
    buffered : bool
        The tile's windows are copied before its first store; otherwise the tile's own input is needed to its end.
    """
    rows = np.clip(np.arange(y.height) * window.stride_y - window.top, 0, x.height - 1)
    columns = np.clip(np.arange(y.width) * window.stride_x - window.left, 0, x.width - 1)
    first = rows[:, None] * x.width + columns
    # A later output row may start further left, hence lower: take the least over all later pixels.
    needed = np.minimum.accumulate(first.ravel()[::-1])[::-1] * x.row
    written = (np.minimum(np.arange(y.pixels) // tile * tile + tile, y.pixels)) * y.row
    starts = np.arange(0, y.pixels, tile)
    if not buffered:
        return int((written[starts] - needed[starts]).max())
    if len(starts) == 1:
        return -(x.bytes + y.bytes)  # everything is read before anything is written
    return int((written[starts[:-1]] - needed[starts[1:]]).max())


def elementwise_distance(x: Plane, y: Plane) -> int | None:
    """Return the distance for a kernel that reads each code just before it writes the same code, or None."""
    return 0 if y.bits <= x.bits else None
