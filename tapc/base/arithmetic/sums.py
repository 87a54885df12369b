"""Quantized additions: from the ratios of their scales, and in three integer operations where these are exact."""

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tapc.base.arithmetic.interface import AddFactors, AddT, Arithmetic, Quantization, arithmetic_of
from tapc.base.errors import RangeError

FAR = 512.0  # times that an operand's scale exceeds the result's: a step then is more than all codes of the result


class RatioSums(Arithmetic[AddT]):
    """An arithmetic whose additions are made of the ratios of their scales.

    Where an operand's scale is more than `FAR` times the result's, the zero points would drown in the rounding of what
    is added before rounding. A step of such an operand leaves the result's codes, so that a smaller ratio gives the
    same codes: one is taken that is proved for every pair of codes.

    Attributes
    ----------
    largest_ratio : float
        Ratios of so much and more cannot be encoded.
    """

    largest_ratio: ClassVar[float] = math.inf

    def encode_sum(self, ratio_a: np.float32, ratio_b: np.float32, zeros: tuple[int, int, int]) -> AddT:
        """Encode an addition from its ratios and the zero points of a, b and y."""
        raise NotImplementedError

    def add_factors(self, a: Quantization, b: Quantization, y: Quantization) -> AddT:
        """Encode an addition; RangeError where it would be lost in rounding."""
        f32 = np.float32
        ratio_a, ratio_b = f32(a[0]) / f32(y[0]), f32(b[0]) / f32(y[0])
        if not (0 < ratio_a < np.inf and 0 < ratio_b < np.inf):
            raise RangeError(f"the scales {a[0]:.3g}, {b[0]:.3g} and {y[0]:.3g} are too far apart for float32")
        if max(ratio_a, ratio_b) > FAR:
            far: AddT = _far_factors(self, a, b, y)
            return far
        return self.encode_sum(ratio_a, ratio_b, (a[1], b[1], y[1]))


@functools.lru_cache(maxsize=64)
def _far_factors(arithmetic: RatioSums[Any], a: Quantization, b: Quantization, y: Quantization) -> Any:
    """Encode an addition of which some operand's scale is far above the result's."""
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
        if max(one, other) >= arithmetic.largest_ratio:
            continue
        f = arithmetic.encode_sum(one, other, zeros)
        got = arithmetic.add(left, right, f, y[1], -128, 127)
        if max(np.abs(got - exact).max(), np.abs(got - rounded).max()) <= 1:
            return f
    raise RangeError(
        f"the operands' scales are {ratios[0]:.3g} and {ratios[1]:.3g} times the result's: their sums would be lost in "
        "rounding"
    )


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
    expected = arithmetic_of(f.mode).add(left[:, None], right[None, :], f, zero, low, high)
    ratio_a, ratio_b = f.ratios
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
