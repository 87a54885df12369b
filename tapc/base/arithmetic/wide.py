"""Integers of 16-bit codes that are those of TFLite in every arithmetic: long sums as codes, and sums of two codes.

Sums of products may take 64 bits. They are scaled by factors of 15 bits, which err by 2^-16 of what they scale at most.
Additions bring both operands to the larger scale first, with 15 fractional bits.
"""

from dataclasses import dataclass

import numpy as np

from tapc.base.arithmetic.gemmlowp import divide
from tapc.base.arithmetic.interface import Ints, Multipliers, Quantization, Ratios
from tapc.base.arithmetic.intrinsic import CLAMP, Intrinsic
from tapc.base.arithmetic.tflite_functions import encoded
from tapc.base.errors import RangeError

LEFT = 15  # fractional bits of an addition's operands
_MOST, _LONGEST = 0x7FFF0000, 46
_FAR = 1 << 30  # what is further is clamped anyway, and a zero point may be added to it
LONG = "long"
"""What features and factors of these long sums are called by, as others are by their arithmetic."""


def long_multipliers(ratios: Ratios) -> Multipliers:
    """Encode ratios of scales, positive and finite, as factors of 15 bits and right shifts.

    Raises
    ------
    RangeError
        A ratio is too large or too small.
    """
    factors, shifts = [], []
    for ratio in np.atleast_1d(ratios):
        if not (np.isfinite(ratio) and ratio > 0):
            raise RangeError("requantization ratios must be positive and finite")
        whole, right = encoded(float(ratio))
        if not 1 <= right - 16 <= _LONGEST:
            raise RangeError(f"a ratio of scales of {ratio:.3g} is beyond what 15 bits and a shift express")
        factors.append((whole + (1 << 15)) >> 16 if whole < _MOST else 0x7FFF)
        shifts.append(right - 16)
    return Multipliers(LONG, np.array(factors, np.int32), np.array(shifts, np.int32))


def long_words(m: Multipliers) -> Ints:
    """Return factors as kernels read them: a word of the factor, one of the shift."""
    return np.stack([m.factor, m.shift], axis=1).reshape(-1).astype(np.int32)


def long_requantize(acc: Ints, m: Multipliers, zero: int, low: int, high: int) -> Ints:
    """Scale sums of up to 47 bits to codes."""
    shift = m.shift.astype(np.int64)
    code: Ints = (acc * m.factor.astype(np.int64) + (np.int64(1) << (shift - 1))) >> shift
    return np.clip(code + zero, low, high)


@dataclass(frozen=True)
class WideSum:
    """Factors of an addition.

    Attributes
    ----------
    zeros : (int, int)
        Of the operands.
    factors, shifts : tuple of int
        Of a, b and the sum.
    """

    zeros: tuple[int, int]
    factors: tuple[int, int, int]
    shifts: tuple[int, int, int]

    def scalars(self) -> dict[str, int]:
        """Return what a kernel is given."""
        found = {"a_zero": self.zeros[0], "b_zero": self.zeros[1]}
        for name, factor, shift in zip(("a", "b", "sum"), self.factors, self.shifts, strict=True):
            found |= {f"{name}_factor": int(factor), f"{name}_shift": int(shift)}
        return found


def wide_sum(a: Quantization, b: Quantization, y: Quantization) -> WideSum:
    """Encode an addition of codes of up to 16 bits; RangeError where it would be lost in rounding."""
    scales = [np.float64(np.float32(scale)) for scale, _ in (a, b, y)]
    most = 2 * max(scales[:2])
    ratios = scales[0] / most, scales[1] / most, most / (2**LEFT * scales[2])
    if not (min(ratios) > 0 and ratios[2] < 1):
        raise RangeError(f"the scales {a[0]:.3g}, {b[0]:.3g} and {y[0]:.3g} are too far apart for an addition")
    (fa, sa), (fb, sb), (f, s) = (encoded(float(ratio)) for ratio in ratios)
    return WideSum((a[1], b[1]), (fa, fb, f), (sa, sb, s))


def _scaled(acc: Ints, factor: int, shift: int) -> Ints:
    return divide((acc * factor + (1 << 30)) >> 31, np.int64(shift - 31))


def wide_add(a: Ints, b: Ints, f: WideSum, zero: int, low: int, high: int, *, minus: bool = False) -> Ints:
    """Add codes, or take the second from the first."""
    total = _scaled((a - f.zeros[0]) << LEFT, f.factors[0], f.shifts[0])
    second = _scaled((b - f.zeros[1]) << LEFT, f.factors[1], f.shifts[1])
    total = total - second if minus else total + second
    return np.clip(_scaled(total, f.factors[2], f.shifts[2]) + zero, low, high)


_RANGE = ("int32_t zero", "int32_t low", "int32_t high")
_SUM = ("int32_t za", "int32_t zb", "int32_t fa", "int32_t ea", "int32_t fb", "int32_t eb", "int32_t f", "int32_t e")
WIDE_INTRINSICS: tuple[Intrinsic, ...] = (
    Intrinsic(
        "t_requant_long", "int32_t", ("int64_t acc", "int32_t factor", "int32_t shift", *_RANGE), None,
        "int32_t q = (int32_t)((acc * factor + ((int64_t)1 << (shift - 1))) >> shift) + zero; " + CLAMP,
        called=True,
    ),
    Intrinsic(
        "t_requant_far", "int32_t", ("int64_t acc", "int32_t factor", "int32_t shift", *_RANGE), None,
        "int64_t v = (acc * factor + ((int64_t)1 << (shift - 1))) >> shift; int32_t q = (int32_t)v;"
        f" if (q != v) q = v < 0 ? -{_FAR} : {_FAR}; if (q > {_FAR}) q = {_FAR}; if (q < -{_FAR}) q = -{_FAR};"
        " q += zero; " + CLAMP,
        called=True,
    ),
    *(Intrinsic(
        name, "int32_t", ("int32_t a", "int32_t b", *_SUM, *_RANGE), None,
        f"int32_t q = t_scale_tflite((a - za) * (1 << {LEFT}), fa, ea)"
        f" {sign} t_scale_tflite((b - zb) * (1 << {LEFT}), fb, eb); q = t_scale_tflite(q, f, e) + zero; " + CLAMP,
    ) for name, sign in (("t_add_wide", "+"), ("t_sub_wide", "-"))),
)  # fmt: skip
