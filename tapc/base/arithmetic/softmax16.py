"""Softmax of 16-bit codes by two tables and lines between their entries: the integers of TFLite, in every arithmetic.

Differences to the greatest code are brought to steps of 10 / 65535; what lies below -10 counts as that. Results are
codes of 2^-15 with zero point 0.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.gemmlowp import divide
from tapc.base.arithmetic.interface import Ints
from tapc.base.arithmetic.intrinsic import Intrinsic
from tapc.base.arithmetic.tflite_functions import encoded, half_away

STEPS = 512
_REACH, _SPAN = 10.0, 65535
_Single = np.float32


def _table(first: float, width: float, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Ints:
    """Tabulate a function from `first` on: an entry is moved by half of what the line behind it errs in its middle."""
    step, inverse = _Single(width) / _Single(STEPS), _Single(65536) / (_Single(2.0) / _Single(_SPAN) * _Single(_SPAN))
    places = _Single(first) + np.arange(STEPS + 1, dtype=_Single) * step

    def at(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return function(x.astype(np.float64)).astype(_Single)

    scaled, middle = at(places) * inverse, half_away(at(places[:-1] + step / _Single(2)) * inverse)
    line = half_away((scaled[1:] + half_away(scaled[:-1]).astype(_Single)) / _Single(2))
    found = half_away(scaled)
    found[:-1] -= half_away((line - middle) / 2)
    return np.clip(found, -32768, 32767).astype(np.int64)


@functools.cache
def softmax_tables() -> tuple[Ints, Ints]:
    """Return the exponentials of -10 to 0, and 1 / (1 + x) for x from 0 to 1, 513 entries of 2^-15 each."""
    return _table(-_REACH, _REACH, np.exp), _table(0.0, 1.0, lambda x: 1 / (1 + x))


def softmax_words() -> NDArray[np.uint32]:
    """Return both tables as a kernel reads them, as int16, each of 514 entries."""
    rows = [np.append(table, 0).astype(np.int16) for table in softmax_tables()]
    return np.concatenate(rows).view(np.uint32)


def softmax_factor(scale: float) -> tuple[int, int]:
    """Return factor and right shift of differences of codes."""
    return encoded(float(np.float32(scale)) / (_REACH / _SPAN))


def _looked_up(value: Ints, table: Ints) -> Ints:
    index, rest = 256 + (value >> 7), value & 127
    found: Ints = table[index] + (((table[index + 1] - table[index]) * rest + 64) >> 7)
    return found


def softmax16(x: Ints, scale: float) -> Ints:
    """Return the softmax over the last axis of codes, as codes of 2^-15."""
    exponentials, inverses = softmax_tables()
    factor, right = softmax_factor(scale)
    first = min(right, 31)
    scaled = divide(((x - x.max(axis=-1, keepdims=True)) * factor + (1 << (first - 1))) >> first, right - first)
    terms = _looked_up(np.clip(scaled + 32767, -32768, 32767), exponentials)
    total = terms.sum(axis=-1, keepdims=True)
    bits = np.floor(np.log2(total)).astype(np.int64) + 1  # exact below 2^31
    shifted = ((total << (31 - bits)) + (1 << 13)) >> 14
    inverse = _looked_up(np.clip(shifted - (1 << 15) - (1 << 16), -32768, 32767), inverses)
    right_shift = bits - 1
    codes: Ints = (terms * inverse + (np.int64(1) << (right_shift - 1))) >> right_shift
    return np.clip(codes, 0, 32767)


SOFTMAX_INTRINSICS: tuple[Intrinsic, ...] = (
    Intrinsic(
        "t_line16", "int32_t", ("int32_t value", "const int16_t *table"), None,
        "const int16_t *p = table + 256 + (value >> 7);"
        " return p[0] + (((p[1] - p[0]) * (value & 127) + 64) >> 7);",
    ),
    Intrinsic(
        "t_softmax_exp16", "int32_t", ("int32_t difference", "int32_t factor", "int32_t shift", "const int16_t *table"),
        None, "return t_line16(t_requant_tflite(difference, factor, shift, 32767, -32768, 32767), table);",
        called=True,
    ),
    Intrinsic(
        "t_softmax_inverse16", "int32_t", ("int32_t sum", "const int16_t *table"), None,
        "uint32_t s = (uint32_t)sum << (__builtin_clz((uint32_t)sum) - 1);"
        " int32_t v = (int32_t)((s + (1u << 13)) >> 14) - (1 << 15) - (1 << 16);"
        " return t_line16(v < -32768 ? -32768 : (v > 32767 ? 32767 : v), table);",
        called=True,
    ),
    Intrinsic(
        "t_softmax_share16", "int32_t", ("int32_t term", "int32_t inverse", "int32_t sum"), None,
        "int32_t right = 31 - __builtin_clz((uint32_t)sum), q = (term * inverse + (1 << (right - 1))) >> right;"
        " return q > 32767 ? 32767 : q;",
    ),
)  # fmt: skip
