"""Exact integer arithmetic that the firmware and the reference executor share.

Arithmetics differ in how they round: `float` serves cores with an FPU, `fixed` those without one. What they are is
`interface`, each is a file of `modes`; softmax by a ratio and sums in three integer operations are the same in all.
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
    Ratios,
    Values,
    arithmetic_of,
    arithmetics,
)
from tapc.base.arithmetic.softmax import RATIO, SoftmaxForm, softmax, softmax_form, softmax_table
from tapc.base.arithmetic.sums import FAR, LinearAdd, linear_add
from tapc.base.errors import RangeError

__all__ = [
    "FAR", "RATIO", "AddFactors", "Arithmetic", "Ints", "LinearAdd", "Mode", "Multipliers", "NormFactors",
    "Quantization", "Ratios", "SoftmaxForm", "Values", "add", "add_factors", "arithmetic_of", "arithmetics",
    "linear_add", "mean_multipliers", "multipliers", "norm_factors", "normalize", "requantize", "softmax",
    "softmax_form", "softmax_table",
]  # fmt: skip


def multipliers(ratios: Ratios, mode: Mode) -> Multipliers:
    """Encode ratios of scales for a mode.

    Parameters
    ----------
    ratios : ndarray
        Positive, in the precision of the arithmetic; see `Arithmetic.ratios`.
    mode : Mode

    Raises
    ------
    ValueError
        If a ratio is not positive and finite.
    """
    return arithmetic_of(mode).multipliers(_checked(ratios, mode))


def mean_multipliers(ratios: Ratios, mode: Mode) -> Multipliers:
    """Encode what scales sums to means, `ratios[n - 1]` those of n codes; as `multipliers`."""
    return arithmetic_of(mode).mean_multipliers(_checked(ratios, mode))


def _checked(ratios: Ratios, mode: Mode) -> Ratios:
    ratios = np.asarray(ratios, arithmetic_of(mode).precision)
    if not (np.all(np.isfinite(ratios)) and np.all(ratios > 0)):
        raise RangeError("requantization ratios must be positive and finite")
    return ratios


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


def normalize(x: Ints, f: NormFactors, zero: int, low: int, high: int, *, mean: bool = True) -> Ints:
    """Normalize codes over their last axis.

    Parameters
    ----------
    x : ndarray of int64, shape (..., C)
        8-bit codes; less their zero point where the mean stays.
    f : NormFactors
    zero, low, high : int
        Zero point and clamp bounds of the output.
    mean : bool
        The mean is taken out.
    """
    return arithmetic_of(f.mode).normalize(x, f, zero, low, high, mean=mean)
