"""Exact integer arithmetic that the firmware and the reference executor share.

Arithmetics differ in how they round: `float` serves cores with an FPU, `fixed` those without one. What they are is
`interface`, each is a file of `modes`; softmax and sums in three integer operations are the same in all of them.
The functions here ask the arithmetic whose name they are given, or which made the factors.
"""

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import modes as modes  # they register themselves
from tapc.base.arithmetic.interface import (
    AddFactors,
    Arithmetic,
    Ints,
    Mode,
    Multipliers,
    NormFactors,
    Quantization,
    arithmetic_of,
    arithmetics,
)
from tapc.base.arithmetic.softmax import softmax, softmax_table
from tapc.base.arithmetic.sums import FAR, LinearAdd, linear_add
from tapc.base.errors import RangeError

__all__ = [
    "FAR", "AddFactors", "Arithmetic", "Ints", "LinearAdd", "Mode", "Multipliers", "NormFactors", "Quantization",
    "add", "add_factors", "arithmetic_of", "arithmetics", "linear_add", "multipliers", "norm_factors", "normalize",
    "requantize", "softmax", "softmax_table",
]  # fmt: skip


def multipliers(ratios: NDArray[np.float32], mode: Mode) -> Multipliers:
    """Encode float32 ratios for a mode.

    Parameters
    ----------
    ratios : ndarray of float32
        Positive scale ratios.
    mode : Mode

    Raises
    ------
    ValueError
        If a ratio is not positive and finite.
    """
    ratios = np.asarray(ratios, np.float32)
    if not (np.all(np.isfinite(ratios)) and np.all(ratios > 0)):
        raise RangeError("requantization ratios must be positive and finite")
    return arithmetic_of(mode).multipliers(ratios)


def requantize(acc: Ints, m: Multipliers, zero: int, low: int, high: int) -> Ints:
    """Scale accumulators to the output's codes.

    Parameters
    ----------
    acc : ndarray of int64, shape (..., channels)
        Values that fit int32.
    m : Multipliers
        Broadcast against the last axis.
    zero, low, high : int
        Zero point and clamp bounds of the output.
    """
    return arithmetic_of(m.mode).requantize(acc, m, zero, low, high)


def add_factors(a: Quantization, b: Quantization, y: Quantization, mode: Mode) -> AddFactors:
    """Encode an addition from the (scale, zero point) of its operands and result.

    Raises
    ------
    ValueError
        No factors give all sums within one step of their real value and of their value in float32.
    """
    f: AddFactors = arithmetic_of(mode).add_factors(a, b, y)
    return f


def add(a: Ints, b: Ints, f: AddFactors, zero: int, low: int, high: int) -> Ints:
    """Add two code arrays.

    Parameters
    ----------
    a, b : ndarray of int64
    f : AddFactors
    zero, low, high : int
        Zero point, which was already given to `add_factors`, and clamp bounds of the result.
    """
    return arithmetic_of(f.mode).add(a, b, f, zero, low, high)


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
    mode : Mode
    """
    return arithmetic_of(mode).norm_factors(gain, offset, epsilon, scale)


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
    return arithmetic_of(f.mode).normalize(x, f, zero, low, high)
