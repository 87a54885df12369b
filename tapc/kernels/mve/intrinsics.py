"""Intrinsics for Helium: each works on sixteen bytes or on four 32-bit lanes.

Constraints: `Te` is an even register, for VMLADAV; `l` one of the first eight, where memory has narrower lanes.

Four lanes pass from one intrinsic to the next through an array of int32, which GCC keeps in a vector register once it
has inlined them; TensorIR's C has no type for it.
"""

from tapc.base.arithmetic.intrinsic import Intrinsic

CHUNK = 16  # bytes of a vector

_EACH = "for (int32_t i = 0; i < 4; ++i) "
_GET = "t_v4 v = *(t_v4 *)(void *)code; "
_PUT = " *(t_v4 *)(void *)code = v;"


def _lanes(body: str, *inputs: str, dup: str = "") -> str:
    """Return C that changes the vector `code` in place; `dup` lists C expressions that become vectors first."""
    operands = ", ".join(inputs)
    return f'{_GET}{dup}__asm__("{body}" : "+w"(v) : {operands});{_PUT}'


def _multiply(bits: int, *, add: bool) -> Intrinsic:
    """Return the sum of sixteen products of int8; `left` brings a field of narrow weights to the top of its byte."""
    narrow, unused = bits < 8, 8 - bits
    code = f"(int8_t)(uint8_t)(a[i] << left) >> {unused}" if narrow else "(int8_t)a[i]"
    vector = "*(const t_v4 *)"
    field = (
        ' if (left) __asm__("vshl.i8 %q0, %q1, %2" : "=w"(v) : "w"(v), "n"(left));'
        f' __asm__("vshr.s8 %q0, %q1, #{unused}" : "=w"(v) : "w"(v));'
    )
    name, access = ("vmladava", "+") if add else ("vmladav", "=")
    parameters = ("const void *w", *(["int32_t left"] if narrow else []), "const void *x")
    return Intrinsic(
        f"t_v{'mac' if add else 'mul'}{bits}", "int32_t", (*(["int32_t acc"] if add else []), *parameters), None,
        "const uint8_t *a = (const uint8_t *)w; const int8_t *b = (const int8_t *)x;"
        f" uint32_t sum = {'(uint32_t)acc' if add else '0'};"
        f" for (int32_t i = 0; i < {CHUNK}; ++i) {{ sum += (uint32_t)(({code}) * b[i]); }} return (int32_t)sum;",
        mve=f"{'' if add else 'int32_t acc; '}t_v4 v = {vector}w;{field if narrow else ''}"
        f' __asm__("{name}.s8 %0, %q1, %q2" : "{access}Te"(acc) : "w"(v), "w"({vector}x)); return acc;',
    )  # fmt: skip


def _saturate(bits: int) -> Intrinsic:
    low, high = (-128, 127) if bits == 8 else (0, 15)
    name, sign = ("vqshl.s32", "s") if bits == 8 else ("vqshlu.s32", "u")
    shifts = f"{name} %q0, %q0, #{32 - bits}\\n\\tvshr.{sign}32 %q0, %q0, #{32 - bits}"
    return Intrinsic(
        f"t_saturate4_{bits}", "void", ("int32_t *code",), None,
        f"{_EACH}code[i] = code[i] < {low} ? {low} : (code[i] > {high} ? {high} : code[i]);",
        mve=f'{_GET}__asm__("{shifts}" : "+w"(v));{_PUT}',
    )  # fmt: skip


def _scatter8(*, clamped: bool) -> Intrinsic:
    """Return what stores the codes of two lines of four neighbours, whose products with the scale are rounded."""
    ends, low, high = (("int32_t low", "int32_t high"), "low", "high") if clamped else ((), "-128", "127")
    narrow = '"\\n\\tvmax.s16 %q0, %q0, %q4\\n\\tvmin.s16 %q0, %q0, %q5"' if clamped else '"\\n\\tvqmovnb.s16 %q0, %q0"'
    bounds = ", ".join(["(int16_t)low"] * 8), ", ".join(["(int16_t)high"] * 8)
    vectors = f" t_h8 l = {{{bounds[0]}}}, h = {{{bounds[1]}}};" if clamped else ""
    places = ", ".join(f"(uint16_t)({i} * stride), (uint16_t)({i} * stride + apart)" for i in range(4))
    return Intrinsic(
        f"t_scatter8{'_c' if clamped else ''}", "void",
        ("void *p", "int32_t stride", "int32_t apart", "const int32_t *first", "const int32_t *second", "int32_t zero",
         *ends), None,
        "for (int32_t i = 0; i < 8; ++i) { int32_t v = (i < 4 ? first[i] : second[i - 4]) + zero;"
        f" v = v < {low} ? {low} : (v > {high} ? {high} : v);"
        " ((int8_t *)p)[i % 4 * stride + (i < 4 ? 0 : apart)] = (int8_t)v; }",
        mve=f"t_v8 at = {{{places}}};{vectors} t_v4 v = *(const t_v4 *)(const void *)first;"
        ' __asm__("vqmovnb.s32 %q0, %q0\\n\\tvqmovnt.s32 %q0, %q2\\n\\tvqadd.s16 %q0, %q0, %3" '
        f'{narrow} : "=w"(v) : "0"(v), "w"(*(const t_v4 *)(const void *)second), "r"(zero)'
        f'{", " + chr(34) + "w" + chr(34) + "(l), " + chr(34) + "w" + chr(34) + "(h)" if clamped else ""});'
        ' __asm__ volatile("vstrb.16 %q0, [%1, %q2]" : : "w"(v), "r"(p), "w"(at) : "memory");',
    )  # fmt: skip


# Codes saturate long before.
_ROUND = " f = f < -1e6f ? -1e6f : (f > 1e6f ? 1e6f : f); code[i] = (int32_t)lrintf(f) + zero; }"
# VCVTN and VQADD saturate, so that no sum wraps around.
_REQUANTIZE = "vcvt.f32.s32 %q0, %q0\\n\\tvmul.f32 %q0, %q0, {}\\n\\tvcvtn.s32.f32 %q0, %q0\\n\\tvqadd.s32 %q0, %q0, {}"


def _spread(lanes: int, bits: int) -> Intrinsic:
    """Return a copy of every stride-th code, one a byte."""
    lane = 128 // lanes
    each = f"for (int32_t i = 0; i < {lanes}; ++i) "
    narrow = "(uint16_t)" if lanes == 8 else ""
    places = ", ".join(["0", *(f"{narrow}({i} * stride)" for i in range(1, lanes))])

    def move(change: str) -> str:
        return (
            f'__asm__ volatile("vldrb.u{lane} %q0, [%1, %q2]\\n\\t{change}vstrb.{lane} %q0, [%3]"'
            ' : "=&w"(v) : "r"(from), "w"(at), "l"(to) : "memory");'
        )

    vectors = f"t_v{lanes} v, at = {{{places}}};"
    if bits == 8:
        return Intrinsic(
            f"t_spread{lanes}_8", "void", ("void *to", "const void *from", "int32_t stride"), None,
            f"{each}((int8_t *)to)[i] = ((const int8_t *)from)[i * stride];",
            mve=f"{vectors} {move('')}",
        )  # fmt: skip
    high = f"vshr.u{lane} %q0, %q0, #4\\n\\t"
    low = f"vshl.i{lane} %q0, %q0, #{lane - 4}\\n\\tvshr.u{lane} %q0, %q0, #{lane - 4}\\n\\t"
    return Intrinsic(
        f"t_spread{lanes}_4", "void", ("void *to", "const void *from", "int32_t stride", "int32_t odd"), None,
        f"{each}((int8_t *)to)[i] = (int8_t)((((const uint8_t *)from)[i * stride] >> (odd ? 4 : 0)) & 15);",
        mve=f"{vectors} if (odd) {{ {move(high)} }} else {{ {move(low)} }}",
    )  # fmt: skip


MVE_INTRINSICS: tuple[Intrinsic, ...] = (
    *(_multiply(bits, add=add) for bits in (8, 4, 2) for add in (False, True)),
    Intrinsic(
        "t_copy16", "void", ("void *to", "const void *from"), None,
        "__builtin_memmove(to, from, 16);",
        mve="*(t_b16 *)to = *(const t_b16 *)from;",
    ),
    Intrinsic(
        "t_fill16", "void", ("void *to", "int32_t code"), None,
        "for (int32_t i = 0; i < 16; ++i) ((int8_t *)to)[i] = (int8_t)code;",
        mve='t_b16 v; __asm__("vdup.8 %q0, %1" : "=w"(v) : "r"(code)); *(t_b16 *)to = v;',
    ),
    # At offsets that an instruction has room for, which are constants.
    Intrinsic(
        "t_copy16_near", "void", ("void *to", "int32_t target", "const void *from", "int32_t source"), None,
        "__builtin_memmove((char *)to + target, (const char *)from + source, 16);",
        mve='t_b16 v; __asm__ volatile("vldrb.u8 %q0, [%1, %2]\\n\\tvstrb.8 %q0, [%3, %4]"'
        ' : "=&w"(v) : "r"(from), "n"(source), "r"(to), "n"(target) : "memory");',
    ),
    Intrinsic(
        "t_copy4", "void", ("void *to", "const void *from"), None,
        "__builtin_memmove(to, from, 4);",
    ),
    # Two codes a byte, the low nibble first.
    Intrinsic(
        "t_expand16", "void", ("void *to", "const void *from"), None,
        "const uint8_t *in = (const uint8_t *)from;"
        " for (int32_t i = 0; i < 16; ++i) ((int8_t *)to)[i] = (int8_t)((in[i / 2] >> (i % 2 * 4)) & 15);",
        mve='t_b16 v, m; __asm__("vmov.i8 %q0, #15" : "=w"(m)); __asm__("vldrb.u16 %q0, [%1]\\n\\tvsli.16 %q0, %q0, #4'
        '\\n\\tvand %q0, %q0, %q2" : "=&w"(v) : "l"(from), "w"(m), "m"(*(const t_b8 *)from)); *(t_b16 *)to = v;',
    ),
    Intrinsic(
        "t_expand2", "void", ("void *to", "const void *from"), None,
        "int32_t v = *(const uint8_t *)from; int8_t *out = (int8_t *)to; out[0] = (int8_t)(v & 15);"
        " out[1] = (int8_t)(v >> 4);",
    ),
    # Codes of four channels of a pixel, not yet clamped.
    Intrinsic(
        "t_requant4", "void",
        ("int32_t *code", "int32_t a", "int32_t b", "int32_t c", "int32_t d", "const int32_t *bias",
         "const float *scale", "int32_t zero"), None,
        "int32_t acc[4] = {a, b, c, d}; "
        f"{_EACH}{{ float f = (float)(int32_t)((uint32_t)acc[i] + (uint32_t)bias[i]) * scale[i];{_ROUND}",
        # Not by VMOV of two registers: QEMU 7.2 and compilers disagree about which register goes to which lane.
        mve='t_v4 v = {a, b, c, d}; __asm__("vadd.i32 %q0, %q0, %q1\\n\\t'
        f'{_REQUANTIZE.format("%q2", "%3")}" : "+w"(v) : "w"(*(const t_v4 *)(const void *)bias),'
        f' "w"(*(const t_v4 *)(const void *)scale), "r"(zero));{_PUT}',
    ),
    # Codes of a channel's four pixels, not yet clamped.
    Intrinsic(
        "t_requant4_same", "void", ("int32_t *code", "float scale", "int32_t zero"), None,
        f"{_EACH}{{ float f = (float)code[i] * scale;{_ROUND}",
        mve=_lanes(_REQUANTIZE.format("%1", "%2"), '"r"(scale)', '"r"(zero)'),
    ),
    # The products of a channel's four pixels with its scale, rounded.
    Intrinsic(
        "t_round4", "void", ("int32_t *code", "float scale"), None,
        f"{_EACH}{{ float f = (float)code[i] * scale;{_ROUND.replace(' + zero', '')}",
        mve=_lanes("vcvt.f32.s32 %q0, %q0\\n\\tvmul.f32 %q0, %q0, %1\\n\\tvcvtn.s32.f32 %q0, %q0", '"r"(scale)'),
    ),
    *(_scatter8(clamped=clamped) for clamped in (False, True)),
    *(_saturate(bits) for bits in (8, 4)),
    Intrinsic(
        "t_clamp4", "void", ("int32_t *code", "int32_t low", "int32_t high"), None,
        f"{_EACH}code[i] = code[i] < low ? low : (code[i] > high ? high : code[i]);",
        mve=_lanes("vmax.s32 %q0, %q0, %q1\\n\\tvmin.s32 %q0, %q0, %q2", '"w"(l)', '"w"(h)',
                   dup="t_v4 l = {low, low, low, low}, h = {high, high, high, high}; "),
    ),
    Intrinsic(
        "t_dup4", "void", ("int32_t *code", "int32_t value"), None,
        f"{_EACH}code[i] = value;",
        mve="*(t_v4 *)(void *)code = (t_v4){value, value, value, value};",
    ),
    Intrinsic(
        "t_load4_8", "void", ("int32_t *code", "const void *p"), None,
        f"{_EACH}code[i] = ((const int8_t *)p)[i];",
        mve=f't_v4 v; __asm__("vldrb.s32 %q0, [%1]" : "=w"(v) : "l"(p), "m"(*(const t_b4 *)p));{_PUT}',
    ),
    Intrinsic(
        "t_load4_4", "void", ("int32_t *code", "const void *p"), None,
        f"{_EACH}code[i] = (((const uint8_t *)p)[i / 2] >> (i % 2 * 4)) & 15;",
    ),
    Intrinsic(
        "t_store4_8", "void", ("void *p", "const int32_t *code"), None,
        f"{_EACH}((int8_t *)p)[i] = (int8_t)code[i];",
        mve='__asm__("vstrb.32 %q1, [%2]" : "=m"(*(t_b4 *)p) : "w"(*(const t_v4 *)(const void *)code), "l"(p));',
    ),
    Intrinsic(
        "t_store4_4", "void", ("void *p", "const int32_t *code"), None,
        "for (int32_t i = 0; i < 2; ++i) ((uint8_t *)p)[i] = (uint8_t)(code[2 * i] | code[2 * i + 1] << 4);",
    ),
    Intrinsic(
        "t_scatter4_8", "void", ("void *p", "int32_t stride", "const int32_t *code"), None,
        f"{_EACH}((int8_t *)p)[i * stride] = (int8_t)code[i];",
        mve='t_v4 at = {0, stride, 2 * stride, 3 * stride}; __asm__ volatile("vstrb.32 %q0, [%1, %q2]"'
        ' : : "w"(*(const t_v4 *)(const void *)code), "r"(p), "w"(at) : "memory");',
    ),
    *(_spread(lanes, bits) for lanes in (8, 4) for bits in (8, 4)),
    # Four bytes, `stride` apart; an offset beyond 127 does not fit the instruction.
    Intrinsic(
        "t_wide4", "void", ("int32_t *x", "const void *p", "int32_t offset", "int32_t stride"), None,
        f"{_EACH}x[i] = ((const int8_t *)p)[offset + i * stride];",
        mve="t_v4 v, at = {offset, offset + stride, offset + 2 * stride, offset + 3 * stride};"
        ' if (stride == 1 && offset > -128 && offset < 128) {'
        ' __asm__("vldrb.s32 %q0, [%1, %2]" : "=w"(v) : "l"(p), "n"(offset), "m"(*(const t_block *)p)); } else {'
        ' __asm__("vldrb.s32 %q0, [%1, %q2]" : "=&w"(v) : "r"(p), "w"(at), "m"(*(const t_block *)p)); }'
        " *(t_v4 *)(void *)x = v;",
    ),
    Intrinsic(
        "t_vmla4", "void", ("int32_t *code", "const int32_t *x", "int32_t w"), None,
        f"{_EACH}code[i] = (int32_t)((uint32_t)code[i] + (uint32_t)(w * x[i]));",
        mve=_lanes("vmla.s32 %q0, %q1, %2", '"w"(*(const t_v4 *)(const void *)x)', '"r"(w)'),
    ),
    Intrinsic(
        "t_sum4_linear", "void",
        ("int32_t *code", "const int32_t *other", "int32_t fa", "int32_t fb", "int32_t offset", "int32_t shift"), None,
        f"{_EACH}code[i] = (int32_t)((uint32_t)code[i] * (uint32_t)fa + (uint32_t)other[i] * (uint32_t)fb"
        " + (uint32_t)offset) >> shift;",
        mve=_lanes("vmul.i32 %q0, %q0, %1\\n\\tvmla.s32 %q0, %q2, %3\\n\\tvadd.i32 %q0, %q0, %4\\n\\tvshl.s32 %q0, %5",
                   '"r"(fa)', '"w"(*(const t_v4 *)(const void *)other)', '"r"(fb)', '"r"(offset)', '"r"(-shift)'),
    ),
    Intrinsic(
        "t_sum4_float", "void",
        ("int32_t *code", "const int32_t *first", "const int32_t *second", "float fa", "float fb", "float offset"),
        None,
        f"{_EACH}{{ float f = fmaf((float)second[i], fb, fmaf((float)first[i], fa, offset));"
        " f = f < -1e6f ? -1e6f : (f > 1e6f ? 1e6f : f); code[i] = (int32_t)lrintf(f); }",
        mve="t_v4 v, a = *(const t_v4 *)(const void *)first, b = *(const t_v4 *)(const void *)second;"
        ' __asm__("vdup.32 %q0, %3\\n\\tvcvt.f32.s32 %q1, %q1\\n\\tvcvt.f32.s32 %q2, %q2\\n\\tvfma.f32 %q0, %q1, %4'
        '\\n\\tvfma.f32 %q0, %q2, %5\\n\\tvcvtn.s32.f32 %q0, %q0"'
        f' : "=&w"(v), "+w"(a), "+w"(b) : "r"(offset), "r"(fa), "r"(fb));{_PUT}',
    ),
)  # fmt: skip
