"""Exact integer Winograd transforms (Lavin and Gray, arXiv 1509.09308).

F(2x2, 3x3) and F(4x4, 3x3) of 3 x 3 kernels; F(4, 3) and F(2, 5) of kernels of three and five taps along a line.

Rows of the weights' transform are multiplied by whole numbers until no fraction is left, so that a tile's sums are the
direct ones times a constant. All sums are taken modulo 2^32: they are exact as long as the result, at the end, fits.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.schedule import Algorithm


@dataclass(frozen=True, eq=False)
class Transform:
    """One of them.

    Attributes
    ----------
    size : int
        Outputs of a tile, along each side.
    rows : ndarray of int64, shape (frequencies, taps)
        What makes frequencies of the weights along a side.
    order : tuple of int
        Frequencies in the order in which they are summed: pairs whose sum and difference is needed come first.
    shift : int
        The sums are 2^shift times the direct ones, after the multiplication by `inverse` modulo 2^32.
    inverse : int
        1 where there is nothing to multiply by.
    flat : bool
        Tiles and kernels are one line high.
    """

    size: int
    rows: NDArray[np.int64]
    order: tuple[int, ...]
    shift: int
    inverse: int
    flat: bool = False

    @property
    def frequencies(self) -> int:
        """Frequencies along each side that has more than one."""
        return len(self.rows)

    @property
    def taps(self) -> int:
        """Weights along each side that has more than one."""
        return int(self.rows.shape[1])

    @property
    def lines(self) -> int:
        """Lines of the input that a tile reads, and rows of its frequencies."""
        return 1 if self.flat else self.frequencies

    @property
    def count(self) -> int:
        """Frequencies of a tile."""
        return self.lines * self.frequencies

    @property
    def height(self) -> int:
        """Lines of a tile."""
        return 1 if self.flat else self.size

    @property
    def key(self) -> str:
        """What features of the cost model are called."""
        return f"l{self.taps}" if self.flat else f"f{self.size}"

    @cached_property
    def _ordered(self) -> NDArray[np.int64]:
        return self.rows[list(self.order)]

    def weights(self, weights: NDArray[np.int8]) -> NDArray[np.int64]:
        """Return the frequencies of weights (outputs, height, width, inputs): (row, column, outputs, inputs), in order.

        They fit 16 bits for weights of 8.
        """
        rows = self._ordered
        if self.flat:
            return np.asarray(np.einsum("oabc,jb->ajoc", weights.astype(np.int64), rows), np.int64)
        return np.asarray(np.einsum("ia,oabc,jb->ijoc", rows, weights.astype(np.int64), rows), np.int64)


# The last frequency is negated: its products are added where they would be subtracted.
F2 = Transform(2, np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, -2]]), (1, 2, 0, 3), 2, 1)
"""Four times the direct sums."""

# Points 0, 1, -1, 2, -2 and infinity, times 6, 4, 4, 1, 1, 12; the 2 that the last one lacks is in the inputs'
# transform along a row, and in the outputs' along a column. 576 = 9 x 64 times the direct sums; 0x38E38E39 is 1/9
# modulo 2^32.
F4 = Transform(
    4,
    np.array([[1, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 1]])
    * np.array([6, 4, 4, 1, 1, 12])[:, None],
    (1, 2, 3, 4, 0, 5),
    6,
    0x38E38E39,
)
"""64 times the direct sums."""

TRANSFORMS: dict[Algorithm, Transform] = {"f2": F2, "f4": F4, "f2r": F2, "f4r": F4}
"""Algorithm -> its transform of 3 x 3 kernels."""

# The same points along a line: 24 = 8 x 3 times the direct sums, of which a 2 is in the inputs' transform;
# -0x55555555 is 1/3 modulo 2^32.
LINE3 = Transform(4, F4.rows, F4.order, 3, -0x55555555, flat=True)
"""F(4, 3): 8 times the direct sums."""
LINE5 = Transform(
    2,
    np.array([[1, 0, 0, 0, 0], [-1] * 5, [-1, 1, -1, 1, -1], [1, 2, 4, 8, 16], [1, -2, 4, -8, 16], [0, 0, 0, 0, 1]])
    * np.array([6, 4, 4, 1, 1, 12])[:, None],
    F4.order,
    3,
    -0x55555555,
    flat=True,
)
"""F(2, 5), with the frequencies of F(4, 3): 8 times the direct sums."""

LINES: dict[tuple[Algorithm, int], Transform] = {
    ("f4", 3): LINE3,
    ("f2", 5): LINE5,
    ("f4r", 3): LINE3,
    ("f2r", 5): LINE5,
}
"""Algorithm and taps -> its transform of kernels along a line."""


def transform_of(algorithm: Algorithm, height: int, width: int) -> Transform | None:
    """Return the transform of a kernel of this size; None where there is none."""
    if (height, width) == (3, 3):
        return TRANSFORMS.get(algorithm)
    return LINES.get((algorithm, width)) if height == 1 else None
