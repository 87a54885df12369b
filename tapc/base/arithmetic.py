"""Exact integer arithmetic that the firmware and the reference executor share.

Two modes of requantization exist. `float` serves cores with an FPU and equals onnxruntime's QLinear kernels:
the int32 accumulator is converted to float32, multiplied by a float32 and rounded half to even. `fixed` serves
cores without one: a 32-bit multiplier and a shift, rounded half up, in 64-bit integers.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import RangeError

Mode = Literal["float", "fixed"]
Ints = NDArray[np.int64]

FAR = 512.0  # times that an operand's scale exceeds the result's: a step then is more than all codes of the result
ADD_BITS = 20  # an int8 difference (9 bits) times a 21-bit multiplier, twice, stays within 31 bits


@dataclass(frozen=True)
class Multipliers:
    """Requantization factors, one per output channel (or tap count).

    Attributes
    ----------
    mode : {"float", "fixed"}
    factor : ndarray
        float32 factors, or int32 mantissas in [2^30, 2^31), 0 for ratios too small to count.
    shift : ndarray of int32
        Right shifts in fixed mode, zeros otherwise.
    """

    mode: Mode
    factor: NDArray[Any]
    shift: NDArray[np.int32]


def multipliers(ratios: NDArray[np.float32], mode: Mode) -> Multipliers:
    """Encode float32 ratios for a mode.

    Parameters
    ----------
    ratios : ndarray of float32
        Positive scale ratios.
    mode : {"float", "fixed"}

    Raises
    ------
    ValueError
        If a ratio is not positive and finite.
    """
    ratios = np.asarray(ratios, np.float32)
    if not (np.all(np.isfinite(ratios)) and np.all(ratios > 0)):
        raise RangeError("requantization ratios must be positive and finite")
    if mode == "float":
        return Multipliers(mode, ratios, np.zeros(ratios.shape, np.int32))
    factors, shifts = [], []
    for ratio in ratios.tolist():
        mantissa, exponent = math.frexp(ratio)
        factor = round(mantissa * 2**31)
        shift = 31 - exponent
        if shift > 62:
            factor, shift = 0, 62  # below 2^-32 every int32 scales to less than a half
        if shift < 1:
            factor, shift = 2**31 - 1, 1  # from 2^30 on, every accumulator but 0 goes beyond all codes
        factors.append(min(factor, 2**31 - 1))
        shifts.append(shift)
    return Multipliers(mode, np.array(factors, np.int32), np.array(shifts, np.int32))


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
    if m.mode == "float":
        with np.errstate(over="ignore"):  # infinity is clamped
            scaled = acc.astype(np.int32).astype(np.float32) * m.factor
        # Clamping before the conversion keeps huge products defined; the bounds are integers, so it commutes.
        code = np.rint(np.clip(scaled, np.float32(low - zero), np.float32(high - zero))).astype(np.int64)
        result: Ints = code + zero
        return result
    shift = m.shift.astype(np.int64)
    code = (acc * m.factor.astype(np.int64) + (np.int64(1) << (shift - 1))) >> shift
    fixed: Ints = np.clip(code + zero, low, high)
    return fixed


@dataclass(frozen=True)
class AddFactors:
    """Factors of a quantized addition.

    Attributes
    ----------
    mode : {"float", "fixed"}
    a, b : float or int
        float32 ratios a_scale/y_scale and b_scale/y_scale, or integers with a common shift.
    offset : float or int
        What is added before rounding: zero points folded in.
    shift : int
        Right shift in fixed mode, 0 otherwise.
    """

    mode: Mode
    a: float
    b: float
    offset: float
    shift: int


def add_factors(a: tuple[float, int], b: tuple[float, int], y: tuple[float, int], mode: Mode) -> AddFactors:
    """Encode an addition from the (scale, zero point) of its operands and result.

    The float form is onnxruntime's QLinearAdd: offset = zy - (ra * za + rb * zb), all float32, then two fused
    multiply-adds. The fixed form folds the zero points into one int32 offset.

    Where an operand's scale is more than `FAR` times the result's, the zero points would drown in the rounding of the
    offset. A step of such an operand leaves the result's codes, so that a smaller ratio gives the same codes: one is
    taken that is proved for every pair of codes.

    Raises
    ------
    ValueError
        No factors give all sums within one step of their real value and of their value in float32.
    """
    f32 = np.float32
    ratio_a, ratio_b = f32(a[0]) / f32(y[0]), f32(b[0]) / f32(y[0])
    if not (0 < ratio_a < np.inf and 0 < ratio_b < np.inf):
        raise RangeError(f"the scales {a[0]:.3g}, {b[0]:.3g} and {y[0]:.3g} are too far apart for float32")
    if max(ratio_a, ratio_b) > FAR:
        return _far_factors(a, b, y, mode)
    return _encoded(ratio_a, ratio_b, (a[1], b[1], y[1]), mode)


def _encoded(ratio_a: np.float32, ratio_b: np.float32, zeros: tuple[int, int, int], mode: Mode) -> AddFactors:
    """Encode an addition from its ratios and the zero points of a, b and y."""
    f32 = np.float32
    if mode == "float":
        offset = f32(zeros[2]) - (ratio_a * f32(zeros[0]) + ratio_b * f32(zeros[1]))
        return AddFactors(mode, float(ratio_a), float(ratio_b), float(offset), 0)
    _, exponent = math.frexp(max(float(ratio_a), float(ratio_b)))
    shift = min(ADD_BITS - exponent, 30)  # below 2^-10, sums of all codes stay below a half
    factor_a, factor_b = round(float(ratio_a) * 2**shift), round(float(ratio_b) * 2**shift)
    # |a - za| <= 255, so the sum of both products and the rounding term fits int32; the offset is exact.
    offset_fixed = (1 << (shift - 1)) - factor_a * zeros[0] - factor_b * zeros[1]
    return AddFactors(mode, factor_a, factor_b, offset_fixed, shift)


@functools.lru_cache(maxsize=64)
def _far_factors(a: tuple[float, int], b: tuple[float, int], y: tuple[float, int], mode: Mode) -> AddFactors:
    """Encode an addition of which some operand's scale is far above the result's; as `add_factors`."""
    codes = np.arange(-128, 128)
    left, right = np.meshgrid(codes, codes, indexing="ij")
    scales = [np.float32(scale) for scale, _ in (a, b, y)]
    real = (left - a[1]) * np.float64(scales[0]) + (right - b[1]) * np.float64(scales[1])
    single = (left - a[1]).astype(np.float32) * scales[0] + (right - b[1]).astype(np.float32) * scales[1]
    exact = np.clip(real / np.float64(scales[2]) + y[1], -128, 127)
    rounded = np.clip(np.rint(single / scales[2]) + y[1], -128, 127)
    ratios = np.array([scales[0] / scales[2], scales[1] / scales[2]], np.float32)
    least = np.minimum(ratios, FAR)
    near = float(least.min())
    candidates = [
        ratios,
        ratios * np.float32(FAR / float(ratios.max())),
        np.where(ratios == ratios.max(), np.minimum(ratios, 255 * near + FAR), least),
        *(ratios * np.float32(2.0**power / float(ratios.max())) for power in (11, 13, 15, 17)),
    ]
    zeros = (a[1], b[1], y[1])
    for one, other in (c.astype(np.float32) for c in candidates):
        if mode == "fixed" and max(one, other) >= 2.0 ** (ADD_BITS - 1):
            continue
        f = _encoded(one, other, zeros, mode)
        got = add(left, right, f, y[1], -128, 127)
        if max(np.abs(got - exact).max(), np.abs(got - rounded).max()) <= 1:
            return f
    raise RangeError(
        f"the operands' scales are {ratios[0]:.3g} and {ratios[1]:.3g} times the result's: their sums would be lost in "
        "rounding"
    )


def add(a: Ints, b: Ints, f: AddFactors, zero: int, low: int, high: int) -> Ints:
    """Add two code arrays; `zero` is the result's zero point (already inside the float offset)."""
    if f.mode == "float":
        # Products of 9-bit integers and 24-bit floats, and their sums, are exact in float64 at these magnitudes:
        # rounding once to float32 is what a fused multiply-add does.
        first = (a * np.float64(f.a) + np.float64(f.offset)).astype(np.float32)
        total = (b * np.float64(f.b) + first.astype(np.float64)).astype(np.float32)
        return np.rint(np.clip(total, np.float32(low), np.float32(high))).astype(np.int64)
    total_fixed = a * int(f.a) + b * int(f.b) + int(f.offset)
    fixed: Ints = np.clip((total_fixed >> f.shift) + zero, low, high)
    return fixed


@dataclass(frozen=True)
class LinearAdd:
    """An addition in three integer operations: clip((a * factor_a + b * factor_b + offset) >> shift).

    Attributes
    ----------
    factor_a, factor_b, offset, shift : int
    """

    factor_a: int
    factor_b: int
    offset: int
    shift: int


@functools.lru_cache(maxsize=1024)
def linear_add(
    f: AddFactors, a: tuple[int, int], b: tuple[int, int], zero: int, low: int, high: int
) -> LinearAdd | None:
    """Find an integer form that gives what `add` gives for every pair of codes, or None.

    For given factors, each pair bounds the offset from below or above (clipped results only from one side): the form
    is exact if the tightest bounds leave an integer between them.

    Parameters
    ----------
    f : AddFactors
    a, b : tuple of int
        Lowest and highest code of the operands.
    zero, low, high : int
        The result's zero point and range.
    """
    left, right = (np.arange(ends[0], ends[1] + 1, dtype=np.int64) for ends in (a, b))
    expected = add(left[:, None], right[None, :], f, zero, low, high)
    scale = 2.0**-f.shift if f.mode == "fixed" else 1.0
    ratio_a, ratio_b = f.a * scale, f.b * scale
    extent = max(abs(v) for v in (*a, *b, low, high)) + 1
    finest = 30 - math.frexp(extent * (ratio_a + ratio_b + 1))[1]
    for shift in range(min(finest, 24), 7, -1):
        unit = 1 << shift
        for factor_a in {math.floor(ratio_a * unit), math.ceil(ratio_a * unit)}:
            for factor_b in {math.floor(ratio_b * unit), math.ceil(ratio_b * unit)}:
                total = left[:, None] * factor_a + right[None, :] * factor_b
                least = np.where(expected > low, expected * unit - total, np.iinfo(np.int64).min).max()
                most = np.where(expected < high, (expected + 1) * unit - 1 - total, np.iinfo(np.int64).max).min()
                bound = (1 << 31) - 1 - int(np.abs(total).max())
                offset = max(int(least), -bound)
                if offset <= min(int(most), bound):
                    return LinearAdd(factor_a, factor_b, offset, shift)
    return None


def softmax_table(scale: float, classes: int, span: int = 256) -> NDArray[np.uint32]:
    """Tabulate exp(-scale * d) for differences d = 0..span-1 so that a sum over `classes` entries fits 31 bits."""
    top = min(2**22, 2**31 // max(classes, 1))
    table: NDArray[np.uint32] = np.rint(top * np.exp(-np.float64(np.float32(scale)) * np.arange(span))).astype(
        np.uint32
    )
    return table


def softmax(x: Ints, table: NDArray[np.uint32], levels: int, zero: int, low: int, high: int) -> Ints:
    """Quantized softmax over the last axis with output scale 1 / levels, in integers only."""
    terms = table.astype(np.int64)[x.max(axis=-1, keepdims=True) - x]
    total = terms.sum(axis=-1, keepdims=True)
    codes: Ints = np.clip((terms * levels + total // 2) // total + zero, low, high)
    return codes
