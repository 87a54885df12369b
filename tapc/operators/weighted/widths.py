"""Which widths a layer's weights prove sufficient for its sums, for every input."""

import numpy as np
from numpy.typing import NDArray

from tapc.ir.program import Tensor
from tapc.operators.weighted.layer import Weighted


def fits_shifted(op: Weighted, x: Tensor, shift: int) -> bool:
    """Whether 2^shift times every accumulator stays within 32 bits."""
    weights = op.weights.reshape(len(op.bias), -1).astype(np.int64)
    ends = np.stack([weights * (x.low - x.zero), weights * (x.high - x.zero)])
    least, most = ends.min(axis=0).sum(axis=1) + op.bias, ends.max(axis=0).sum(axis=1) + op.bias
    fits = max(int(most.max()), int(-least.min())) << shift < 2**31
    # The ratios divided by 2^shift must stay within what fixed point can express.
    return fits and float(op.ratios.min()) >= 2.0 ** (shift - 31)


def top_run(op: Weighted, x: Tensor, per_word: int, shift: int, order: NDArray[np.int64]) -> int:
    """Return how many weight words may be summed up at the top of an accumulator, 2^shift times their sum; 0 for all.

    Parameters
    ----------
    op : Weighted
    x : Tensor
        Its input.
    per_word : int
        Weights of a word.
    shift : int
    order : ndarray of int64
        Tap at each place of the packed weights, -1 for none.
    """
    if shift == 0 or fits_shifted(op, x, shift):
        return 0
    taps = op.weights.reshape(len(op.bias), -1)
    packed = np.where(order >= 0, taps[:, np.maximum(order, 0)], 0)
    return _longest_run(packed, x, per_word, max(len(order) // per_word, 1), 32 - shift)


def packed_run(op: Weighted, x: Tensor, per_word: int) -> int:
    """Return the largest number of weight words, a divisor of a channel's, that sum up within 16 bits; 0 for none.

    Parameters
    ----------
    op : Weighted
    x : Tensor
        Its input; products are those of its codes, zero point included.
    per_word : int
        Weights of a word.
    """
    taps = op.weights.reshape(len(op.bias), -1)
    return _longest_run(taps, x, per_word, -(-taps.shape[1] // per_word), 16)


def _longest_run(packed: NDArray[np.int8], x: Tensor, per_word: int, words: int, bits: int) -> int:
    """Return the largest divisor of `words` for which the sum of every run of so many words fits `bits`; or 0."""
    weights = np.pad(packed.astype(np.int64), ((0, 0), (0, -packed.shape[1] % per_word)))
    ends = np.stack([weights * x.low, weights * x.high])
    least, most = (v.reshape(len(packed), -1, per_word).sum(axis=2) for v in (ends.min(axis=0), ends.max(axis=0)))
    for run in (n for n in range(words, 0, -1) if words % n == 0):
        rest = ((0, 0), (0, -least.shape[1] % run))
        low, high = (np.pad(v, rest).reshape(len(packed), -1, run).sum(axis=2) for v in (least, most))
        if low.min() >= -(1 << (bits - 1)) and high.max() < 1 << (bits - 1):
            return run
    return 0
