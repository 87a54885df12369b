"""Natural logarithms of sums in integers, the same in every arithmetic."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.interface import Ints

SEGMENTS = 64
_ROOM = 2.0**29


@dataclass(frozen=True, eq=False)
class Logarithms:
    """Logarithms with `fraction` fractional bits, from a table of those of 1 to 2 between whose entries lie lines.

    Attributes
    ----------
    fraction : int
    table : ndarray of int32, shape (SEGMENTS + 1,)
    octave : int
        The logarithm of 2.
    """

    fraction: int
    table: NDArray[np.int32]
    octave: int

    def of(self, values: Ints) -> Ints:
        """Return the logarithms of numbers from 1 to 2^31 - 1."""
        octaves = np.frompyfunc(lambda v: int(v).bit_length() - 1, 1, 1)(values).astype(np.int64)
        mantissas = (values << (31 - octaves)) & 0x7FFFFFFF
        index, rest = mantissas >> 25, (mantissas >> 9) & 0xFFFF
        table = self.table.astype(np.int64)
        found: Ints = octaves * self.octave + table[index] + ((table[index + 1] - table[index]) * rest >> 16)
        return found


def logarithms(largest: float) -> Logarithms:
    """Return logarithms as fine as leaves room for sums with numbers up to `largest`."""
    fraction = min(24, math.floor(math.log2(_ROOM / (largest + 32))))
    table = np.rint(np.log1p(np.arange(SEGMENTS + 1) / SEGMENTS) * 2.0**fraction).astype(np.int32)
    return Logarithms(fraction, table, round(math.log(2) * 2.0**fraction))
