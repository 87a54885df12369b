"""`fixed`: the arithmetic of cores without an FPU, in integers alone.

Accumulators take a 32-bit multiplier and a shift, rounded half up, in 64-bit integers. An addition has 32-bit products
with one common shift. A normalization takes an integer square root of 62 bits, a normalized value with 12 fractional
bits and 32-bit products.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.interface import AddFactors, Ints, Multipliers, NormFactors, Part, Quick, register_arithmetic
from tapc.base.arithmetic.intrinsic import CLAMP, Intrinsic
from tapc.base.arithmetic.normalization import RANGE, SUMS, VARIANCE, added_variance, spread
from tapc.base.arithmetic.sums import RatioSums
from tapc.base.errors import RangeError

ADD_BITS = 20  # an int8 difference (9 bits) times a 21-bit multiplier, twice, stays within 31 bits
FRACTION = 12  # fractional bits of a normalized value
PARTS = 10  # fractional bits of a small epsilon, which beside equal codes is all that there is
_ROOM = 2**29
_SHIFT = 49


@dataclass(frozen=True)
class FixedSum(AddFactors):
    """Factors of an addition.

    Attributes
    ----------
    a, b : int
        Ratios a_scale/y_scale and b_scale/y_scale, times 2^shift.
    offset : int
        What is added before the shift: zero points of the operands and half a code.
    shift : int
    """

    a: int
    b: int
    offset: int
    shift: int

    @property
    def ratios(self) -> tuple[float, float]:
        """The scales of a and b over that of the result."""
        return self.a * 2.0**-self.shift, self.b * 2.0**-self.shift

    def scalars(self, zero: int) -> dict[str, float]:
        return {"a": self.a, "b": self.b, "offset": self.offset, "shift": self.shift, "zero": zero}


def _requant_fixed(acc: int, factor: int, shift: int, zero: int, low: int, high: int) -> int:
    return min(max(((acc * factor + (1 << (shift - 1))) >> shift) + zero, low), high)


# Hacker's Delight, 8-2: four products of half-words.
HALVES = (
    "uint32_t a0 = (uint32_t)a & 0xFFFFu, b0 = (uint32_t)b & 0xFFFFu; int32_t a1 = a >> 16, b1 = b >> 16;"
    " int32_t t = (int32_t)((uint32_t)a1 * b0 + (a0 * b0 >> 16));"
    " int32_t u = (int32_t)(a0 * (uint32_t)b1 + ((uint32_t)t & 0xFFFFu));"
)


def _right(bits: int) -> Intrinsic:
    """Return what requantizes where a product's lower half is shifted out, to all codes of `bits` or a range."""
    parameters = ("int32_t acc", "int32_t factor", "int32_t shift", "int32_t zero")
    made = (
        "int32_t q = ((t_mulhi(acc, factor) >> (shift - 33)) + (int32_t)((uint32_t)zero * 2u + 1u)) >> 1; "
    )  # fmt: skip
    if not bits:
        bounded = (*parameters, "int32_t low", "int32_t high")
        return Intrinsic("t_requant_fixed_right", "int32_t", bounded, _requant_fixed, made + CLAMP)
    low, high, saturate = {8: (-128, 127, "ssat"), 4: (0, 15, "usat")}[bits]
    return Intrinsic(
        f"t_requant_fixed_right{bits}", "int32_t", parameters,
        lambda acc, factor, shift, zero: _requant_fixed(acc, factor, shift, zero, low, high),
        made + f"return q < {low} ? {low} : (q > {high} ? {high} : q);",
        dsp=made + f'__asm__("{saturate} %0, #{bits}, %0" : "+r"(q)); return q;',
    )  # fmt: skip


def _near(bits: int) -> Intrinsic:
    """Return what requantizes accumulators with what `t_near` makes of a factor, to codes as `_right`."""
    low, high = {8: ("-128", "127"), 4: ("0", "15"), 0: ("low", "high")}[bits]
    clamp = f"return q < {low} ? {low} : (q > {high} ? {high} : q);"
    few = {8: "return q == (int8_t)q ? q : (q >> 31) ^ 127;", 4: clamp, 0: clamp}[bits]
    ends = () if bits else ("int32_t low", "int32_t high")
    return Intrinsic(
        f"t_near_code{bits or ''}", "int32_t", ("int32_t acc", "const int32_t *parts", *ends), None,
        f"int32_t q = ((t_mulhi(acc, parts[0]) >> parts[1]) + parts[2]) >> 1; {clamp}",
        v6m="int32_t q = ((acc * parts[0] >> 12) + acc * parts[3] + parts[2]) >> parts[1]; " + few,
    )  # fmt: skip


INTRINSICS: dict[Part, tuple[Intrinsic, ...]] = {
    "requantize": (
        Intrinsic(
            "t_mulhi", "int32_t", ("int32_t a", "int32_t b"), lambda a, b: a * b >> 32,
            "return (int32_t)(((int64_t)a * b) >> 32);",
            v6m=f"{HALVES} return a1 * b1 + (t >> 16) + (u >> 16);",
        ),
        Intrinsic(
            "t_requant_large", "int32_t",
            ("int32_t acc", "int32_t factor", "int32_t shift", "int32_t zero", "int32_t low", "int32_t high"),
            _requant_fixed,
            # The product is clamped before it is narrowed: with ratios of a quarter and more it may not fit 32 bits.
            "int64_t q = (((int64_t)acc * factor + ((int64_t)1 << (shift - 1))) >> shift) + zero;"
            " return q < low ? low : (q > high ? high : (int32_t)q);",
            called=True,
        ),
        Intrinsic(
            "t_requant_fixed", "int32_t",
            ("int32_t acc", "int32_t factor", "int32_t shift", "int32_t zero", "int32_t low", "int32_t high"),
            _requant_fixed,
            "if (shift > 32) { int32_t q = ((t_mulhi(acc, factor) + (1 << (shift - 33))) >> (shift - 32)) + zero; "
            + CLAMP + " } return t_requant_large(acc, factor, shift, zero, low, high);",
        ),
        *(_right(bits) for bits in (0, 8, 4)),
        Intrinsic(
            "t_near", "void", ("int32_t factor", "int32_t shift", "int32_t zero", "int32_t *parts"), None,
            "parts[0] = factor; parts[1] = shift - 33; parts[2] = 2 * zero + 1; parts[3] = 0;",
            # The factor ends in seven zeros; what is shifted out below its upper twelve bits changes nothing above.
            v6m="parts[0] = (factor >> 7) & 4095; parts[1] = shift - 19;"
            " parts[2] = (int32_t)((uint32_t)(2 * zero + 1) << (shift - 20)); parts[3] = factor >> 19;",
        ),
        *(_near(bits) for bits in (0, 8, 4)),
    ),
    "add": (
        Intrinsic(
            "t_add_fixed", "int32_t",
            ("int32_t a", "int32_t b", "int32_t fa", "int32_t fb", "int32_t offset", "int32_t shift", "int32_t zero",
             "int32_t low", "int32_t high"), None,
            "int32_t q = ((a * fa + b * fb + offset) >> shift) + zero; " + CLAMP,
        ),
    ),
    "normalize": (
        Intrinsic(
            "t_norm_inverse_fixed", "void", (*SUMS, "int32_t epsilon", "int32_t *out"), None,
            f"{VARIANCE}; int32_t shift = {_SHIFT};"
            f" if (epsilon < 0) {{ v = (v << {PARTS}) + (uint32_t)-epsilon; shift -= {PARTS // 2}; }}"
            " else v += (uint32_t)epsilon;"
            " while (v < (uint64_t)1 << 60) { v <<= 2; shift--; }"
            " uint32_t root = 0; for (uint32_t bit = 1u << 30; bit; bit >>= 1) {"
            " uint32_t t = root | bit; if ((uint64_t)t * t <= v) root = t; }"
            " uint32_t r = (uint32_t)(((uint64_t)1 << 61) / root);"
            " out[0] = r > INT32_MAX ? INT32_MAX : (int32_t)r; out[1] = shift;",
        ),
        Intrinsic(
            "t_norm_fixed", "int32_t",
            ("int32_t centred", "int32_t inverse", "int32_t shift", "int32_t gain", "int32_t offset", "int32_t right",
             *RANGE), None,
            "int32_t n = (int32_t)(((int64_t)centred * inverse + ((int64_t)1 << (shift - 1))) >> shift);"
            " int32_t q = ((n * gain + offset) >> right) + zero; return q < low ? low : (q > high ? high : q);",
        ),
    ),
}  # fmt: skip


@register_arithmetic
class FixedPoint(RatioSums[FixedSum]):
    """Multipliers and shifts."""

    name = "fixed"
    number = "int32"
    words = 2
    sum_scalars: ClassVar[tuple[str, ...]] = ("a", "b", "offset", "shift", "zero")
    norm_inverse = "t_norm_inverse_fixed"
    norm_words = 2
    norm_scalars = ("shift",)
    intrinsics = INTRINSICS
    largest_ratio = 2.0 ** (ADD_BITS - 1)

    def multipliers(self, ratios: NDArray[np.float32]) -> Multipliers:
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
        return Multipliers(self.name, np.array(factors, np.int32), np.array(shifts, np.int32))

    def constant(self, m: Multipliers) -> NDArray[np.int32]:
        return np.stack([m.factor, m.shift], axis=1).astype(np.int32).ravel()

    def quick(self, m: Multipliers, largest: Ints) -> Quick:
        # The zero point shares the sum of what is left.
        return "_right" if m.shift.min() >= 33 else ""

    def near(self, m: Multipliers, largest: Ints) -> bool:
        factor, shift = m.factor.astype(np.int64), m.shift.astype(np.int64)
        # Ratios of float32 have 24 bits; the products with both halves of them, and what is added, fit a word.
        if shift.min() < 33 or shift.max() > 42 or np.any(factor & 127) or np.max(largest) >= 1 << 19:
            return False
        if self.name != FixedPoint.name:  # what is derived from it rounds in its own way
            return False
        added = np.int64(257) << (shift - 20)  # a half and a zero point, at most
        return bool(np.all(largest * ((factor >> 19) + 1) + added < 1 << 31))

    def requantize(self, acc: Ints, m: Multipliers, zero: int, low: int, high: int) -> Ints:
        shift = m.shift.astype(np.int64)
        code = (acc * m.factor.astype(np.int64) + (np.int64(1) << (shift - 1))) >> shift
        codes: Ints = np.clip(code + zero, low, high)
        return codes

    def encode_sum(self, ratio_a: np.float32, ratio_b: np.float32, zeros: tuple[int, int, int]) -> FixedSum:
        _, exponent = math.frexp(max(float(ratio_a), float(ratio_b)))
        shift = min(ADD_BITS - exponent, 30)  # below 2^-10, sums of all codes stay below a half
        a, b = round(float(ratio_a) * 2**shift), round(float(ratio_b) * 2**shift)
        # |a - za| <= 255, so the sum of both products and the rounding term fits int32; the offset is exact.
        return FixedSum(self.name, a, b, (1 << (shift - 1)) - a * zeros[0] - b * zeros[1], shift)

    def add(self, a: Ints, b: Ints, f: FixedSum, zero: int, low: int, high: int) -> Ints:
        codes: Ints = np.clip(((a * f.a + b * f.b + f.offset) >> f.shift) + zero, low, high)
        return codes

    def norm_factors(
        self, gain: NDArray[np.float32], offset: NDArray[np.float32], epsilon: float, scale: float
    ) -> NormFactors:
        """Encode a normalization: the gain has `shift` fractional bits less `FRACTION`.

        A negative epsilon is one with `PARTS` fractional bits, at least one of these.
        """
        channels, added = len(gain), float(added_variance(len(gain), epsilon, scale))
        largest = max(float(np.abs(gain).max()), 1e-30)
        limit = _ROOM / (math.sqrt(channels) * 2**FRACTION + 1)
        room = _ROOM / max(float(np.abs(offset).max()), 1.0)
        shift = min(30, FRACTION + math.floor(math.log2(limit / largest)), math.floor(math.log2(room)))
        if shift < 1:
            raise RangeError(f"a normalization's scale of {largest} codes is out of range for fixed point")
        whole = np.rint(gain.astype(np.float64) * 2.0 ** (shift - FRACTION)).astype(np.int32)
        half = np.rint(offset.astype(np.float64) * 2.0**shift) + 2 ** (shift - 1)
        parts = max(1, round(added * 2**PARTS))
        added = -parts if parts < 2**31 else min(round(added), 2**31 - 1)
        return NormFactors(self.name, added, whole, half.astype(np.int32), shift)

    def normalize(self, x: Ints, f: NormFactors, zero: int, low: int, high: int, *, mean: bool = True) -> Ints:
        centred, variance = spread(x, mean=mean)
        parts, epsilon = (PARTS if f.epsilon < 0 else 0), abs(int(f.epsilon))
        found: Any = np.frompyfunc(_inverse, 1, 2)((variance << parts) + epsilon)
        inverse, shift = (part.astype(np.int64) for part in found)
        shift -= parts // 2
        normal = (centred * inverse + (np.int64(1) << (shift - 1))) >> shift
        codes: Ints = np.clip(((normal * f.gain + f.offset) >> f.shift) + zero, low, high)
        return codes


def _inverse(value: int) -> tuple[int, int]:
    """Return 1 / sqrt(value) as a mantissa below 2^31 and the shift that leaves `FRACTION` bits."""
    value, steps = int(value), 0
    while value < 1 << 60:
        value, steps = value << 2, steps + 1
    return min((1 << 61) // math.isqrt(value), 2**31 - 1), _SHIFT - steps
