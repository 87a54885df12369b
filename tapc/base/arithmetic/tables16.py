"""Functions of 16-bit codes as tables: lines between entries that lie evenly, or as floating-point numbers do.

Even entries are 128 codes apart. Octaves have 32 entries between a power of two and the next, as many below as there
are codes: what a logarithm, a root or a power does near zero keeps its precision. Whichever errs least over all codes
is taken. An entry has 16 bits; of 8-bit results it has 8 bits more than they have, and the last step rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.interface import Ints, Quantization
from tapc.base.arithmetic.intrinsic import Intrinsic

Form = Literal["each", "lines", "octaves"]
Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]
LINE_BITS = 7
"""Binary logarithm of the distance of even entries."""
OCTAVE_BITS = 5
"""Binary logarithm of the entries of an octave."""
_TOP = 1 << 15
SIDE = ((15 - OCTAVE_BITS + 1) << OCTAVE_BITS) + 1
"""Entries of octaves for codes of one sign, the last for 2^15."""


@dataclass(frozen=True, eq=False)
class Table16:
    """A function of codes.

    Attributes
    ----------
    form : {"each", "lines", "octaves"}
        An entry for each of 256 codes of 8 bits; lines between entries for those of 16.
    entries : ndarray of int16
        Octaves: first for codes that are not negative, then, unless one entry is enough, for the others.
    bits : {8, 16}
        Of the results.
    error : float
        Largest, in codes of the result, that of rounding included.
    """

    form: Form
    entries: NDArray[np.int16]
    bits: int
    error: float = 0.0

    @property
    def signed(self) -> bool:
        """Whether negative codes have octaves of their own."""
        return self.form == "octaves" and len(self.entries) == 2 * SIDE

    def __call__(self, x: Ints, low: int, high: int) -> Ints:
        """Return the results of codes (with zero point 0 where they have 16 bits)."""
        codes, entries = np.asarray(x, np.int64), self.entries.astype(np.int64)
        if self.form == "each":
            return np.clip(entries[codes + 128], low, high)
        found = _lines(codes, entries) if self.form == "lines" else _octaves(codes, entries, self.signed)
        return np.clip(found if self.bits == 16 else (found + 128) >> 8, low, high)


def _lines(x: Ints, entries: Ints) -> Ints:
    v = x + _TOP
    at, part = v >> LINE_BITS, v & ((1 << LINE_BITS) - 1)
    found: Ints = entries[at] + (((entries[at + 1] - entries[at]) * part + (1 << LINE_BITS >> 1)) >> LINE_BITS)
    return found


def _octaves(x: Ints, entries: Ints, signed: bool) -> Ints:
    m = np.minimum(np.abs(x), _TOP - 1)
    shift = np.maximum(np.frexp(np.maximum(m, 1).astype(np.float64))[1].astype(np.int64) - 1 - OCTAVE_BITS, 0)
    at, part = (shift << OCTAVE_BITS) + (m >> shift), m & ((np.int64(1) << shift) - 1)
    base = np.where(x < 0, SIDE if signed else 0, 0)
    first, step = entries[base + at], entries[base + at + 1] - entries[base + at]
    found: Ints = first + ((step * part + (np.int64(1) << shift >> 1)) >> shift)
    return found if signed else np.where(x < 0, entries[-1], found)


def _places() -> Ints:
    """Return the codes of the entries of octaves."""
    at = np.arange(SIDE)
    shift = np.maximum((at >> OCTAVE_BITS) - 1, 0)
    found: Ints = (at - (shift << OCTAVE_BITS)) << shift
    return found


def table16(
    function: Function, x: Quantization, y: Quantization, x_bits: int, y_bits: int, low: int, high: int
) -> Table16:
    """Make the table of a function.

    Parameters
    ----------
    function : callable
        From float64 (n,) to float64 (n,), without NaN.
    x, y : (float, int)
        Scale and zero point; the latter is 0 where `x` has 16 bits.
    x_bits, y_bits : {8, 16}
    low, high : int
        Clamp bounds of the result.
    """
    unit = 1 if y_bits == 16 else 256
    ends = low * unit, high * unit

    def exact(codes: Ints) -> NDArray[np.float64]:
        value = function((codes - x[1]) * np.float64(np.float32(x[0]))) / np.float64(np.float32(y[0])) + y[1]
        return np.clip(value, low, high)

    def entries(codes: Ints) -> NDArray[np.int16]:
        return np.clip(np.rint(exact(codes) * unit), *ends).astype(np.int16)

    if x_bits == 8:
        assert y_bits == 16
        return Table16("each", entries(np.arange(-128, 128)), 16, 0.5)
    side, codes = _places(), np.arange(-_TOP, _TOP)
    negative = entries(-side[1:])
    if (negative == negative[0]).all():
        octaves = np.append(entries(side), negative[:1])
    else:
        octaves = np.concatenate([entries(side), entries(-side)])
    even = entries(np.arange(-_TOP, _TOP + 1, 1 << LINE_BITS))
    wanted, found = exact(codes), []
    forms: tuple[tuple[Form, NDArray[np.int16]], ...] = (("lines", even), ("octaves", octaves))
    for form, made in forms:
        error = np.abs(Table16(form, made, y_bits)(codes, low, high) - wanted).max()
        found.append(Table16(form, made, y_bits, float(error)))
    # A little more error is worth fewer bytes.
    least = min(table.error for table in found)
    return min((t for t in found if t.error <= 1.2 * least + 0.1), key=lambda table: len(table.entries))


TABLE_INTRINSICS: tuple[Intrinsic, ...] = (
    Intrinsic(
        "t_lines16", "int32_t", ("int32_t x", "const int16_t *t"), None,
        f"int32_t v = x + {_TOP}; const int16_t *e = t + (v >> {LINE_BITS});"
        f" return e[0] + (((e[1] - e[0]) * (v & {(1 << LINE_BITS) - 1}) + {1 << LINE_BITS >> 1}) >> {LINE_BITS});",
    ),
    Intrinsic(
        "t_octaves16", "int32_t", ("int32_t m", "const int16_t *t"), None,
        f"int32_t s = {31 - OCTAVE_BITS} - __builtin_clz((uint32_t)m | {1 << OCTAVE_BITS}u);"
        f" const int16_t *e = t + (s << {OCTAVE_BITS}) + (m >> s); int32_t f = m & ((1 << s) - 1);"
        " return e[0] + (((e[1] - e[0]) * f + (1 << s >> 1)) >> s);",
        called=True,
    ),
)  # fmt: skip
