"""The intrinsic table: each entry is its meaning for Python and its C forms, in one place.

`dsp` is the Armv7E-M form, `fpu` the form for cores with a single-precision VFP, `v6m` the form for Armv6-M, whose
multiplier returns only 32 bits, `mve` that for cores with Helium; `portable` compiles anywhere.
The generated header selects at compile time, so one library builds for Cortex-M and for the host.
"""

import re
from collections.abc import Callable, Iterator

from tapc.base.arithmetic import arithmetics
from tapc.base.arithmetic.gates import GATE_INTRINSICS
from tapc.base.arithmetic.interface import Part
from tapc.base.arithmetic.intrinsic import CLAMP, Intrinsic
from tapc.base.arithmetic.softmax16 import SOFTMAX_INTRINSICS
from tapc.base.arithmetic.tables16 import TABLE_INTRINSICS
from tapc.base.arithmetic.wide import WIDE_INTRINSICS
from tapc.kernels.box_intrinsics import BOX_INTRINSICS
from tapc.kernels.halves import asm, halves, join, signed, smlad
from tapc.kernels.mve.intrinsics import MVE_INTRINSICS
from tapc.kernels.mve.tflite import TFLITE_LANES
from tapc.kernels.mve.tiles import tiles_of
from tapc.kernels.transform_intrinsics import TRANSFORM_INTRINSICS


def _smlaxy(x: int, y: int) -> Callable[[int, int, int], int]:
    return lambda a, b, acc: signed(acc + halves(a)[x] * halves(b)[y], 32)


# One instruction: the barrel shifter is free. GCC alone would shift first, then mask by an immediate. The constraint
# needs a constant, hence inlining, and Clang checks it before it inlines.
_FIELDS = (
    "\n#if defined(__OPTIMIZE__) && !defined(__clang__)\n"
    '  if (shift) {{ int32_t r; __asm__("and %0, %1, %2, {0} %3"'
    ' : "=r"(r) : "r"(mask), "r"(word), "n"(shift)); return r; }}'
    "\n#endif\n  return (int32_t)((uint32_t)mask & ((uint32_t)word {1} shift));"
)


def _pair(address: str, offset: str) -> str:
    """Return C that loads two words, `offset` bytes behind an address."""
    return (
        "\n#if defined(__OPTIMIZE__) && !defined(__clang__)\n"
        f'  int32_t a, b; __asm__("ldrd %0, %1, [%2, %3]" : "=r"(a), "=r"(b) : "r"({address}), "n"({offset}),'
        f' "m"(*(const t_block *)(const void *){address})); out[0] = a; out[1] = b; return;'
        "\n#endif\n  out[0] = p[offset]; out[1] = p[offset + 1];"
    )


_BLOCK_LOOP = "for (int32_t i = 0; i < 16 * blocks; i += 16) t_move16((char *)y + i, (const char *)x + i);"
_BLOCKS = (
    "do {\n"
    '    __asm__ volatile("ldmia %1!, {r3, r4, r5, r6}\\n\\tstmia %0!, {r3, r4, r5, r6}"'
    ' : "+l"(y), "+l"(x) : : "r3", "r4", "r5", "r6", "memory");\n'
    "  } while (--blocks);"
)


def _multiply_half(x: int, y: int) -> Intrinsic:
    """Return SMLA<x><y>: the product of the bottom (0) or top (1) halves."""
    halves = ["(int16_t){}", "({} >> 16)"]
    product = f"{halves[x].format('a')} * {halves[y].format('b')}"
    name = "smla" + "bt"[x] + "bt"[y]
    return Intrinsic(
        f"t_{name}", "int32_t", ("int32_t a", "int32_t b", "int32_t acc"), _smlaxy(x, y),
        f"return (int32_t)((uint32_t)acc + (uint32_t)({product}));",
        dsp=asm(f"{name} %0, %1, %2, %3", "a", "b", "acc"),
    )  # fmt: skip


def _add_linear(bits: int) -> Intrinsic:
    """Return an addition of codes that saturates to all codes of `bits`, or to a range for 0."""
    low, high = {8: (-128, 127), 4: (0, 15), 0: (0, 0)}[bits]
    parameters = ("int32_t a", "int32_t b", "int32_t fa", "int32_t fb", "int32_t offset", "int32_t shift")
    total = (
        "int32_t q = (int32_t)((uint32_t)a * (uint32_t)fa + (uint32_t)b * (uint32_t)fb + (uint32_t)offset) >> shift; "
    )
    if not bits:
        return Intrinsic(
            "t_add_linear", "int32_t", (*parameters, "int32_t low", "int32_t high"),
            lambda a, b, fa, fb, offset, shift, low, high: min(max((a * fa + b * fb + offset) >> shift, low), high),
            total + CLAMP,
        )  # fmt: skip
    saturate = "ssat" if bits == 8 else "usat"
    return Intrinsic(
        f"t_add_linear{bits}", "int32_t", parameters,
        lambda a, b, fa, fb, offset, shift: min(max((a * fa + b * fb + offset) >> shift, low), high),
        total + f"return q < {low} ? {low} : (q > {high} ? {high} : q);",
        dsp=total + f'__asm__("{saturate} %0, #{bits}, %0" : "+r"(q)); return q;',
    )  # fmt: skip


def _of_arithmetics(part: Part) -> Iterator[Intrinsic]:
    for arithmetic in arithmetics():
        yield from arithmetic.intrinsics.get(part, ())


INTRINSICS: tuple[Intrinsic, ...] = (
    *(_multiply_half(x, y) for x in range(2) for y in range(2)),
    Intrinsic(
        "t_load32", "int32_t", ("const void *p",), None,
        "int32_t r; __builtin_memcpy(&r, p, 4); return r;",
    ),
    Intrinsic(
        "t_load8", "int32_t", ("const void *p",), None,
        "return *(const int8_t *)p;",
    ),
    Intrinsic(
        "t_load2", "void", ("const int32_t *p", "int32_t offset", "int32_t *out"), None,
        "out[0] = p[offset]; out[1] = p[offset + 1];",
        # GCC alone loads two neighbours at once only into registers that it happened to choose well, and keeps
        # addresses of constant offsets in registers, or worse, on the stack. The constraint needs inlining, and
        # Clang checks it before it inlines. The instruction reaches 255 words,
        # and t_block ends there; beyond, it is t_load2_far.
        dsp=_pair("p", "4 * offset"),
    ),
    Intrinsic(
        "t_load2_far", "void", ("const int32_t *p", "int32_t offset", "int32_t *out"), None,
        "out[0] = p[offset]; out[1] = p[offset + 1];",
        dsp=_pair("(p + offset)", "0"),
    ),
    Intrinsic(
        "t_store2", "void", ("int32_t *p", "int32_t a", "int32_t b"), None,
        "p[0] = a; p[1] = b;",
        dsp='__asm__("strd %1, %2, %0" : "=m"(*(t_two *)(void *)p) : "r"(a), "r"(b));',
    ),
    Intrinsic(
        "t_at", "const void *", ("const void *p", "int32_t offset"), None,
        "return (const char *)p + offset;",
    ),
    Intrinsic(
        "t_to", "void *", ("void *p", "int32_t offset"), None,
        "return (char *)p + offset;",
    ),
    Intrinsic(
        "t_source", "const void *", ("const void *p", "int32_t offset", "const void *q"), None,
        "return offset < 0 ? q : (const char *)p + offset;",
    ),
    Intrinsic(
        "t_store8", "void", ("void *p", "int32_t index", "int32_t v"), None,
        "((int8_t *)p)[index] = (int8_t)v;",
    ),
    Intrinsic(
        "t_move4", "void", ("void *y", "const void *x"), None,
        "int32_t word; __builtin_memcpy(&word, x, 4); __builtin_memcpy(y, &word, 4);",
        # Which has no words at any address.
        v6m="const int8_t *p = (const int8_t *)x; int8_t *q = (int8_t *)y;"
        " q[0] = p[0]; q[1] = p[1]; q[2] = p[2]; q[3] = p[3];",
    ),
    Intrinsic(
        "t_move16", "void", ("void *y", "const void *x"), None,
        " ".join(f"t_move4((char *)y + {i}, (const char *)x + {i});" for i in range(0, 16, 4)),
        mve="*(t_b16 *)y = *(const t_b16 *)x;",
    ),
    Intrinsic(
        "t_set4", "void", ("void *y", "int32_t word"), None,
        "__builtin_memcpy(y, &word, 4);",
        v6m="int8_t *q = (int8_t *)y; q[0] = q[1] = q[2] = q[3] = (int8_t)word;",
    ),
    Intrinsic(
        "t_set16", "void", ("void *y", "int32_t word"), None,
        " ".join(f"t_set4((char *)y + {i}, word);" for i in range(0, 16, 4)),
        mve="t_v4 v = {word, word, word, word}; *(t_b16 *)y = (t_b16)v;",
    ),
    # Of whole words; the loads of a block come before its stores, for an output may lie a little below its input.
    Intrinsic(
        "t_movew4", "void", ("void *y", "const void *x"), None,
        "t_move4(y, x);",
        v6m="*(t_word *)y = *(const t_word *)x;",
    ),
    Intrinsic(
        "t_movew16", "void", ("void *y", "const void *x", "int32_t blocks"), None,
        _BLOCK_LOOP,
        dsp=_BLOCKS, v6m=_BLOCKS,
        mve=_BLOCK_LOOP,
    ),
    Intrinsic(
        "t_setw4", "void", ("void *y", "int32_t word"), None,
        "t_set4(y, word);",
        v6m="*(t_word *)y = word;",
    ),
    Intrinsic(
        "t_setw16", "void", ("void *y", "int32_t word"), None,
        "t_set16(y, word);",
        dsp="t_store2((int32_t *)y, word, word); t_store2((int32_t *)y + 2, word, word);",
        v6m="t_word *p = (t_word *)y; p[0] = p[1] = p[2] = p[3] = word;",
        mve="t_v4 v = {word, word, word, word}; *(t_v4 *)y = v;",
    ),
    Intrinsic(
        "t_store16at", "void", ("int32_t *p", "int32_t index", "int32_t v"), None,
        "int16_t h = (int16_t)v; __builtin_memcpy((char *)p + 2 * index, &h, 2);",
    ),
    Intrinsic(
        "t_put16", "void", ("int32_t *p", "int32_t index", "int32_t v"), None,
        "((t_half *)p)[index] = (t_half)v;",
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
        "t_pair", "int32_t", ("int32_t lo", "int32_t hi"), join,
        "return (int32_t)(((uint32_t)lo & 0xFFFFu) | ((uint32_t)hi << 16));",
        dsp=asm("pkhbt %0, %1, %2, lsl #16", "lo", "hi"),
    ),
    Intrinsic(
        "t_smlad", "int32_t", ("int32_t a", "int32_t b", "int32_t acc"), smlad,
        "return (int32_t)((uint32_t)acc + (uint32_t)((int16_t)a * (int16_t)b) + (uint32_t)((a >> 16) * (b >> 16)));",
        dsp=asm("smlad %0, %1, %2, %3", "a", "b", "acc"),
    ),
    Intrinsic(
        "t_sxtb16", "int32_t", ("int32_t v",), lambda v: join(signed(v, 8), signed(v >> 16, 8)),
        "return (int32_t)(((uint32_t)(int8_t)v & 0xFFFFu) | ((uint32_t)(int8_t)(v >> 16) << 16));",
        dsp=asm("sxtb16 %0, %1", "v"),
    ),
    Intrinsic(
        "t_sxtb16_ror8", "int32_t", ("int32_t v",), lambda v: join(signed(v >> 8, 8), signed(v >> 24, 8)),
        "return (int32_t)(((uint32_t)(int8_t)(v >> 8) & 0xFFFFu) | ((uint32_t)(int8_t)(v >> 24) << 16));",
        dsp=asm("sxtb16 %0, %1, ror #8", "v"),
    ),
    Intrinsic(
        "t_sxtab16", "int32_t", ("int32_t a", "int32_t v"),
        lambda a, v: join(*(x + signed(y, 8) for x, y in zip(halves(a), (v, v >> 16), strict=True))),
        "uint32_t low = ((uint32_t)a + (uint32_t)(int8_t)v) & 0xFFFFu;"
        " return (int32_t)(low | ((((uint32_t)a >> 16) + (uint32_t)(int8_t)(v >> 16)) << 16));",
        dsp=asm("sxtab16 %0, %1, %2", "a", "v"),
    ),
    Intrinsic(
        "t_fields", "int32_t", ("int32_t mask", "int32_t word", "int32_t shift"),
        lambda mask, word, shift: signed((word & 0xFFFFFFFF) >> shift & mask, 32),
        "return (int32_t)((uint32_t)mask & ((uint32_t)word >> shift));",
        dsp=_FIELDS.format("lsr", ">>"),
    ),
    Intrinsic(
        "t_top_fields", "int32_t", ("int32_t mask", "int32_t word", "int32_t shift"),
        lambda mask, word, shift: signed(word << shift & mask, 32),
        "return (int32_t)((uint32_t)mask & ((uint32_t)word << shift));",
        dsp=_FIELDS.format("lsl", "<<"),
    ),
    Intrinsic(
        "t_ratio", "int32_t", ("int32_t term", "int32_t levels", "int32_t total"),
        lambda term, levels, total: (term * levels + total // 2) // total,
        "return (int32_t)(((uint32_t)term * (uint32_t)levels + (uint32_t)total / 2u) / (uint32_t)total);",
    ),
    # A natural logarithm, by lines between a table's entries; see `tapc.base.arithmetic.logarithm`.
    Intrinsic(
        "t_logarithm", "int32_t", ("int32_t v", "const int32_t *logs", "int32_t octave"), None,
        "int32_t n = 31 - __builtin_clz((uint32_t)v); uint32_t m = ((uint32_t)v << (31 - n)) & 0x7FFFFFFFu;"
        " const int32_t *p = logs + (m >> 25); int32_t rest = (int32_t)(m >> 9 & 0xFFFFu);"
        " return n * octave + p[0] + (int32_t)((int64_t)(p[1] - p[0]) * rest >> 16);",
    ),
    *_of_arithmetics("requantize"),
    Intrinsic(
        "t_signed", "int32_t", ("int32_t word", "int32_t left", "int32_t right"),
        lambda word, left, right: signed(word << left, 32) >> right,
        "return (int32_t)((uint32_t)word << left) >> right;",
    ),
    Intrinsic(
        "t_mac", "int32_t", ("int32_t acc", "int32_t a", "int32_t b"), lambda acc, a, b: signed(acc + a * b, 32),
        "return (int32_t)((uint32_t)acc + (uint32_t)a * (uint32_t)b);",
        # GCC alone sums the products in another order, for which the registers do not suffice.
        v6m='int32_t t = a; __asm__("mul %0, %2\\n\\tadd %1, %0" : "+&l"(t), "+lh"(acc) : "l"(b) : "cc"); return acc;',
    ),
    Intrinsic("t_low", "int32_t", ("int32_t v",), lambda v: signed(v, 16), "return (int16_t)v;"),
    Intrinsic(
        "t_high", "int32_t", ("int32_t v",), lambda v: signed(v - signed(v, 16), 32) >> 16,
        "return (int32_t)((uint32_t)v - (uint32_t)(int16_t)v) >> 16;",
    ),
    Intrinsic("t_top", "int32_t", ("int32_t v",), lambda v: v >> 16, "return v >> 16;"),
    # Both halves of the sum of words follow from the words' sum and that of their upper halves.
    Intrinsic(
        "t_halves", "void", ("int32_t *total", "int32_t *upper", "int32_t v"), None,
        "*total = (int32_t)((uint32_t)*total + (uint32_t)v);"
        " *upper = (int32_t)((uint32_t)*upper + (uint32_t)((int32_t)((uint32_t)v + 32768u) >> 16));",
        # The bit that is shifted out last is the sign of the lower half.
        v6m='int32_t a = *total, b = *upper; __asm__("add %0, %2\\n\\tasr %2, %2, #16\\n\\tadc %1, %2"'
        ' : "+lh"(a), "+l"(b), "+l"(v) : : "cc"); *total = a; *upper = b;',
    ),
    *(_add_linear(bits) for bits in (8, 4, 0)),
    *_of_arithmetics("add"),
    *_of_arithmetics("average"),
    *_of_arithmetics("softmax"),
    *_of_arithmetics("normalize"),
    *GATE_INTRINSICS,
    *WIDE_INTRINSICS,
    *TABLE_INTRINSICS,
    *SOFTMAX_INTRINSICS,
    *TRANSFORM_INTRINSICS,
    *BOX_INTRINSICS,
    *MVE_INTRINSICS,
    *TFLITE_LANES,
)  # fmt: skip


_GUARDS = (
    "defined(__ARM_FEATURE_DSP)",
    "defined(__ARM_FEATURE_DSP) && defined(__ARM_FP) && (__ARM_FP & 4)",
    "defined(__ARM_ARCH_6M__)",
    # Constraints of the inline assembler need inlining.
    "defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2) && defined(__OPTIMIZE__) && !defined(__clang__)",
)


def _used(source: str) -> set[str]:
    """Return the intrinsics that C code calls, and those that they call."""
    bodies = {e.name: " ".join((e.portable, e.dsp, e.fpu, e.v6m, e.mve)) for e in INTRINSICS}
    used: set[str] = set()
    new = [source]
    while new:
        found = {name for text in new for name in re.findall(r"\bt_\w+", text) if name in bodies} - used
        used |= found
        new = [bodies[name] for name in found]
    return used


def known(source: str) -> tuple[Intrinsic, ...]:
    """Return the functions that C code may call: those of every kernel, and those that are made for it."""
    return (*INTRINSICS, *tiles_of(source))


def header(source: str, guard: str = "TAPC_INTRINSICS_H") -> str:
    """Return a header with include guard `guard`, C11 for GCC and Clang, with what the C code `source` calls."""
    lines = [
        "/* Generated by tapc: the intrinsics that the kernels call. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "#include <math.h>",
        "#include <stdint.h>",
        "",
        "typedef int32_t __attribute__((may_alias)) t_word;",
        "typedef int16_t __attribute__((may_alias)) t_half;",
        "typedef int64_t __attribute__((may_alias, aligned(4))) t_two;",
        "typedef struct { int32_t word[256]; } __attribute__((may_alias)) t_block;  /* what LDRD's offset reaches */",
        "typedef int32_t __attribute__((vector_size(16), may_alias, aligned(4))) t_v4;",
        "typedef uint16_t __attribute__((vector_size(16))) t_v8;",
        "typedef int16_t __attribute__((vector_size(16))) t_h8;",
        "typedef int8_t __attribute__((vector_size(16), may_alias, aligned(1))) t_b16;",
        "typedef int8_t __attribute__((vector_size(8), may_alias, aligned(1))) t_b8;",
        "typedef int8_t __attribute__((vector_size(4), may_alias, aligned(1))) t_b4;",
        "#define T_INLINE static inline __attribute__((always_inline, unused))",
        "#define T_CALLED static __attribute__((noinline, unused))",
        "",
    ]
    used = _used(source)
    for entry in (*(e for e in INTRINSICS if e.name in used), *tiles_of(source)):
        kind = "T_CALLED" if entry.called else "T_INLINE"
        head = f"{kind} {entry.result} {entry.name}({', '.join(entry.parameters)}) {{"
        bodies = (entry.dsp, entry.fpu, entry.v6m, entry.mve)
        forms = [(guard, body) for guard, body in zip(_GUARDS, bodies, strict=True) if body]
        lines.append(head)
        # Backwards: a core with Helium has the DSP extension, too.
        for i, (guard, body) in enumerate(reversed(forms)):
            lines += [f"#{'el' if i else ''}if {guard}", f"  {body}"]
        lines += ["#else", f"  {entry.portable}", "#endif"] if forms else [f"  {entry.portable}"]
        lines += ["}", ""]
    return "\n".join([*lines, "#endif", ""])
