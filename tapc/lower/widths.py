"""Which widths a layer's weights prove sufficient for its sums, for every input."""

import numpy as np

from tapc.lower.program import Conv, Tensor


def fits_shifted(op: Conv, x: Tensor, shift: int) -> bool:
    """Whether 2^shift times every accumulator stays within 32 bits."""
    weights = op.weights.reshape(len(op.bias), -1).astype(np.int64)
    ends = np.stack([weights * (x.low - x.zero), weights * (x.high - x.zero)])
    least, most = ends.min(axis=0).sum(axis=1) + op.bias, ends.max(axis=0).sum(axis=1) + op.bias
    fits = max(int(most.max()), int(-least.min())) << shift < 2**31
    # The ratios divided by 2^shift must stay within what fixed point can express.
    return fits and float(op.ratios.min()) >= 2.0 ** (shift - 31)


def packed_run(op: Conv, x: Tensor, per_word: int) -> int:
    """Return the largest number of weight words, a divisor of a channel's, that sum up within 16 bits; 0 for none.

    Parameters
    ----------
    op : Conv
    x : Tensor
        Its input; products are those of its codes, zero point included.
    per_word : int
        Weights of a word.
    """
    weights = op.weights.reshape(len(op.bias), -1).astype(np.int64)
    weights = np.pad(weights, ((0, 0), (0, -weights.shape[1] % per_word)))
    words = weights.shape[1] // per_word
    ends = np.stack([weights * x.low, weights * x.high])
    least, most = (v.reshape(len(op.bias), words, per_word).sum(axis=2) for v in (ends.min(axis=0), ends.max(axis=0)))
    for run in (n for n in range(words, 0, -1) if words % n == 0):
        low, high = (v.reshape(len(op.bias), -1, run).sum(axis=2) for v in (least, most))
        if low.min() >= -(1 << 15) and high.max() < 1 << 15:
            return run
    return 0
