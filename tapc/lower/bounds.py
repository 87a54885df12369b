"""What a layer's weights prove about its accumulators, for every input."""

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
