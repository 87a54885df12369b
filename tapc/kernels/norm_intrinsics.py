"""The intrinsics of layer normalization; their meaning is `tapc.base.arithmetic`."""

from tapc.kernels.intrinsic import Intrinsic

_VARIANCE = "uint64_t v = (uint64_t)(uint32_t)channels * (uint32_t)squares - (uint64_t)((int64_t)sum * sum)"
_SUMS = ("int32_t sum", "int32_t squares", "int32_t channels")
_RANGE = ("int32_t zero", "int32_t low", "int32_t high")
_SCALED = "float f = (float)centred * inverse; f = f * gain; f = f + offset; "

NORM_INTRINSICS: tuple[Intrinsic, ...] = (
    Intrinsic(
        "t_norm_inverse", "float", (*_SUMS, "float epsilon"), None,
        f"{_VARIANCE}; return 1.0f / sqrtf((float)v + epsilon);",
        # Alone GCC would call sqrtf for the errno of negative arguments.
        fpu=f'{_VARIANCE}; float f = (float)v + epsilon; __asm__("vsqrt.f32 %0, %0" : "+t"(f)); return 1.0f / f;',
    ),
    Intrinsic(
        "t_norm_float", "int32_t",
        ("int32_t centred", "float inverse", "float gain", "float offset", *_RANGE), None,
        f"{_SCALED}float a = (float)(low - zero), b = (float)(high - zero);"
        " f = f < a ? a : (f > b ? b : f); return (int32_t)lrintf(f) + zero;",
        fpu=f'{_SCALED}int32_t q; __asm__("vcvtr.s32.f32 %0, %0\\n\\tvmov %1, %0" : "+t"(f), "=r"(q));'
        " low -= zero; high -= zero; q = q < low ? low : (q > high ? high : q); return q + zero;",
    ),
    Intrinsic(
        "t_norm_inverse_fixed", "void", (*_SUMS, "int32_t epsilon", "int32_t *out"), None,
        f"{_VARIANCE} + (uint32_t)epsilon; int32_t shift = 49;"
        " while (v < (uint64_t)1 << 60) { v <<= 2; shift--; }"
        " uint32_t root = 0; for (uint32_t bit = 1u << 30; bit; bit >>= 1) {"
        " uint32_t t = root | bit; if ((uint64_t)t * t <= v) root = t; }"
        " uint32_t r = (uint32_t)(((uint64_t)1 << 61) / root);"
        " out[0] = r > INT32_MAX ? INT32_MAX : (int32_t)r; out[1] = shift;",
    ),
    Intrinsic(
        "t_norm_fixed", "int32_t",
        ("int32_t centred", "int32_t inverse", "int32_t shift", "int32_t gain", "int32_t offset", "int32_t right",
         *_RANGE), None,
        "int32_t n = (int32_t)(((int64_t)centred * inverse + ((int64_t)1 << (shift - 1))) >> shift);"
        " int32_t q = ((n * gain + offset) >> right) + zero; return q < low ? low : (q > high ? high : q);",
    ),
)  # fmt: skip
