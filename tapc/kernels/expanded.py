"""One channel's image, expanded with its border: the scratch plane of the depthwise kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.layout import Plane
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.window import Window


@dataclass(frozen=True)
class Expanded:
    """Geometry of the plane.

    Attributes
    ----------
    x, y : Plane
    window : Window
    multiple : int
        Of which the length of a row is a multiple.
    """

    x: Plane
    y: Plane
    window: Window
    multiple: int

    @property
    def rows(self) -> int:
        """Rows that windows reach."""
        return (self.y.height - 1) * self.window.stride_y + self.window.rows

    @property
    def pitch(self) -> int:
        """Pixels of a row, enough for every window."""
        covered = (self.y.width - 1) * self.window.stride_x + self.window.columns
        return -(-covered // self.multiple) * self.multiple

    @property
    def pixels(self) -> int:
        """Pixels of the plane."""
        return self.rows * self.pitch

    @property
    def filled(self) -> tuple[int, int]:
        """Rows and columns that the image fills."""
        window = self.window
        return min(self.x.height, self.rows - window.top), min(self.x.width, self.pitch - window.left)

    @property
    def bordered(self) -> bool:
        """Whether the image leaves a part of the plane to the border."""
        return self.filled != (self.rows, self.pitch)

    def fill(self, b: Body, channel: Any, store: Callable[[Any, Any], None]) -> None:
        """Copy a channel: `store(pixel of the plane, code)` for each code. The border keeps what it holds."""
        height, width = self.filled
        run = largest_divisor(width, 8)
        with b.loop(height) as iy, b.loop(width // run) as outer:
            for i in range(run):
                ix = outer * run + i
                code = self.x.load(b, b["x"], iy * self.x.width + ix, channel)
                store((iy + self.window.top) * self.pitch + ix + self.window.left, code)
