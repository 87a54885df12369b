"""`float`: the arithmetic of cores with an FPU, equal to onnxruntime's QLinear kernels.

The int32 accumulator is converted to float32, multiplied by a float32 and rounded half to even. An addition is two
fused multiply-adds. A normalization takes the square root, its inverse and the scale and shift per channel in float32,
each operation rounded once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.interface import AddFactors, Ints, Multipliers, NormFactors, Part, register_arithmetic
from tapc.base.arithmetic.intrinsic import CLAMP, Intrinsic
from tapc.base.arithmetic.normalization import RANGE, SUMS, VARIANCE, added_variance, spread
from tapc.base.arithmetic.smm import SMM
from tapc.base.arithmetic.sums import RatioSums


@dataclass(frozen=True)
class FloatSum(AddFactors):
    """Factors of an addition, as onnxruntime's QLinearAdd has them.

    Attributes
    ----------
    a, b : float
        float32 ratios a_scale/y_scale and b_scale/y_scale.
    offset : float
        zy - (ra * za + rb * zb), all float32: what is added before rounding.
    """

    a: float
    b: float
    offset: float

    @property
    def ratios(self) -> tuple[float, float]:
        """The scales of a and b over that of the result."""
        return self.a, self.b

    def scalars(self, zero: int) -> dict[str, float]:
        return {"a": self.a, "b": self.b, "offset": self.offset}


def _requant_float(acc: int, scale: float, zero: int, low: int, high: int) -> int:
    scaled = np.float32(acc) * np.float32(scale)
    return int(np.clip(np.rint(scaled) + zero, low, high))


_FULL = (
    "float f = (float)acc * scale, a = (float)({low} - zero), b = (float)({high} - zero);"
    " f = f < a ? a : (f > b ? b : f); return (int32_t)lrintf(f) + zero;"
)


def _full(saturate: str, bits: int) -> str:
    """Round, add the zero point and saturate; VCVTR and QADD saturate too, so that no sum wraps around."""
    return (
        "float f = (float)acc * scale; int32_t q;"
        ' __asm__("vcvtr.s32.f32 %0, %0\\n\\tvmov %1, %0\\n\\tqadd %1, %1, %2\\n\\t'
        f'{saturate} %1, #{bits}, %1" : "+&t"(f), "=&r"(q) : "r"(zero)); return q;'
    )


_SCALED = "float f = (float)centred * inverse; f = f * gain; f = f + offset; "

INTRINSICS: dict[Part, tuple[Intrinsic, ...]] = {
    "requantize": (
        Intrinsic(
            "t_requant_float", "int32_t",
            ("int32_t acc", "float scale", "int32_t zero", "int32_t low", "int32_t high"), _requant_float,
            "float f = (float)acc * scale, a = (float)(low - zero), b = (float)(high - zero);"
            " f = f < a ? a : (f > b ? b : f); return (int32_t)lrintf(f) + zero;",
            fpu='float f = (float)acc * scale; int32_t q;'
            ' __asm__("vcvtr.s32.f32 %0, %0\\n\\tvmov %1, %0" : "+t"(f), "=r"(q));'
            " low -= zero; high -= zero; q = q < low ? low : (q > high ? high : q); return q + zero;",
        ),
        Intrinsic(
            "t_requant_float8", "int32_t", ("int32_t acc", "float scale", "int32_t zero"),
            lambda acc, scale, zero: _requant_float(acc, scale, zero, -128, 127),
            _FULL.format(low=-128, high=127),
            fpu=_full("ssat", 8),
        ),
        Intrinsic(
            "t_requant_float4", "int32_t", ("int32_t acc", "float scale", "int32_t zero"),
            lambda acc, scale, zero: _requant_float(acc, scale, zero, 0, 15),
            _FULL.format(low=0, high=15),
            fpu=_full("usat", 4),
        ),
        *SMM,
    ),
    "add": (
        Intrinsic(
            "t_add_float", "int32_t",
            ("int32_t a", "int32_t b", "float fa", "float fb", "float offset", "int32_t low", "int32_t high"), None,
            "float f = fmaf((float)b, fb, fmaf((float)a, fa, offset)), l = (float)low, h = (float)high;"
            " f = f < l ? l : (f > h ? h : f); return (int32_t)lrintf(f);",
            fpu='float f = offset, p = (float)a, s = (float)b; int32_t q;'
            ' __asm__("vfma.f32 %0, %2, %4\\n\\tvfma.f32 %0, %3, %5\\n\\tvcvtr.s32.f32 %0, %0\\n\\tvmov %1, %0"'
            ' : "+&t"(f), "=r"(q) : "t"(p), "t"(s), "t"(fa), "t"(fb)); ' + CLAMP,
        ),
    ),
    "normalize": (
        Intrinsic(
            "t_norm_inverse", "float", (*SUMS, "float epsilon"), None,
            f"{VARIANCE}; return 1.0f / sqrtf((float)v + epsilon);",
            # Alone GCC would call sqrtf for the errno of negative arguments.
            fpu=f'{VARIANCE}; float f = (float)v + epsilon; __asm__("vsqrt.f32 %0, %0" : "+t"(f)); return 1.0f / f;',
        ),
        Intrinsic(
            "t_norm_float", "int32_t",
            ("int32_t centred", "float inverse", "float gain", "float offset", *RANGE), None,
            f"{_SCALED}float a = (float)(low - zero), b = (float)(high - zero);"
            " f = f < a ? a : (f > b ? b : f); return (int32_t)lrintf(f) + zero;",
            fpu=f'{_SCALED}int32_t q; __asm__("vcvtr.s32.f32 %0, %0\\n\\tvmov %1, %0" : "+t"(f), "=r"(q));'
            " low -= zero; high -= zero; q = q < low ? low : (q > high ? high : q); return q + zero;",
        ),
    ),
}  # fmt: skip


@register_arithmetic
class Float32(RatioSums[FloatSum]):
    """Factors and sums in float32."""

    name = "float"
    number = "float32"
    words = 1
    saturating = True
    float_products = True
    lanes = "t_requant4"
    sum_scalars = ("a", "b", "offset")
    norm_inverse = "t_norm_inverse"
    intrinsics = INTRINSICS

    def multipliers(self, ratios: NDArray[np.float32]) -> Multipliers:
        return Multipliers(self.name, ratios, np.zeros(ratios.shape, np.int32))

    def constant(self, m: Multipliers) -> NDArray[np.float32]:
        return m.factor

    def requantize(self, acc: Ints, m: Multipliers, zero: int, low: int, high: int) -> Ints:
        with np.errstate(over="ignore"):  # infinity is clamped
            scaled = acc.astype(np.int32).astype(np.float32) * m.factor
        return _rounded(scaled, zero, low, high)

    def encode_sum(self, ratio_a: np.float32, ratio_b: np.float32, zeros: tuple[int, int, int]) -> FloatSum:
        f32 = np.float32
        offset = f32(zeros[2]) - (ratio_a * f32(zeros[0]) + ratio_b * f32(zeros[1]))
        return FloatSum(self.name, float(ratio_a), float(ratio_b), float(offset))

    def add(self, a: Ints, b: Ints, f: FloatSum, zero: int, low: int, high: int) -> Ints:
        # Products of 9-bit integers and 24-bit floats, and their sums, are exact in float64 at these magnitudes:
        # rounding once to float32 is what a fused multiply-add does. The offset holds the zero point.
        first = (a * np.float64(f.a) + np.float64(f.offset)).astype(np.float32)
        total = (b * np.float64(f.b) + first.astype(np.float64)).astype(np.float32)
        return _rounded(total, 0, low, high)

    def norm_factors(
        self, gain: NDArray[np.float32], offset: NDArray[np.float32], epsilon: float, scale: float
    ) -> NormFactors:
        added = float(added_variance(len(gain), epsilon, scale))
        return NormFactors(self.name, added, gain.astype(np.float32), offset.astype(np.float32), 0)

    def normalize(self, x: Ints, f: NormFactors, zero: int, low: int, high: int, *, mean: bool = True) -> Ints:
        centred, variance = spread(x, mean=mean)
        root = np.sqrt(variance.astype(np.float32) + np.float32(f.epsilon))
        value = centred.astype(np.float32) * (np.float32(1) / root) * f.gain + f.offset
        return _rounded(value, zero, low, high)


def _rounded(value: NDArray[np.float32], zero: int, low: int, high: int) -> Ints:
    """Round half to even, to codes."""
    # Clamping before the conversion keeps huge products defined; the bounds are integers, so it commutes.
    clipped = np.clip(value, np.float32(low - zero), np.float32(high - zero))
    codes: Ints = np.rint(clipped).astype(np.int64) + zero
    return codes
