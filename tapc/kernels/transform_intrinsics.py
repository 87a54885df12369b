"""Intrinsics of convolutions by transforms."""

from tapc.base.arithmetic.intrinsic import Intrinsic
from tapc.kernels.halves import asm, halves, join, signed, smlad


def _products() -> str:
    """Return C of `t_products`: GCC alone keeps in memory what does not fit the eight low registers."""
    step = (
        "ldmia %[u]!, {r4}", "sxth r5, r4", "asrs r4, r4, #16", "ldmia %[v]!, {r2, r3}", "movs r6, r5",
        "muls r6, r2", "add %[a], r6", "muls r5, r3", "add %[b], r5", "muls r2, r4", "add %[c], r2", "muls r3, r4",
        "add %[d], r3",
    )  # fmt: skip

    def loop(copies: int) -> str:
        # GCC takes a line for an instruction: with .rept it would not know how far its own branches go.
        lines = (".syntax unified", "1:", *step * copies, "cmp %[u], %[end]", "bne 1b")
        text = "\n".join(f'    "{line}\\n\\t"' for line in lines)
        return (
            f'__asm__ volatile(\n{text}\n    : [u] "+l"(u), [v] "+l"(v), [a] "+h"(a), [b] "+h"(b), [c] "+h"(c),'
            ' [d] "+h"(d)\n    : [end] "h"(end) : "memory", "cc", "r2", "r3", "r4", "r5", "r6");'
        )

    return (
        "int32_t a = 0, b = 0, c = 0, d = 0; const int32_t *end = u + (channels & ~3);\n"
        f"  if (channels > 3) {loop(4)}\n  end += channels & 3;\n  if (channels & 3) {loop(1)}\n"
        "  out[0] = a; out[1] = b; out[2] = c; out[3] = d;"
    )


def _halves_of(name: str, sign: int) -> Intrinsic:
    """Return a sum or difference of both half-words."""
    operator = "+" if sign > 0 else "-"

    def meaning(a: int, b: int) -> int:
        return join(*(x + sign * y for x, y in zip(halves(a), halves(b), strict=True)))

    return Intrinsic(
        f"t_{name}", "int32_t", ("int32_t a", "int32_t b"), meaning,
        f"uint32_t low = ((uint32_t)a {operator} (uint32_t)b) & 0xFFFFu;"
        f" return (int32_t)(low | ((((uint32_t)a >> 16) {operator} ((uint32_t)b >> 16)) << 16));",
        dsp=asm(f"{name} %0, %1, %2", "a", "b"),
    )  # fmt: skip


TRANSFORM_INTRINSICS: tuple[Intrinsic, ...] = (
    Intrinsic(
        "t_load1", "int32_t", ("const int32_t *p", "int32_t offset"), None,
        "return p[offset];",
        # Where it stands: GCC would load a word right before it is used.
        dsp="\n#if defined(__OPTIMIZE__) && !defined(__clang__)\n"
        '  int32_t r; __asm__("ldr %0, [%1, %2]" : "=r"(r) : "r"(p), "n"(4 * offset),'
        ' "m"(*(const t_block *)(const void *)p)); return r;\n#else\n  return p[offset];\n#endif',
    ),
    Intrinsic(
        "t_storew", "void", ("int32_t *p", "int32_t offset", "int32_t v"), None,
        "p[offset] = v;",
    ),
    Intrinsic(
        "t_smuad", "int32_t", ("int32_t a", "int32_t b"), lambda a, b: smlad(a, b, 0),
        "return (int32_t)((uint32_t)((int16_t)a * (int16_t)b) + (uint32_t)((a >> 16) * (b >> 16)));",
        dsp=asm("smuad %0, %1, %2", "a", "b"),
    ),
    *(_halves_of(name, sign) for name, sign in (("sadd16", 1), ("ssub16", -1))),
    Intrinsic(
        "t_wadd", "int32_t", ("int32_t a", "int32_t b"), lambda a, b: signed(a + b, 32),
        "return (int32_t)((uint32_t)a + (uint32_t)b);",
    ),
    Intrinsic(
        "t_wsub", "int32_t", ("int32_t a", "int32_t b"), lambda a, b: signed(a - b, 32),
        "return (int32_t)((uint32_t)a - (uint32_t)b);",
    ),
    Intrinsic(
        "t_waddl", "int32_t", ("int32_t a", "int32_t b", "int32_t left"),
        lambda a, b, left: signed(a + (b << left), 32),
        "return (int32_t)((uint32_t)a + ((uint32_t)b << left));",
    ),
    Intrinsic(
        "t_wsubl", "int32_t", ("int32_t a", "int32_t b", "int32_t left"),
        lambda a, b, left: signed(a - (b << left), 32),
        "return (int32_t)((uint32_t)a - ((uint32_t)b << left));",
    ),
    # Sums of products over channels: words of two factors by pairs of inputs.
    Intrinsic(
        "t_products", "void", ("const int32_t *u", "const int32_t *v", "int32_t channels", "int32_t *out"), None,
        "int32_t a = 0, b = 0, c = 0, d = 0;\n"
        "  for (int32_t i = 0; i < channels; ++i) {\n"
        "    int32_t low = (int16_t)u[i], high = u[i] >> 16, x = v[2 * i], y = v[2 * i + 1];\n"
        "    a = t_mac(a, low, x); b = t_mac(b, low, y); c = t_mac(c, high, x); d = t_mac(d, high, y);\n"
        "  }\n  out[0] = a; out[1] = b; out[2] = c; out[3] = d;",
        v6m=_products(),
    ),
)  # fmt: skip
