"""Exact integer Winograd transforms of 3 x 3 kernels: F(2x2, 3x3) and F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308).

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
    rows : ndarray of int64, shape (size + 2, 3)
        What makes frequencies of three weights.
    order : tuple of int
        Frequencies in the order in which they are summed: pairs whose sum and difference is needed come first.
    shift : int
        The sums are 2^shift times the direct ones, after the multiplication by `inverse` modulo 2^32.
    inverse : int
        1 where there is nothing to multiply by.
    """

    size: int
    rows: NDArray[np.int64]
    order: tuple[int, ...]
    shift: int
    inverse: int

    @property
    def frequencies(self) -> int:
        """Frequencies along each side."""
        return self.size + 2

    @cached_property
    def _ordered(self) -> NDArray[np.int64]:
        return self.rows[list(self.order)]

    def weights(self, weights: NDArray[np.int8]) -> NDArray[np.int64]:
        """Return the frequencies of weights (outputs, 3, 3, inputs): (frequency, frequency, outputs, inputs), in order.

        They fit 16 bits for weights of 8.
        """
        rows = self._ordered
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
"""Algorithm -> its transform."""
