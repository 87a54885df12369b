"""Fixed-point functions of TFLite's reference kernels, on int64 arrays that hold int32 values.

A number with i integer bits is its value times 2^(31 - i), clamped to int32.
"""

from typing import Any

import numpy as np

from tapc.base.arithmetic.interface import Ints

ONE = 2**31 - 1
_LOW, _HIGH = -(2**31), 2**31 - 1
_EXPONENTS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2^n) for n = -2 ... 4, with no integer bits."""


def high_product(a: Any, b: Any) -> Ints:
    """Return a b / 2^31, half up: the product of fixed-point numbers, whose integer bits add up."""
    product: Ints = (np.asarray(a, np.int64) * np.asarray(b, np.int64) + 2**30) >> 31
    return np.minimum(product, _HIGH)


def divide(a: Any, exponent: Any) -> Ints:
    """Return a / 2^exponent, rounded to nearest, half away from zero."""
    a, exponent = np.asarray(a, np.int64), np.asarray(exponent, np.int64)
    half = np.where(exponent > 0, np.int64(1) << np.maximum(exponent - 1, 0), 0)
    rounded: Ints = np.where(exponent > 0, (a + half + (a >> 63)) >> exponent, a)
    return rounded


def multiply(a: Any, exponent: Any) -> Ints:
    """Return a 2^exponent, saturated; negative exponents divide."""
    if np.ndim(exponent) == 0 and exponent < 0:
        return divide(a, -exponent)
    shifted: Ints = np.asarray(a, np.int64) << np.asarray(exponent, np.int64)
    return np.clip(shifted, _LOW, _HIGH)


def half_sum(a: Any, b: Any) -> Ints:
    """Return (a + b) / 2, half away from zero."""
    return divide(np.asarray(a, np.int64) + b, 1)


def exp(a: Any, integer_bits: int) -> Ints:
    """Return the exponential of what is not positive, with no integer bits."""
    a = np.asarray(a, np.int64)
    quarter = 1 << (29 - integer_bits)
    part = (a & (quarter - 1)) - quarter
    result = _exp_near_zero(multiply(part, integer_bits))
    rest = part - a
    for n, factor in enumerate(_EXPONENTS[: integer_bits + 2]):
        bit = 1 << (31 - integer_bits - 2 + n)
        result = np.where(rest & bit, high_product(result, factor), result)
    exact: Ints = np.where(a == 0, ONE, result)
    return exact


def _exp_near_zero(a: Ints) -> Ints:
    """Return exp(a) for a in [-1/4, 0)."""
    x = a + (1 << 28)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    series = divide(high_product(divide(x4, 2) + x3, 715827883) + x2, 1)
    return 1895147668 + high_product(1895147668, x + series)


def _inverse(denominator: Ints) -> Ints:
    """Return 1 / (2 d), with two integer bits, for d in [1/2, 1]: Newton's method."""
    x = 1515870810 + high_product(denominator, -1010580540)
    for _ in range(3):
        rest = (1 << 29) - high_product(denominator, x)
        x = x + multiply(high_product(x, rest), 2)
    return x


def one_over_one_plus(a: Any) -> Ints:
    """Return 1 / (1 + a) for a in [0, 1]."""
    return multiply(_inverse(half_sum(a, ONE)), 1)


def logistic(a: Any, integer_bits: int) -> Ints:
    """Return 1 / (1 + exp(-a))."""
    a = np.asarray(a, np.int64)
    positive = one_over_one_plus(exp(-np.abs(a), integer_bits))
    result: Ints = np.where(a == 0, 1 << 30, np.where(a > 0, positive, ONE - positive))
    return result


def tanh(a: Any, integer_bits: int) -> Ints:
    """Return the hyperbolic tangent."""
    a = np.asarray(a, np.int64)
    denominator = half_sum(exp(-np.abs(a), integer_bits + 1), ONE)
    positive = multiply(_inverse(denominator) - (1 << 29), 2)
    result: Ints = np.where(a == 0, 0, np.where(a > 0, positive, -positive))
    return result


def leading_zeros(a: Any) -> Ints:
    """Return how many of 32 bits precede the highest one."""
    a = np.asarray(a, np.int64)
    zeros: Ints = 32 - np.sum([(a >> n > 0).astype(np.int64) for n in range(32)], axis=0)
    return zeros


def reciprocal(x: Any, integer_bits: int) -> tuple[Ints, Ints]:
    """Return 1 / x with no integer bits, and the bits by which it is too large."""
    x = np.asarray(x, np.int64)
    headroom = leading_zeros(x)
    fraction = ((x << headroom) - 2**31).astype(np.int64)
    return one_over_one_plus(fraction), integer_bits - headroom


def inverse_root(x: Any) -> tuple[Ints, Ints]:
    """Return 1 / sqrt(x) of sums up to 2^31, at least that of 1, as a factor and the right shift by 31 and more."""
    given = np.asarray(x, np.int64)
    far = given >= 1 << 29
    whole = np.where(far, given // 4, np.maximum(given, 2))
    pairs = (leading_zeros(whole) - 1) // 2 - 1
    normal = whole << (2 * pairs)
    half, root = divide(normal >> 1, 1), np.full_like(normal, 1 << 28)
    for _ in range(5):  # Newton's method, with three integer bits
        cube = multiply(high_product(high_product(root, root), root), 6)
        root = multiply(high_product(3 << 27, root) - high_product(half, cube), 3)
    root = high_product(root, 1518500250)
    right = 11 + far.astype(np.int64) - pairs
    root, right = root << np.maximum(-right, 0), np.maximum(right, 0)
    return np.where(given <= 1, _HIGH, root), np.where(given <= 1, 0, right) + 31


def logarithm(x: Any, integer_bits: int) -> Ints:
    """Return the natural logarithm, with 5 integer bits, of what is at least 1 and has these: a quotient of series."""
    x = np.asarray(x, np.int64)
    zeros, part = leading_zeros(x), high_product(x, 1518500250)
    near = multiply(high_product(x << (zeros - 1), 1518500250), 1)
    left = leading_zeros(part) - 1
    r = np.minimum(near, np.minimum(x << left, _HIGH))
    octaves = np.maximum(((integer_bits - zeros) << 25) + (1 << 23), ((integer_bits - left) << 25) - (1 << 23))
    p, q = half_sum(r, 1805811301), 2 * (r - 1805811301)
    square = high_product(q, q)
    above = high_product(q, r) + high_product(high_product(q, square), 117049297)
    below = high_product(p, 1057819769 + q + high_product(127690142, square)) + high_product(638450708, q)
    quotient = high_product(divide(above, 6), one_over_one_plus(below))
    return multiply(high_product(octaves, 1488522236) + quotient, 1)
