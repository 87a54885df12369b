"""Helium's requantization and addition in TFLite's integers, on four lanes: VQRDMULH rounds as their products do."""

from tapc.base.arithmetic.intrinsic import Intrinsic

_EACH = "for (int32_t i = 0; i < 4; ++i) "
_ZEROS = ("int32_t za", "int32_t zb")
_FACTORS = ("int32_t fa", "int32_t ea", "int32_t fb", "int32_t eb", "int32_t f", "int32_t e", "int32_t zero")
# What a shift to the left brings out of 32 bits saturates, and so does the code in either way.
_SCALED = (
    "int32_t s = {shift} + 32, n = s < 31 ? s : 31;"
    " int64_t p = ((int64_t){acc} * {factor} + ((int64_t)1 << (n - 1))) >> n;"
    " s -= n; p = (p >> s) + ((p & (int64_t)((1u << s) - 1u)) > (int64_t)(((1u << s) - 1u) >> 1) + (p < 0 && s));"
    " p += zero; code[i] = p < -1000000 ? -1000000 : (p > 1000000 ? 1000000 : (int32_t)p);"
)


def _right(value: str, factor: str, shift: str, sign: str) -> str:
    """Return assembly: a product, then a shift to the right that rounds half away from zero."""
    return (
        f"vqrdmulh.s32 {value}, {value}, {factor}\\n\\tvand {sign}, {value}, {shift}\\n\\tvshr.s32 {sign}, {sign}, #31"
        f"\\n\\tvqadd.s32 {value}, {value}, {sign}\\n\\tvrshl.s32 {value}, {value}, {shift}"
    )


def _quick(factor: str, sign: str = "%q2") -> str:
    """Return assembly: a product, less one where it is negative; what is shifted then rounds half away from zero."""
    return f"vqrdmulh.s32 %q0, %q0, {factor}\\n\\tvshr.s32 {sign}, %q0, #31\\n\\tvadd.i32 %q0, %q0, {sign}"


def _term(value: str, zero: str, factor: str, shift: str) -> str:
    """Return C that brings an operand's vector of codes to 20 fractional bits of the common scale."""
    return (
        f"n = 31 - {shift}; s = (t_v4){{n, n, n, n}};"
        f' __asm__("vsub.i32 %q0, %q0, %2\\n\\tvshl.i32 %q0, %q0, #20\\n\\t{_right("%q0", "%3", "%q4", "%q1")}"'
        f' : "+w"({value}), "=&w"(sign) : "r"({zero}), "r"({factor}), "w"(s));'
    )


TFLITE_LANES: tuple[Intrinsic, ...] = (
    # Factor and shift of a channel lie next to each other.
    Intrinsic(
        "t_requant4_tflite", "void",
        ("int32_t *code", "int32_t a", "int32_t b", "int32_t c", "int32_t d", "const int32_t *bias",
         "const int32_t *scale", "int32_t zero"), None,
        "int32_t acc[4] = {a, b, c, d}; "
        f"{_EACH}{{ acc[i] = (int32_t)((uint32_t)acc[i] + (uint32_t)bias[i]);"
        f" {_SCALED.format(acc='acc[i]', factor='scale[2 * i]', shift='scale[2 * i + 1]')} }}",
        mve="t_v4 v = {a, b, c, d}, f, s, l, at = {0, 8, 16, 24};"
        ' __asm__("vldrw.u32 %q0, [%2, %q4]\\n\\tvldrw.u32 %q1, [%3, %q4]" : "=&w"(f), "=&w"(s)'
        ' : "r"(scale), "r"(scale + 1), "w"(at), "m"(*(const t_block *)(const void *)scale));'
        ' s = ~s; __asm__("vadd.i32 %q0, %q0, %q4\\n\\tvmov.i32 %q1, #0\\n\\tvmax.s32 %q1, %q1, %q2'
        '\\n\\tvqshl.s32 %q0, %q0, %q1\\n\\tvsub.i32 %q2, %q2, %q1\\n\\t'
        f'{_right("%q0", "%q3", "%q2", "%q1")}\\n\\tvqadd.s32 %q0, %q0, %5"'
        ' : "+w"(v), "=&w"(l), "+w"(s) : "w"(f), "w"(*(const t_v4 *)(const void *)bias), "r"(zero));'
        " *(t_v4 *)(void *)code = v;",
    ),
    Intrinsic(
        "t_requant4_tflite_same", "void", ("int32_t *code", "int32_t factor", "int32_t shift", "int32_t zero"), None,
        f"{_EACH}{{ {_SCALED.format(acc='code[i]', factor='factor', shift='shift')} }}",
        mve="t_v4 v = *(t_v4 *)(void *)code, sign; int32_t n = shift < -1 ? 0 : ~shift; t_v4 s = {n, n, n, n};"
        f' __asm__("vqshl.s32 %q0, %3\\n\\t{_right("%q0", "%2", "%q5", "%q1")}\\n\\tvqadd.s32 %q0, %q0, %4"'
        ' : "+w"(v), "=&w"(sign) : "r"(factor), "r"(shift < -1 ? ~shift : 0), "r"(zero), "w"(s));'
        " *(t_v4 *)(void *)code = v;",
    ),
    Intrinsic(
        "t_requant4_tflite_right", "void",
        ("int32_t *code", "int32_t a", "int32_t b", "int32_t c", "int32_t d", "const int32_t *bias",
         "const int32_t *scale", "int32_t zero"), None,
        "t_requant4_tflite(code, a, b, c, d, bias, scale, zero);",
        mve="t_v4 v = {a, b, c, d}, f, s, at = {0, 8, 16, 24};"
        ' __asm__("vldrw.u32 %q0, [%2, %q4]\\n\\tvldrw.u32 %q1, [%3, %q4]" : "=&w"(f), "=&w"(s)'
        ' : "r"(scale), "r"(scale + 1), "w"(at), "m"(*(const t_block *)(const void *)scale));'
        f' __asm__("vadd.i32 %q0, %q0, %q3\\n\\t{_quick("%q2")}\\n\\tvmvn %q1, %q1\\n\\tvrshl.s32 %q0, %q0, %q1'
        '\\n\\tvqadd.s32 %q0, %q0, %4" : "+w"(v), "+w"(s), "+w"(f)'
        ' : "w"(*(const t_v4 *)(const void *)bias), "r"(zero));'
        " *(t_v4 *)(void *)code = v;",
    ),
    Intrinsic(
        "t_requant4_tflite_same_right", "void",
        ("int32_t *code", "int32_t factor", "int32_t shift", "int32_t zero"), None,
        "t_requant4_tflite_same(code, factor, shift, zero);",
        mve="t_v4 v = *(t_v4 *)(void *)code, s;"
        f' __asm__("{_quick("%2", "%q1")}\\n\\tvrshl.s32 %q0, %3\\n\\tvqadd.s32 %q0, %q0, %4"'
        ' : "+w"(v), "=&w"(s) : "r"(factor), "r"(~shift), "r"(zero)); *(t_v4 *)(void *)code = v;',
    ),
    Intrinsic(
        "t_sum4_tflite", "void",
        ("int32_t *code", "const int32_t *first", "const int32_t *second", *_ZEROS, *_FACTORS), None,
        f"{_EACH}code[i] = t_scale_tflite(t_scale_tflite((first[i] - za) * (1 << 20), fa, ea)"
        " + t_scale_tflite((second[i] - zb) * (1 << 20), fb, eb), f, e) + zero;",
        mve="t_v4 v = *(const t_v4 *)(const void *)first, w = *(const t_v4 *)(const void *)second, sign, s; int32_t n;"
        f" {_term('v', 'za', 'fa', 'ea')} {_term('w', 'zb', 'fb', 'eb')}"
        " n = 31 - e; s = (t_v4){n, n, n, n};"
        f' __asm__("vadd.i32 %q0, %q0, %q5\\n\\t{_right("%q0", "%2", "%q3", "%q1")}\\n\\tvadd.i32 %q0, %q0, %4"'
        ' : "+w"(v), "=&w"(sign) : "r"(f), "w"(s), "r"(zero), "w"(w)); *(t_v4 *)(void *)code = v;',
    ),
)  # fmt: skip
