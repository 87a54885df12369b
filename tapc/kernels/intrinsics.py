"""The intrinsic table: each entry is its meaning for Python and its C forms, in one place.

`dsp` is the Armv7E-M form, `fpu` the form for cores with a single-precision VFP; `portable` compiles anywhere.
The generated header selects at compile time, so one library builds for Cortex-M and for the host.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _halves(value: int) -> tuple[int, int]:
    return _signed(value, 16), _signed(value >> 16, 16)


def _join(low: int, high: int) -> int:
    return _signed((low & 0xFFFF) | (high & 0xFFFF) << 16, 32)


def _smlad(a: int, b: int, acc: int) -> int:
    (a0, a1), (b0, b1) = _halves(a), _halves(b)
    return _signed(acc + a0 * b0 + a1 * b1, 32)


def _requant_float(acc: int, scale: float, zero: int, low: int, high: int) -> int:
    scaled = np.float32(acc) * np.float32(scale)
    return int(np.clip(np.rint(scaled) + zero, low, high))


def _requant_fixed(acc: int, factor: int, shift: int, zero: int, low: int, high: int) -> int:
    return min(max(((acc * factor + (1 << (shift - 1))) >> shift) + zero, low), high)


@dataclass(frozen=True)
class Intrinsic:
    """One intrinsic.

    Attributes
    ----------
    name : str
        C name; kernels call it through `call_extern`.
    result : str
        C result type, also the TensorIR dtype when followed by _t.
    parameters : tuple of str
        C parameter declarations.
    meaning : callable or None
        The semantics on Python numbers; None for memory accesses.
    portable : str
        C body.
    dsp, fpu : str
        Replacement bodies, empty where there is none.
    """

    name: str
    result: str
    parameters: tuple[str, ...]
    meaning: Callable[..., int] | None
    portable: str
    dsp: str = ""
    fpu: str = ""


def _asm(template: str, *inputs: str) -> str:
    operands = ", ".join(f'"r"({name})' for name in inputs)
    return f'int32_t r; __asm__("{template}" : "=r"(r) : {operands}); return r;'


_CLAMP = "return q < low ? low : (q > high ? high : q);"

INTRINSICS: tuple[Intrinsic, ...] = (
    Intrinsic(
        "t_load32", "int32_t", ("const void *p",), None,
        "int32_t r; __builtin_memcpy(&r, p, 4); return r;",
    ),
    Intrinsic(
        "t_store16", "void", ("void *p", "int32_t v"), None,
        "int16_t h = (int16_t)v; __builtin_memcpy(p, &h, 2);",
    ),
    Intrinsic(
        "t_half", "void *", ("void *p", "int32_t half"), None,
        "return (char *)p + 2 * half;",
    ),
    Intrinsic(
        "t_load4", "int32_t", ("const uint8_t *p", "int32_t channel"), None,
        "return (p[channel >> 1] >> ((channel & 1) << 2)) & 15;",
    ),
    Intrinsic(
        "t_store4", "void", ("uint8_t *p", "int32_t channel", "int32_t v"), None,
        "int32_t s = (channel & 1) << 2; p[channel >> 1] = (uint8_t)((p[channel >> 1] & (0xF0 >> s)) | (v << s));",
    ),
    Intrinsic(
        "t_pair", "int32_t", ("int32_t lo", "int32_t hi"), _join,
        "return (int32_t)(((uint32_t)lo & 0xFFFFu) | ((uint32_t)hi << 16));",
        dsp=_asm("pkhbt %0, %1, %2, lsl #16", "lo", "hi"),
    ),
    Intrinsic(
        "t_smlad", "int32_t", ("int32_t a", "int32_t b", "int32_t acc"), _smlad,
        "return (int32_t)((uint32_t)acc + (uint32_t)((int16_t)a * (int16_t)b) + (uint32_t)((a >> 16) * (b >> 16)));",
        dsp=_asm("smlad %0, %1, %2, %3", "a", "b", "acc"),
    ),
    Intrinsic(
        "t_sxtb16", "int32_t", ("int32_t v",), lambda v: _join(_signed(v, 8), _signed(v >> 16, 8)),
        "return (int32_t)(((uint32_t)(int8_t)v & 0xFFFFu) | ((uint32_t)(int8_t)(v >> 16) << 16));",
        dsp=_asm("sxtb16 %0, %1", "v"),
    ),
    Intrinsic(
        "t_sxtb16_ror8", "int32_t", ("int32_t v",), lambda v: _join(_signed(v >> 8, 8), _signed(v >> 24, 8)),
        "return (int32_t)(((uint32_t)(int8_t)(v >> 8) & 0xFFFFu) | ((uint32_t)(int8_t)(v >> 24) << 16));",
        dsp=_asm("sxtb16 %0, %1, ror #8", "v"),
    ),
    Intrinsic(
        "t_fields", "int32_t", ("int32_t mask", "int32_t word", "int32_t shift"),
        lambda mask, word, shift: _signed((word & 0xFFFFFFFF) >> shift & mask, 32),
        "return (int32_t)((uint32_t)mask & ((uint32_t)word >> shift));",
        # One instruction: the barrel shifter is free. GCC alone would shift first, then mask by an immediate. The
        # constraint needs a constant, hence inlining, and Clang checks it before it inlines.
        dsp="\n#if defined(__OPTIMIZE__) && !defined(__clang__)\n  if (shift) {"
        ' int32_t r; __asm__("and %0, %1, %2, lsr %3" : "=r"(r) : "r"(mask), "r"(word), "n"(shift)); return r; }'
        "\n#endif\n  return (int32_t)((uint32_t)mask & ((uint32_t)word >> shift));",
    ),
    Intrinsic(
        "t_ratio", "int32_t", ("int32_t term", "int32_t levels", "int32_t total"),
        lambda term, levels, total: (term * levels + total // 2) // total,
        "return (int32_t)(((uint32_t)term * (uint32_t)levels + (uint32_t)total / 2u) / (uint32_t)total);",
    ),
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
        "t_requant_fixed", "int32_t",
        ("int32_t acc", "int32_t factor", "int32_t shift", "int32_t zero", "int32_t low", "int32_t high"),
        _requant_fixed,
        "int32_t q = (int32_t)(((int64_t)acc * factor + ((int64_t)1 << (shift - 1))) >> shift) + zero; " + _CLAMP,
    ),
    Intrinsic(
        "t_add_float", "int32_t",
        ("int32_t a", "int32_t b", "float fa", "float fb", "float offset", "int32_t low", "int32_t high"), None,
        "float f = fmaf((float)b, fb, fmaf((float)a, fa, offset)), l = (float)low, h = (float)high;"
        " f = f < l ? l : (f > h ? h : f); return (int32_t)lrintf(f);",
        fpu='float f = offset, p = (float)a, s = (float)b; int32_t q;'
        ' __asm__("vfma.f32 %0, %2, %4\\n\\tvfma.f32 %0, %3, %5\\n\\tvcvtr.s32.f32 %0, %0\\n\\tvmov %1, %0"'
        ' : "+&t"(f), "=r"(q) : "t"(p), "t"(s), "t"(fa), "t"(fb)); ' + _CLAMP,
    ),
    Intrinsic(
        "t_add_fixed", "int32_t",
        ("int32_t a", "int32_t b", "int32_t fa", "int32_t fb", "int32_t offset", "int32_t shift", "int32_t zero",
         "int32_t low", "int32_t high"), None,
        "int32_t q = ((a * fa + b * fb + offset) >> shift) + zero; " + _CLAMP,
    ),
)  # fmt: skip


def header() -> str:
    """Return `tapc_intrinsics.h`, self-contained C11 for GCC and Clang."""
    lines = [
        "/* Generated by tapc: the intrinsics that the kernels call. */",
        "#ifndef TAPC_INTRINSICS_H",
        "#define TAPC_INTRINSICS_H",
        "#include <math.h>",
        "#include <stdint.h>",
        "",
        "#define T_INLINE static inline __attribute__((always_inline, unused))",
        "",
    ]
    for entry in INTRINSICS:
        head = f"T_INLINE {entry.result} {entry.name}({', '.join(entry.parameters)}) {{"
        special = entry.dsp or entry.fpu
        if not special:
            lines += [head, f"  {entry.portable}", "}", ""]
            continue
        guard = "defined(__ARM_FEATURE_DSP)" if entry.dsp else "defined(__ARM_FP) && (__ARM_FP & 4)"
        lines += [head, f"#if {guard}", f"  {special}", "#else", f"  {entry.portable}", "#endif", "}", ""]
    return "\n".join([*lines, "#endif", ""])
