"""Layer normalization in exact arithmetic that the firmware and the reference executor share.

With codes x of C channels, s their sum and ss the sum of their squares, the zero point cancels: the normalized value is
(C x - s) / sqrt(C ss - s^2 + epsilon C^2 / scale^2). Sums are exact integers in both modes. `float` mode takes the
square root, its inverse and the scale and shift per channel in float32, each operation rounded once; `fixed` mode takes
an integer square root of 62 bits, a normalized value with 12 fractional bits and 32-bit products.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints, Mode
from tapc.base.errors import RangeError

FRACTION = 12
_ROOM = 2**29
_SHIFT = 49


@dataclass(frozen=True)
class NormFactors:
    """What a normalization multiplies with.

    Attributes
    ----------
    mode : {"float", "fixed"}
    epsilon : float or int
        epsilon C^2 / scale^2 as float32, or at least 1 as an int32.
    gain, offset : ndarray, shape (C,)
        Scale and shift per channel in units of the output's codes: float32, or int32 with `shift` fractional bits
        less `FRACTION` and half a code added to the offset.
    shift : int
        Right shift in fixed mode, 0 otherwise.
    """

    mode: Mode
    epsilon: float
    gain: NDArray[Any]
    offset: NDArray[Any]
    shift: int


def norm_factors(
    gain: NDArray[np.float32], offset: NDArray[np.float32], epsilon: float, scale: float, mode: Mode
) -> NormFactors:
    """Encode a normalization.

    Parameters
    ----------
    gain, offset : ndarray of float32, shape (C,)
        Scale and shift per channel over the scale of the output.
    epsilon : float
        What is added to the variance.
    scale : float
        Of the input.
    mode : {"float", "fixed"}
    """
    channels = len(gain)
    added = np.float32(epsilon * channels**2 / np.float64(scale) ** 2)
    if mode == "float":
        return NormFactors(mode, float(added), gain.astype(np.float32), offset.astype(np.float32), 0)
    largest = max(float(np.abs(gain).max()), 1e-30)
    limit = _ROOM / (math.sqrt(channels) * 2**FRACTION + 1)
    room = _ROOM / max(float(np.abs(offset).max()), 1.0)
    shift = min(30, FRACTION + math.floor(math.log2(limit / largest)), math.floor(math.log2(room)))
    if shift < 1:
        raise RangeError(f"a normalization's scale of {largest} codes is out of range for fixed point")
    whole = np.rint(gain.astype(np.float64) * 2.0 ** (shift - FRACTION)).astype(np.int32)
    half = np.rint(offset.astype(np.float64) * 2.0**shift) + 2 ** (shift - 1)
    return NormFactors(mode, min(max(1, round(float(added))), 2**31 - 1), whole, half.astype(np.int32), shift)


def normalize(x: Ints, f: NormFactors, zero: int, low: int, high: int) -> Ints:
    """Normalize codes over their last axis.

    Parameters
    ----------
    x : ndarray of int64, shape (..., C)
        8-bit codes.
    f : NormFactors
    zero, low, high : int
        Zero point and clamp bounds of the output.
    """
    channels = x.shape[-1]
    total = x.sum(axis=-1, keepdims=True)
    variance = channels * np.square(x).sum(axis=-1, keepdims=True) - total * total
    centred = channels * x - total
    if f.mode == "float":
        root = np.sqrt(variance.astype(np.float32) + np.float32(f.epsilon))
        value = centred.astype(np.float32) * (np.float32(1) / root) * f.gain + f.offset
        clipped = np.rint(np.clip(value, np.float32(low - zero), np.float32(high - zero)))
        code: Ints = clipped.astype(np.int64) + zero
        return code
    inverse, shift = np.frompyfunc(_inverse, 1, 2)(variance + int(f.epsilon))
    inverse, shift = inverse.astype(np.int64), shift.astype(np.int64)
    normal = (centred * inverse + (np.int64(1) << (shift - 1))) >> shift
    fixed: Ints = np.clip(((normal * f.gain + f.offset) >> f.shift) + zero, low, high)
    return fixed


def _inverse(value: int) -> tuple[int, int]:
    """Return 1 / sqrt(value) as a mantissa below 2^31 and the shift that leaves `FRACTION` bits."""
    value, steps = int(value), 0
    while value < 1 << 60:
        value, steps = value << 2, steps + 1
    return min((1 << 61) // math.isqrt(value), 2**31 - 1), _SHIFT - steps
