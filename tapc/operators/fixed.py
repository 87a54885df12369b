"""A constant operand of an operator of two."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.ir.program import Tensor


@dataclass(frozen=True, eq=False)
class Fixed:
    """A constant operand.

    Attributes
    ----------
    codes : ndarray of int8, shape (H, W, C)
        Extents of 1 are repeated.
    scale : float
    zero : int
    first : bool
        It is the first operand.
    """

    codes: NDArray[np.int8]
    scale: float
    zero: int
    first: bool

    @property
    def tensor(self) -> Tensor:
        """What a kernel takes it for."""
        height, width, channels = self.codes.shape
        return Tensor("", (height, width, channels), 8, self.scale, self.zero)

    def __str__(self) -> str:
        return f"int8{list(self.codes.shape)} * {self.scale:.8g}{' first' if self.first else ''}"
