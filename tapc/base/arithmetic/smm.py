"""Float requantization in two instructions: SMMLA and a saturating shift, where they give every code exactly.

A code is `rint(float32(acc) * scale) + zero`, saturated. SMMLA and SSAT give `(acc * m / 2^32 + C) >> k`, saturated,
with `C = zero * 2^k + 2^(k-1)` (Armv7-M Architecture Reference Manual, A7.7.141 and A7.7.152). Both never fall with the
accumulator, so they are equal for all of them where they are equal around the least accumulator of each code: that is
one interval of factors `m` per code, and any `m` that lies in all of them is exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.interface import Ints, Mode, arithmetic_of
from tapc.base.arithmetic.intrinsic import CLAMP, Intrinsic
from tapc.base.isa import Isa

PREFIX = "_smm"
MOST = 22
"""Shift at which codes, of 8 bits, less their zero point still fit 30 bits."""
ALIKE = 4
"""Shifts that are multiples of this come first, for kernels of unlike layers to be the same."""


@dataclass(frozen=True)
class Smm:
    """Factors that give the codes of the float form.

    Attributes
    ----------
    factors : ndarray of int32
        One per channel.
    shift : int
        k.
    added : int
        C.
    """

    factors: NDArray[np.int32]
    shift: int
    added: int

    @property
    def name(self) -> str:
        """What kernels call it."""
        return f"{PREFIX}{self.shift}"

    def codes(self, acc: Ints, low: int, high: int) -> Ints:
        """Return the codes of accumulators (..., channels): what the instructions compute."""
        product = acc * self.factors.astype(np.int64) >> 32
        codes: Ints = np.clip((product + self.added) >> self.shift, low, high)
        return codes


def available(mode: Mode, isa: Isa) -> bool:
    """Whether kernels in an arithmetic and for an instruction set may requantize so."""
    return arithmetic_of(mode).float_products and isa == "dsp"


def shift_of(quick: str) -> int | None:
    """Return the shift of a form that is called so; None where it is another one."""
    return int(quick[len(PREFIX) :]) if quick.startswith(PREFIX) else None


def least(scales: NDArray[np.float32], zero: int, low: int, high: int, largest: Ints) -> Ints:
    """Return the least accumulator of each code above `low`, as the float form has them.

    Parameters
    ----------
    scales : ndarray of float32, shape (channels,)
    zero, low, high : int
    largest : ndarray of int64, shape (channels,)
        Accumulators' greatest magnitudes.

    Returns
    -------
    ndarray of int64, shape (channels, high - low)
        Between `-largest` and `largest + 1`, which no accumulator reaches.
    """
    steps = np.arange(low + 1, high + 1) - zero
    bound = steps - 0.5
    ends = largest[:, None]
    about = bound / scales[:, None].astype(np.float64)
    # The conversion and the product round once each, by 2^-24 at most.
    room = np.ceil(np.abs(about) * 2.0**-22) + 2
    under = np.clip(np.floor(about) - room, -ends - 1, ends).astype(np.int64)  # whose code is too small, or none
    reached = np.clip(np.ceil(about) + room, -ends, ends + 1).astype(np.int64)
    even = steps % 2 == 0
    while np.any(reached - under > 1):
        middle = (under + reached) >> 1
        value = middle.astype(np.float32) * scales[:, None]
        enough = (value > bound) | ((value == bound) & even)
        open_ = reached - under > 1
        reached = np.where(open_ & enough, middle, reached)
        under = np.where(open_ & ~enough, middle, under)
    return np.asarray(reached, np.int64)


def intervals(
    reached: Ints, zero: int, low: int, high: int, largest: Ints, shift: int, spare: int
) -> tuple[Ints, Ints]:
    """Return the least and the greatest factor of each channel; where the first is greater, there is none."""
    steps = np.arange(low + 1, high + 1, dtype=np.int64) - zero
    product = np.broadcast_to(((steps << shift) - (1 << (shift - 1))) << 32, reached.shape)  # at least this much
    ends = largest[:, None]
    least_factor = np.zeros(reached.shape, np.int64)
    most_factor = np.full(reached.shape, 2**31 - 1, np.int64)

    def at_least(found: Ints, where: NDArray[np.bool_]) -> None:
        np.maximum(least_factor, found, out=least_factor, where=where)

    def at_most(found: Ints, where: NDArray[np.bool_]) -> None:
        np.minimum(most_factor, found, out=most_factor, where=where)

    acc = reached << spare
    divisor = np.where(acc == 0, 1, acc)
    there = reached <= ends
    at_least(-(-product // divisor), there & (acc > 0))
    at_most(product // divisor, there & (acc < 0))
    at_most(np.full_like(acc, -1), there & (acc == 0) & (product > 0))
    acc = (reached - 1) << spare
    divisor = np.where(acc == 0, 1, acc)
    there = reached - 1 >= -ends
    at_most(-(-product // divisor) - 1, there & (acc > 0))
    at_least(product // divisor + 1, there & (acc < 0))
    at_most(np.full_like(acc, -1), there & (acc == 0) & (product <= 0))
    return least_factor.max(axis=1, initial=0), most_factor.min(axis=1, initial=2**31 - 1)


def find(
    scales: NDArray[np.float32], zero: int, low: int, high: int, largest: Ints, spare: int = 0
) -> tuple[Smm, NDArray[np.bool_]] | None:
    """Find factors that give the float form's codes, for every accumulator that there is.

    Parameters
    ----------
    scales : ndarray of float32, shape (channels,)
        Of accumulators that are not multiplied.
    zero, low, high : int
        Zero point and bounds of the codes.
    largest : ndarray of int64, shape (channels,) or ()
        The accumulators' greatest magnitudes, below 2^(31 - spare).
    spare : int
        The kernel's accumulators are 2^spare times as large.

    Returns
    -------
    Smm, ndarray of bool
        The factors, and for which channels they are exact; of shifts the one at which most are. None where no shift
        can be.
    """
    largest = np.broadcast_to(np.asarray(largest, np.int64), scales.shape)
    limit = min(int(np.floor(-np.log2(float(scales.max())))) - 1 + spare, MOST)
    reached = least(scales, zero, low, high, largest)
    best: tuple[Smm, NDArray[np.bool_]] | None = None
    for shift in dict.fromkeys((*range(ALIKE, limit + 1, ALIKE), limit)):
        if shift < 1:
            continue
        first, last = intervals(reached, zero, low, high, largest, shift, spare)
        exact = first <= last
        # Where nothing is exact as it is, the finest factors come closest.
        if best is None or exact.sum() > best[1].sum() or not best[1].any():
            factors = np.where(exact, (first + last) >> 1, 0).astype(np.int32)
            best = Smm(factors, shift, (zero << shift) + (1 << (shift - 1))), exact
        if exact.all():
            break
    return best


MOVES = 32
"""Units in the last place by which a scale may move: a relative 4e-6, far below what any rounding of weights does."""


def moved(
    of_scales: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    scales: NDArray[np.float32],
    zero: int,
    low: int,
    high: int,
    largest: Ints,
    spares: Sequence[int] = (0,),
) -> NDArray[np.float32] | None:
    """Return scales within `MOVES` units in the last place at which every channel's codes are exact.

    Parameters
    ----------
    of_scales : callable
        Returns the ratios that these scales of weights lead to.
    scales : ndarray of float32, shape (channels,)
        Of weights.
    zero, low, high, largest
        As for `find`.
    spares : sequence of int
        By which powers of two the kernel's accumulators may be larger, the most usual first: scales suit as many of
        them as can be.

    Returns
    -------
    ndarray of float32, shape (channels,)
        Each moved as little as need be; None where that is not enough, or nothing has to move.
    """
    result: NDArray[np.float32] | None = None
    suited: tuple[int, ...] = ()
    for wanted in (tuple(spares), *((spare,) for spare in spares)):
        some = _moved(of_scales, scales, zero, low, high, largest, (*suited, *wanted))
        if some is not None:
            result, suited = some, (*suited, *wanted)
        if len(suited) == len(spares):
            break
    return None if result is None or np.array_equal(result, scales) else result


def _moved(
    of_scales: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    scales: NDArray[np.float32],
    zero: int,
    low: int,
    high: int,
    largest: Ints,
    spares: Sequence[int],
) -> NDArray[np.float32] | None:
    """Return scales that suit all of these; None where there are none."""
    found = [find(of_scales(scales), zero, low, high, largest, spare) for spare in spares]
    forms = [(own[0].shift, spare, own[1]) for own, spare in zip(found, spares, strict=True) if own is not None]
    if len(forms) < len(spares):
        return None
    if all(exact.all() for _, _, exact in forms):
        return scales
    result, open_ = scales.copy(), ~np.logical_and.reduce([exact for _, _, exact in forms])
    bits = scales.view(np.int32)  # of positive floats the order is that of their bits
    for step in range(1, MOVES + 1):
        for candidates in (bits + step, bits - step):
            candidate = candidates.astype(np.int32).view(np.float32)
            ratios, ends = of_scales(candidate)[open_], largest[open_]
            reached, exact = least(ratios, zero, low, high, ends), np.ones(len(ends), np.bool_)
            for shift, spare, _ in forms:
                first, last = intervals(reached, zero, low, high, ends, shift, spare)
                exact &= first <= last
            solved = np.flatnonzero(open_)[exact]
            result[solved] = candidate[solved]
            open_[solved] = False
            if not open_.any():
                return result
    return None


def _code(saturate: str, bits: int, low: int, high: int) -> Intrinsic:
    """Return what makes a code of a product; the shift is free."""
    return Intrinsic(
        f"t_smm_code{bits}", "int32_t", ("int32_t q", "int32_t shift"),
        lambda q, shift: min(max(q >> shift, low), high),
        f"q >>= shift; return q < {low} ? {low} : (q > {high} ? {high} : q);",
        # The constraint needs a constant, hence inlining, and Clang checks it before it inlines.
        dsp="\n#if defined(__OPTIMIZE__) && !defined(__clang__)\n"
        f'  __asm__("{saturate} %0, #{bits}, %0, asr %1" : "+r"(q) : "n"(shift)); return q;\n'
        f"#else\n  q >>= shift; return q < {low} ? {low} : (q > {high} ? {high} : q);\n#endif",
    )  # fmt: skip


SMM = (
    Intrinsic(
        "t_smm", "int32_t", ("int32_t acc", "int32_t m", "int32_t added"),
        lambda acc, m, added: (acc * m >> 32) + added,
        "return (int32_t)(((int64_t)acc * m) >> 32) + added;",
        dsp='int32_t r; __asm__("smmla %0, %1, %2, %3" : "=r"(r) : "r"(acc), "r"(m), "r"(added)); return r;',
    ),
    _code("ssat", 8, -128, 127),
    _code("usat", 4, 0, 15),
    Intrinsic(
        "t_smm_code", "int32_t", ("int32_t q", "int32_t shift", "int32_t low", "int32_t high"),
        lambda q, shift, low, high: min(max(q >> shift, low), high),
        f"q >>= shift; {CLAMP}",
    ),
)  # fmt: skip
"""What a kernel calls: ``t_smm``, then one that makes a code of it."""
