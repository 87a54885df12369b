"""`tflite`: the integers of TensorFlow Lite's reference kernels, as TFLite-Micro runs them and NPUs compute them.

Factors come from the double product of the float32 scales. A product with one is rounded to 31 bits, half up, then
shifted, half away from zero. Additions bring both operands to the larger scale first, with 20 fractional bits.
What TFLite has no integers for is that of `fixed`, or a table of float32 values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.gemmlowp import divide, exp, high_product, inverse_root, logarithm, reciprocal
from tapc.base.arithmetic.interface import (
    AddFactors,
    Doubles,
    Ints,
    Multipliers,
    Part,
    Quantization,
    Quick,
    Ratios,
    Values,
    register_arithmetic,
)
from tapc.base.arithmetic.intrinsic import CLAMP, Intrinsic
from tapc.base.arithmetic.modes.fixed_point import HALVES, FixedPoint
from tapc.base.arithmetic.tflite_functions import FUNCTIONS, encoded, half_away
from tapc.base.errors import RangeError

LEFT = 20  # fractional bits of an addition's operands
_INTEGER_BITS, _SUM_BITS = 5, 12
_UNIT_BITS, _LOG_BITS = 7, 31 - _INTEGER_BITS - 4
_INT32 = ("int32_t a", "int32_t b")
_SUM = ("int32_t za", "int32_t zb", "int32_t fa", "int32_t ea", "int32_t fb", "int32_t eb", "int32_t f", "int32_t e")
_RANGE = ("int32_t zero", "int32_t low", "int32_t high")
_NORM = ("int32_t centred", "int32_t inverse", "int32_t shift", "int32_t gain", "int32_t offset", "int32_t right")


@dataclass(frozen=True)
class TfliteSum(AddFactors):
    """Factors of an addition.

    Attributes
    ----------
    scales : (float, float)
        Of the operands over that of the result.
    zeros : (int, int)
        Of the operands.
    factors, shifts : tuple of int
        Of a, b and the sum.
    """

    scales: tuple[float, float]
    zeros: tuple[int, int]
    factors: tuple[int, int, int]
    shifts: tuple[int, int, int]

    @property
    def ratios(self) -> tuple[float, float]:
        """The scales of a and b over that of the result."""
        return self.scales

    def scalars(self, zero: int) -> dict[str, float]:
        (a, b, total), (shift_a, shift_b, shift) = self.factors, self.shifts
        zeros = {"a_zero": self.zeros[0], "b_zero": self.zeros[1]}
        own = {"a": a, "a_shift": shift_a, "b": b, "b_shift": shift_b, "factor": total, "shift": shift}
        return {**zeros, **own, "zero": zero}


def _scale(acc: int, factor: int, shift: int) -> int:
    return int(_scaled(*(np.array(part, np.int64) for part in (acc, factor, shift))))


def _softmax_scale(scale: float) -> tuple[int, int, int]:
    """Return factor and left shift of differences of codes, and the greatest difference that counts."""
    factor, right = encoded(min(float(np.float32(scale)) * 2 ** (31 - _INTEGER_BITS), 2.0**31 - 1))
    left = 31 - right
    return factor, left, math.floor(((1 << _INTEGER_BITS) - 1) * 2.0 ** (31 - _INTEGER_BITS) / 2.0**left)


def _scaled(acc: Ints, factor: Ints, shift: Ints) -> Ints:
    """Multiply and shift to the right, by 31 places first where there are more."""
    product, first = acc * factor, np.minimum(shift, 31)
    return divide((product + (np.int64(1) << (first - 1))) >> first, shift - first)


def _quick(side: str, bits: int) -> Intrinsic:
    """Return what requantizes sums that are `quick`, to all codes of `bits`, or to a range for 0."""
    # Half away from zero: what is negative is one less, and half up takes one bit more, which the zero point shares.
    right = (
        "q = t_half_up_small(acc, factor); q = (((q + (q >> 31)) >> shift) + (int32_t)((uint32_t)zero * 2u + 1u)) >> 1;"
    )
    left = "q = t_half_up_small((int32_t)((uint32_t)acc << ~shift), factor) + zero;"
    made = (
        f"int32_t q; {right} " if side == "_right" else f"int32_t q; if (shift >= 0) {{ {right} }} else {{ {left} }} "
    )
    parameters = ("int32_t acc", "int32_t factor", "int32_t shift", "int32_t zero")
    if not bits:
        return Intrinsic(
            f"t_requant_tflite{side}", "int32_t", (*parameters, "int32_t low", "int32_t high"),
            lambda acc, factor, shift, zero, low, high: min(max(_scale(acc, factor, shift + 32) + zero, low), high),
            made + CLAMP,
        )  # fmt: skip
    low, high, saturate = {8: (-128, 127, "ssat"), 4: (0, 15, "usat")}[bits]
    return Intrinsic(
        f"t_requant_tflite{side}{bits}", "int32_t", parameters,
        lambda acc, factor, shift, zero: min(max(_scale(acc, factor, shift + 32) + zero, low), high),
        made + f"return q < {low} ? {low} : (q > {high} ? {high} : q);",
        dsp=made + f'__asm__("{saturate} %0, #{bits}, %0" : "+r"(q)); return q;',
    )  # fmt: skip


INTRINSICS: dict[Part, tuple[Intrinsic, ...]] = {
    "requantize": (
        Intrinsic(
            "t_half_up", "int32_t", _INT32, lambda a, b: (a * b + (1 << 30)) >> 31,
            "return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);",
            v6m=f"{HALVES} return (int32_t)(((uint32_t)(a1 * b1 + (t >> 16) + (u >> 16)) << 1)"
            " + ((((uint32_t)u & 0xFFFFu) + 0x4000u) >> 15));",
        ),
        Intrinsic(
            "t_half_up_small", "int32_t", _INT32, lambda a, b: (a * b + (1 << 30)) >> 31,
            "return t_half_up(a, b);",
            # SMMULR rounds the upper half of a product; twice the first operand must fit.
            dsp='int32_t r; __asm__("smmulr %0, %1, %2" : "=r"(r) : "r"(a * 2), "r"(b)); return r;',
        ),
        Intrinsic(
            "t_half_away", "int32_t", ("int32_t a", "int32_t n"), lambda a, n: int(divide(a, n)),
            "int32_t mask = (int32_t)((1u << n) - 1u); return (a >> n) + ((a & mask) > (mask >> 1) + (a < 0));",
        ),
        Intrinsic(
            "t_scale_tflite", "int32_t", ("int32_t acc", "int32_t factor", "int32_t shift"), _scale,
            "return t_half_away(t_half_up(acc, factor), shift - 31);",
        ),
        Intrinsic(
            "t_requant_left", "int32_t", ("int32_t acc", "int32_t factor", "int32_t shift", *_RANGE), None,
            "int64_t q = (((int64_t)acc * factor + ((int64_t)1 << (shift - 1))) >> shift) + zero;"
            " return q < low ? low : (q > high ? high : (int32_t)q);",
            called=True,
        ),
        Intrinsic(
            "t_requant_tflite", "int32_t", ("int32_t acc", "int32_t factor", "int32_t shift", *_RANGE),
            lambda acc, factor, shift, zero, low, high: min(max(_scale(acc, factor, shift + 32) + zero, low), high),
            "if (shift >= 0) { int32_t q = t_half_up(acc, factor); q = (q + (q >> 31)) >> shift;"
            f" q = (q >> 1) + (q & 1) + zero; {CLAMP} }}"
            " return t_requant_left(acc, factor, shift + 32, zero, low, high);",
        ),
        *(_quick(side, bits) for side in ("_right", "_both") for bits in (0, 8, 4)),
    ),
    "add": (
        Intrinsic(
            "t_add_tflite", "int32_t", (*_INT32, *_SUM, *_RANGE), None,
            f"int32_t q = t_scale_tflite((a - za) * (1 << {LEFT}), fa, ea)"
            f" + t_scale_tflite((b - zb) * (1 << {LEFT}), fb, eb); q = t_scale_tflite(q, f, e) + zero; " + CLAMP,
        ),
    ),
    "average": (
        Intrinsic(
            "t_average_tflite", "int32_t", ("int32_t sum", "int32_t count"), None,
            "return (sum > 0 ? sum + (count >> 1) : sum - (count >> 1)) / count;",
        ),
    ),
    "softmax": (
        Intrinsic(
            "t_softmax_term_tflite", "int32_t", ("int32_t entry",), lambda entry: int(divide(entry, _SUM_BITS)),
            f"return t_half_away(entry, {_SUM_BITS});",
        ),
        Intrinsic(
            "t_softmax_scale_tflite", "void", ("int32_t sum", "int32_t *out"), None,
            "int32_t n = __builtin_clz((uint32_t)sum); uint32_t f = ((uint32_t)sum << n) - 0x80000000u;"
            " int32_t d = (int32_t)((f + 0x80000000u) >> 1), x = 1515870810 + t_half_up(d, -1010580540);"
            " for (int32_t i = 0; i < 3; ++i) x += t_half_up(x, (1 << 29) - t_half_up(d, x)) * 4;"
            f" out[0] = x >= 1 << 30 ? INT32_MAX : x * 2; out[1] = {_SUM_BITS + 23} - n;",
            called=True,
        ),
        Intrinsic(
            "t_softmax_code_tflite", "int32_t", ("int32_t entry", "int32_t scale", "int32_t shift"), None,
            "return t_half_away(t_half_up(scale, entry), shift);",
        ),
        Intrinsic(
            "t_log_sum_tflite", "int32_t", ("int32_t sum",), None,
            "int32_t a = __builtin_clz((uint32_t)sum), r = t_half_up(sum << (a - 1), 1518500250);"
            " int32_t b = __builtin_clz((uint32_t)t_half_up(sum, 1518500250)) - 1;"
            " int32_t other = sum > INT32_MAX >> b ? INT32_MAX : sum << b; r = r < 1 << 30 ? r * 2 : INT32_MAX;"
            f" int32_t octaves = ({_SUM_BITS} - a) * (1 << 25) + (1 << 23); if (other < r) r = other;"
            f" other = ({_SUM_BITS} - b) * (1 << 25) - (1 << 23); if (other > octaves) octaves = other;"
            " int32_t p = (int32_t)(((uint32_t)r + 1805811302u) >> 1), q = (r - 1805811301) * 2, s = t_half_up(q, q);"
            " int32_t n = t_half_up(q, r) + t_half_up(t_half_up(q, s), 117049297);"
            " int32_t d = t_half_up(p, 1057819769 + q + t_half_up(127690142, s)) + t_half_up(638450708, q);"
            " d = (int32_t)(((uint32_t)d + 0x80000000u) >> 1); int32_t x = 1515870810 + t_half_up(d, -1010580540);"
            " for (int32_t i = 0; i < 3; ++i) x += t_half_up(x, (1 << 29) - t_half_up(d, x)) * 4;"
            " x = x >= 1 << 30 ? INT32_MAX : x * 2; r = t_half_up(octaves, 1488522236);"
            " r += t_half_up(t_half_away(n, 6), x); return r < 1 << 30 ? r * 2 : INT32_MAX;",
            called=True,
        ),
        Intrinsic(
            "t_log_code_tflite", "int32_t", ("int32_t difference",), lambda a: int(divide(a, _LOG_BITS)),
            f"return t_half_away(difference, {_LOG_BITS});",
        ),
    ),
    "normalize": (
        Intrinsic(
            "t_norm_tflite", "int32_t", (*_NORM, *_RANGE), None,
            "return t_norm_fixed(centred, inverse, shift, gain, offset, right, zero, low, high);",
        ),
        Intrinsic(
            "t_length_tflite", "void", ("int32_t sum", "int32_t *out"), None,
            f"int32_t e = {42 - _UNIT_BITS}, root = 1 << 28; if (sum <= 1) {{ out[0] = INT32_MAX;"
            f" out[1] = {-1 - _UNIT_BITS}; return; }} if (sum >= 1 << 29) {{ sum /= 4; ++e; }}"
            " int32_t pairs = (__builtin_clz((uint32_t)sum) - 1) / 2 - 1; e -= pairs; sum <<= 2 * pairs;"
            " int32_t half = t_half_away(sum >> 1, 1); for (int32_t i = 0; i < 5; ++i) {"
            " int32_t cube = t_half_up(t_half_up(root, root), root); cube = cube < 1 << 25 ? cube * 64 : INT32_MAX;"
            " root = (t_half_up(3 << 27, root) - t_half_up(half, cube)) * 8; } root = t_half_up(root, 1518500250);"
            f" int32_t left = {31 - _UNIT_BITS} - e; out[0] = left > 0 ? root << left : root;"
            " out[1] = (left > 0 ? e + left : e) - 32;",
            called=True,
        ),
    ),
}  # fmt: skip


@register_arithmetic
class Tflite(FixedPoint):
    """TFLite's integers; normalization is that of fixed point."""

    name = "tflite"
    sum_scalars = ("a_zero", "b_zero", "a", "a_shift", "b", "b_shift", "factor", "shift", "zero")
    precision = np.float64
    homogeneous = False
    averages = True
    functions = FUNCTIONS
    softmax_levels = 256
    log_softmax_levels = 16
    unit_levels = 1 << _UNIT_BITS
    lanes = "t_requant4_tflite"
    intrinsics = INTRINSICS

    def ratios(self, scales: Sequence[Any], over: Any) -> Ratios:
        product = np.asarray(scales[0], np.float32).astype(np.float64)
        for scale in scales[1:]:
            product = product * np.asarray(scale, np.float32).astype(np.float64)
        return np.asarray(product / np.asarray(over, np.float32).astype(np.float64))

    def mean_ratios(self, x: float, y: float, counts: Any) -> Ratios:
        # A share of codes is the scale of a weight.
        return self.ratios((x, np.float32(1) / np.asarray(counts, np.float32)), y)

    def steps(self, value: float, scale: float) -> float:
        return float(half_away(np.float32(value) / np.float32(scale)))

    def multipliers(self, ratios: Ratios) -> Multipliers:
        pairs = [encoded(float(ratio)) for ratio in ratios.ravel()]
        factor, shift = (np.array(part, np.int32).reshape(ratios.shape) for part in zip(*pairs, strict=True))
        return Multipliers(self.name, factor, shift)

    def mean_multipliers(self, ratios: Ratios) -> Multipliers:
        """Divide the factor of a sum by the number of codes, rounded down, with as many bits as before."""
        whole, right = encoded(float(ratios[0]))
        factors, shifts = [], []
        for count in range(1, len(ratios) + 1):
            left = min(count.bit_length() - 1, 32, 62 - right)
            factors.append((whole << left) // count)
            shifts.append(right + left)
        return Multipliers(self.name, np.array(factors, np.int32), np.array(shifts, np.int32))

    def constant(self, m: Multipliers) -> NDArray[np.int32]:
        """Return factors, and shifts less the 32 of a product's upper half and its last bit."""
        return super().constant(Multipliers(m.mode, m.factor, m.shift - 32))

    def quick(self, m: Multipliers, largest: Ints) -> Quick:
        if np.any(largest << np.maximum(31 - m.shift.astype(np.int64), 0) >= 1 << 30):
            return ""
        return "_right" if m.shift.min() >= 32 else "_both"

    def requantize(self, acc: Ints, m: Multipliers, zero: int, low: int, high: int) -> Ints:
        code = _scaled(acc, m.factor.astype(np.int64), m.shift.astype(np.int64))
        return np.clip(code + zero, low, high)

    def add_factors(  # type: ignore[override]
        self, a: Quantization, b: Quantization, y: Quantization
    ) -> TfliteSum:
        scales = [np.float64(np.float32(scale)) for scale, _ in (a, b, y)]
        most = 2 * max(scales[:2])
        ratios = tuple(map(float, (scales[0] / most, scales[1] / most, most / (2**LEFT * scales[2]))))
        if not (min(ratios) > 0 and ratios[2] < 1):
            raise RangeError(f"the scales {a[0]:.3g}, {b[0]:.3g} and {y[0]:.3g} are too far apart for an addition")
        factors, shifts = zip(*map(encoded, ratios), strict=True)
        over = (float(scales[0] / scales[2]), float(scales[1] / scales[2]))
        return TfliteSum(self.name, over, (a[1], b[1]), factors, shifts)

    def add(self, a: Ints, b: Ints, f: TfliteSum, zero: int, low: int, high: int) -> Ints:  # type: ignore[override]
        factors, shifts = (np.array(part, np.int64) for part in (f.factors, f.shifts))
        total = _scaled((a - f.zeros[0]) << LEFT, factors[0], shifts[0])
        total = total + _scaled((b - f.zeros[1]) << LEFT, factors[1], shifts[1])
        return np.clip(_scaled(total, factors[2], shifts[2]) + zero, low, high)

    def average(self, total: Ints, counts: Ints) -> Ints:
        rounded: Ints = np.sign(total) * ((np.abs(total) + counts // 2) // counts)
        return rounded

    def function(self, codes: Ints, values: Values, x: Quantization, y: Quantization) -> Doubles:
        """Return the codes of float32 values, rounded half away from zero."""
        real = np.float32(x[0]) * (codes - x[1]).astype(np.float32)
        with np.errstate(over="ignore"):
            found = values(real.astype(np.float64)).astype(np.float32) * (np.float32(1) / np.float32(y[0]))
        return half_away(found) + y[1]

    def softmax_table(self, scale: float, span: int) -> NDArray[np.uint32]:
        factor, left, least = _softmax_scale(scale)
        difference = -np.arange(span)
        seen = np.maximum(difference, -least)
        # Beyond the least difference that counts nothing is left.
        return np.where(
            difference >= -least, exp(high_product(seen * 2**left, factor), _INTEGER_BITS), 0
        ).astype(np.uint32)  # fmt: skip

    def log_steps(self, scale: float) -> NDArray[np.int32]:
        factor, left, least = _softmax_scale(scale)
        difference = -np.arange(256)
        seen = high_product(np.maximum(difference, -least) * 2**left, factor)
        # From 2^30 below the greatest on, all are the lowest code.
        return np.where(difference >= -least, np.maximum(seen, -(2**30)), -(2**30)).astype(np.int32)

    def log_softmax(self, terms: Ints, steps: Ints) -> Ints:
        total = logarithm(divide(terms, _SUM_BITS).sum(axis=-1, keepdims=True), _SUM_BITS)
        return divide(steps - total, _LOG_BITS)

    def lengths(self, squares: Ints) -> Multipliers:
        factor, shift = inverse_root(squares)
        return Multipliers(self.name, factor, (shift - _UNIT_BITS).astype(np.int32))

    def softmax(self, terms: Ints, levels: int) -> Ints:
        scale, over = reciprocal(divide(terms, _SUM_BITS).sum(axis=-1, keepdims=True), _SUM_BITS)
        return divide(high_product(scale, terms), over + 32 - levels.bit_length())
