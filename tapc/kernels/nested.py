"""Two weights of 8 bits in a half-word, multiplied as they are: an unpacking of two becomes needless.

A half-word is the number v = 256 a + b. With the columns u = x - 127 and t = 256 y - u,

    v u + b t = 256 (a x + b y - 127 a),

so that only b of each half-word has to be unpacked (SXTB16), not a. The accumulators hold 256 times the sums, which
the requantization factors undo exactly, and the bias makes up for 127 a. u is in [-255, 0], so that t is an int16,
too. Four taps of two channels by two pixels take six words, two unpackings and eight SMLAD, for sixteen
multiply-accumulates; if the weights were int16 in memory, eight words and eight SMLAD.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.schedule import Schedule

SHIFT = 8
"""The accumulators hold 2^SHIFT times the sums."""
LEAST = -127
"""Least weight: with -128, v would not fit 16 bits."""
LEAD = 127
"""What is taken off x."""
TILES = ((2, 2), (4, 1), (2, 1))
"""Channels and pixels of the tiles that have a form."""


def schedule(direct: Schedule, words: int, taps: int, *, single: bool) -> Schedule | None:
    """Return the schedule of nested weights for so many words of a channel; None where a tile has none.

    At most so many taps are spelled out, a loop's body as long as can be.
    """
    if (direct.rows, direct.pixels) not in TILES:
        return None
    loops = -(-words * 4 // taps)
    return replace(direct, unroll=words // loops, single=single, nested=True)


def nested_words(codes: NDArray[Any]) -> NDArray[np.uint32]:
    """Pack rows of weights whose groups of four are a of both half-words, then b of both.

    Parameters
    ----------
    codes : ndarray of int, shape (..., K)
        At least `LEAST`; K is a multiple of four.

    Returns
    -------
    ndarray of uint32, shape (..., K / 4)
    """
    fours = np.asarray(codes).astype(np.int64).reshape(*codes.shape[:-1], -1, 2, 2)
    halves = fours[..., 0, :] * 256 + fours[..., 1, :]
    words: NDArray[np.uint32] = np.ascontiguousarray(halves.astype(np.int16)).view(np.uint32)[..., 0]
    return words


def lacking(column: NDArray[Any]) -> NDArray[np.int64]:
    """Return what the sums of rows of weights lack, which are ordered as `nested_words` has them."""
    fours = column.astype(np.int64).reshape(len(column), -1, 2, 2)
    sums: NDArray[np.int64] = LEAD * fours[:, :, 0].sum(axis=(1, 2))
    return sums
