"""What every arithmetic's layer normalization begins with.

With codes x of C channels, s their sum and ss the sum of their squares, the zero point cancels: the normalized value is
(C x - s) / sqrt(C ss - s^2 + epsilon C^2 / scale^2). Sums are exact integers. Where the mean is not taken out, x is the
code less its zero point, and s is 0.
"""

import numpy as np

from tapc.base.arithmetic.interface import Ints

VARIANCE = "uint64_t v = (uint64_t)(uint32_t)channels * (uint32_t)squares - (uint64_t)((int64_t)sum * sum)"
"""C of C ss - s^2, which needs 64 bits."""
SUMS = ("int32_t sum", "int32_t squares", "int32_t channels")
RANGE = ("int32_t zero", "int32_t low", "int32_t high")


def spread(x: Ints, *, mean: bool = True) -> tuple[Ints, Ints]:
    """Return C x - s and C ss - s^2 over the last axis; where the mean stays, s is 0."""
    channels = x.shape[-1]
    total = x.sum(axis=-1, keepdims=True) if mean else np.zeros_like(x[..., :1])
    return channels * x - total, channels * np.square(x).sum(axis=-1, keepdims=True) - total * total


def added_variance(channels: int, epsilon: float, scale: float) -> np.float32:
    """Return epsilon C^2 / scale^2."""
    return np.float32(epsilon * channels**2 / np.float64(scale) ** 2)
