"""Intrinsics of detections: boxes in whole parts, and whether two overlap."""

from tapc.base.arithmetic.intrinsic import Intrinsic

BOX_INTRINSICS = (
    # Factors have 30 bits: the sum has 62.
    Intrinsic(
        "t_box_scaled", "int32_t",
        ("int32_t value", "int32_t factor", "int32_t shift", "int32_t low", "int32_t high"), None,
        "int64_t p = ((int64_t)value * factor + ((int64_t)1 << (shift - 1))) >> shift;"
        " return p < low ? low : p > high ? high : (int32_t)p;",
        called=True,
    ),
    # Half of a side times a power of two, in 2^-16, between a table's entries; at most 2^17.
    Intrinsic(
        "t_box_half", "int32_t",
        ("int32_t side", "int32_t power", "int32_t size", "const int32_t *table"), None,
        "int32_t step = (power & 65535) >> 10, rest = power & 1023, shift = 2 + size - (power >> 16);"
        " int32_t grown = table[step] + (((table[step + 1] - table[step]) * rest) >> 10);"
        " int32_t half = (((side * grown) >> shift) + 1) >> 1; return half > 131072 ? 131072 : half;",
        called=True,
    ),
    # Sides have 16 bits without sign: areas 32, their products with 2^16 and a share up to it 49.
    Intrinsic(
        "t_box_covers", "int32_t",
        ("int32_t wide", "int32_t high", "const int32_t *sides", "int32_t share"), None,
        "int64_t inner = (int64_t)wide * high;"
        " int64_t both = (int64_t)sides[0] * sides[1] + (int64_t)sides[2] * sides[3] - inner;"
        " return (inner << 16) > both * share;",
        called=True,
    ),
)  # fmt: skip
