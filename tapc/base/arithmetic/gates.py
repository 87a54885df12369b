"""Sigmoid and tanh of 16-bit codes, by lines between the entries of one table: gates of recurrent layers.

Inputs have steps of 2^-12, results of 2^-15. An entry lies above its sigmoid by half of what a chord would lie below:
lines err to both sides alike. Over all inputs, which end at 8, a sigmoid errs by 3.1e-5 at most (1.02 steps), a
tanh by 4.6e-5 (1.48 steps). What lies beyond is taken for 8: there a sigmoid errs by 3.6e-4. The integers are those of
TFLite's 16-bit gates.
"""

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.interface import Ints
from tapc.base.arithmetic.intrinsic import Intrinsic

INPUT_BITS = 12
"""Fractional bits of what is given to a gate."""
OUTPUT_BITS = 15
"""Fractional bits of what it gives."""
_ENTRIES, _PER_UNIT = 256, 24


def _table() -> Ints:
    s = 1 / (1 + np.exp(-np.arange(_ENTRIES) / _PER_UNIT))
    curvature = np.abs(s * (1 - s) * (1 - 2 * s))
    found = np.rint(65536 * (s + curvature / (16 * _PER_UNIT**2))).astype(np.int64)
    found[-1] = 65535
    return found


_TABLE = _table()


def gate_words() -> NDArray[np.uint32]:
    """Return the table as kernels read it: each word holds an entry and, in its upper half, the next."""
    low, high = _TABLE.astype(np.uint32), np.append(_TABLE[1:], _TABLE[-1]).astype(np.uint32)
    return np.asarray(low | high << np.uint32(16), np.uint32)


Scalars = tuple[int, int, int]
"""Factor, rounding and right shift that make codes of what is looked up: 3 * 2^12 of them are 1."""
PLAIN: Scalars = (3, 0, 0)
"""Of codes of 2^-12."""


def gate_scalars(scale: float) -> Scalars:
    """Return how codes of any scale are looked up: as TFLite does it; powers of two exactly."""
    power = np.log2(np.float64(np.float32(scale)))
    if power == np.rint(power):
        return tanh_scalars(INPUT_BITS + int(power))
    factor, right = float(np.float32(scale)) * (3 << INPUT_BITS), 0
    while factor <= 32767 / 2 and right <= 30:
        factor, right = 2 * factor, right + 1
    return int(factor), 1 << right >> 1, right


def _looked_up(x: Ints, scalars: Scalars) -> Ints:
    factor, half, right = scalars
    found: Ints = (np.asarray(x, np.int64) * factor + half) >> right
    return found


def sigmoid16(x: Ints, scalars: Scalars = PLAIN) -> Ints:
    """Return the sigmoid of codes, of 2^-12 without other scalars, as codes of 2^-15."""
    v = _looked_up(x, scalars)
    a = np.abs(v)
    h = np.minimum(a >> 9, _ENTRIES - 2)
    r = (_TABLE[h] << 9) + (a & 511) * (_TABLE[h + 1] - _TABLE[h])
    r = np.where(a >> 9 >= _ENTRIES - 1, 0x7FFF << 10, r)
    found: Ints = np.where(v >= 0, r + 512, (1 << 25) - r + 511) >> 10
    return found


def tanh16(x: Ints, left: int = 0, scalars: Scalars | None = None) -> Ints:
    """Return the tanh of codes of 2^(`left` - 12), or of what other scalars tell, as codes of 2^-15."""
    v = _looked_up(x, scalars or tanh_scalars(left))
    a = np.abs(v)
    h = np.minimum(a >> 8, _ENTRIES - 2)
    r = (_TABLE[h] << 8) + (a & 255) * (_TABLE[h + 1] - _TABLE[h])
    r = np.where(a >> 8 >= _ENTRIES - 1, 0xFFFF << 8, r)
    found: Ints = np.where(v >= 0, r - (1 << 23) + 128, (1 << 23) - r + 127) >> 8
    return found


_LINE = (
    "uint32_t a = (uint32_t)(v < 0 ? -v : v), h = a >> {bits}, r = {most}; if (h < 255u) {{"
    " uint32_t e = (uint32_t)table[h]; r = e & 0xFFFFu;"
    " r = (r << {bits}) + (a & {mask}u) * ((e >> 16) - r); }} "
)
_SIGMOID = _LINE.format(bits=9, mask=511, most="0x7FFFu << 10") + (
    "return (int32_t)((v >= 0 ? r + 512u : (1u << 25) - r + 511u) >> 10);"
)

GATE_INTRINSICS: tuple[Intrinsic, ...] = (
    Intrinsic(
        "t_sigmoid16", "int32_t", ("int32_t x", "const int32_t *table"), None,
        "int32_t v = x * 3; " + _SIGMOID,
        called=True,
    ),
    Intrinsic(
        "t_sigmoid16_of", "int32_t",
        ("int32_t x", "int32_t factor", "int32_t round", "int32_t right", "const int32_t *table"), None,
        "int32_t v = (x * factor + round) >> right; " + _SIGMOID,
        called=True,
    ),
    Intrinsic(
        "t_tanh16", "int32_t",
        ("int32_t x", "int32_t factor", "int32_t round", "int32_t right", "const int32_t *table"), None,
        "int32_t v = (x * factor + round) >> right; " + _LINE.format(bits=8, mask=255, most="0xFFFFu << 8")
        + "return (v >= 0 ? (int32_t)r - (1 << 23) + 128 : (1 << 23) - (int32_t)r + 127) >> 8;",
        called=True,
    ),
)  # fmt: skip


def tanh_scalars(left: int = 0) -> tuple[int, int, int]:
    """Return factor, rounding and right shift of ``t_tanh16`` for codes of 2^(`left` - 12)."""
    return (3 << left, 0, 0) if left >= 0 else (3, 1 << (-left - 1), -left)
