"""Functions of one code that TFLite computes in integers of their own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapc.base.arithmetic.gemmlowp import divide, logistic, multiply, tanh
from tapc.base.arithmetic.interface import Doubles, Ints, Quantization, TableFunction

_INTEGER_BITS = 4
_LARGEST = 127


def half_away(value: Any) -> Doubles:
    """Round to nearest, half away from zero."""
    exact = np.asarray(value, np.float64)
    rounded: Doubles = np.copysign(np.floor(np.abs(exact) + 0.5), exact)
    return rounded


def encoded(ratio: float) -> tuple[int, int]:
    """Return a ratio as a factor below 2^31 and a right shift; a factor of 0 where it is too small."""
    mantissa, exponent = math.frexp(ratio)
    factor = math.floor(mantissa * 2**31 + 0.5)
    if factor == 2**31:
        factor, exponent = factor // 2, exponent + 1
    if exponent < -31:
        return 0, 31
    # From 2^30 on every accumulator but 0 goes beyond all codes.
    return (factor, 31 - exponent) if exponent <= 30 else (2**31 - 1, 1)


def scaled(x: Ints, ratio: float) -> Ints:
    """Return x times a ratio, as TFLite requantizes."""
    factor, right = encoded(ratio)
    first = min(right, 31)
    return divide((x * factor + (1 << (first - 1))) >> first, right - first)


def _exact(*values: float) -> tuple[float, ...]:
    return tuple(float(np.float32(value)) for value in values)


def _fixed_point(codes: Ints, x: Quantization) -> tuple[Ints, Ints]:
    """Return codes with four integer bits, and on which side they are out of range: -1, 0 or 1."""
    centred, real = codes - x[1], float(np.float32(x[0])) * 2 ** (31 - _INTEGER_BITS)
    _, exponent = math.frexp(real)
    radius = math.floor(((1 << _INTEGER_BITS) - 1) * 2.0 ** (31 - _INTEGER_BITS) / 2.0**exponent)
    inside = np.clip(centred, -radius, radius)
    side = (centred >= radius).astype(np.int64) - (centred <= -radius)
    return scaled(inside, real), side


def _sigmoid(codes: Ints, x: Quantization, y: Quantization) -> Ints | None:
    if y != (1 / 256, -128):
        return None
    value, side = _fixed_point(codes, x)
    return np.where(side, side * 256, divide(logistic(value, _INTEGER_BITS), 23) - 128)


def _tanh(codes: Ints, x: Quantization, y: Quantization) -> Ints | None:
    if y != (1 / 128, 0):
        return None
    value, side = _fixed_point(codes, x)
    return np.where(side, side * 256, divide(tanh(value, _INTEGER_BITS), 24))


def _leaky_relu(codes: Ints, x: Quantization, y: Quantization, alpha: float) -> Ints | None:
    scale, own, slope = _exact(x[0], y[0], alpha)
    centred, negative = codes - x[1], scale * slope / own
    if negative == 0:
        return None
    below = scaled(centred, abs(negative)) * int(np.sign(negative))
    return np.where(centred >= 0, scaled(centred, scale / own), below) + y[1]


def _relu(codes: Ints, x: Quantization, y: Quantization) -> Ints:
    scale, own = _exact(x[0], y[0])
    return np.maximum(scaled(codes - x[1], scale / own), 0) + y[1]


def _abs(codes: Ints, x: Quantization, y: Quantization) -> Ints:
    scale, own = _exact(x[0], y[0])
    return scaled(np.abs(codes - x[1]), scale / own) + y[1]


def _elu(given: Ints, x: Quantization, y: Quantization, alpha: float) -> Ints | None:
    if alpha != 1:
        return None
    real = np.float32(x[0]) * (given - x[1]).astype(np.float32)
    below = np.exp(np.minimum(real, 0).astype(np.float64)).astype(np.float32) - np.float32(1)
    codes = half_away(np.where(real < 0, below, real) * (np.float32(1) / np.float32(y[0]))) + y[1]
    whole: Ints = codes.astype(np.int64)
    return whole


@dataclass(frozen=True)
class Affine:
    """A line as a depthwise convolution of one place computes it.

    Attributes
    ----------
    weight : int
    scale : float
        Of the weight.
    bias : int
    ends : (int, int)
        Codes that results are clamped to.
    """

    weight: int
    scale: float
    bias: int
    ends: tuple[int, int]


def affine(
    x: Quantization, y: Quantization, alpha: float, beta: float, bounds: tuple[float, float]
) -> Affine | None:  # fmt: skip
    """Return alpha x + beta within bounds; None where it has no integers."""
    scale = np.float32(abs(alpha) / _LARGEST)
    if not scale > 0:
        return None
    bias = half_away(beta / (float(np.float32(x[0])) * float(scale)))
    if abs(bias) >= 2**30:
        return None
    first, last = (int(np.clip(half_away(np.float32(bound) / np.float32(y[0])) + y[1], -128, 127)) for bound in bounds)
    return Affine(_LARGEST if alpha > 0 else -_LARGEST, float(scale), int(bias), (first, last))


def _line(
    codes: Ints, x: Quantization, y: Quantization, alpha: float, beta: float, bounds: tuple[float, float]
) -> Ints | None:  # fmt: skip
    own = affine(x, y, alpha, beta, bounds)
    if own is None:
        return None
    (scale, over), acc = _exact(x[0], y[0]), own.weight * (codes - x[1]) + own.bias
    return np.clip(scaled(acc, scale * own.scale / over) + y[1], *own.ends)


UNBOUNDED = (-math.inf, math.inf)
UNIT = (0.0, 1.0)


def _hard_sigmoid(codes: Ints, x: Quantization, y: Quantization, alpha: float, beta: float) -> Ints | None:
    return _line(codes, x, y, alpha, beta, UNIT)


def _neg(codes: Ints, x: Quantization, y: Quantization) -> Ints | None:
    return _line(codes, x, y, -1.0, 0.0, UNBOUNDED)


def _product16(a: Ints, b: int) -> Ints:
    product: Ints = (a * b + (1 << 14)) >> 15
    return np.minimum(product, 2**15 - 1)


def _left16(a: Ints, shift: int) -> Ints:
    return np.clip(multiply(a, shift), -(2**15), 2**15 - 1)


def _short(ratio: np.float32) -> tuple[int, int]:
    """Return a ratio as a factor of 16 bits and a left shift."""
    factor, right = encoded(float(ratio))
    return min((factor + (1 << 15)) >> 16, 2**15 - 1), 31 - right


def _hard_swish(codes: Ints, x: Quantization, y: Quantization) -> Ints | None:
    high = np.float32(1 / 128) * np.float32(x[0])
    (factor, exponent), (steep, left) = _short(high / np.float32(y[0])), _short(high / np.float32(3 / 32768))
    if exponent > 0:
        return None
    wide = (codes - x[1]) << 7
    gate = _left16(wide, left - 1) if left > 0 else wide
    gate = _product16(gate, steep)
    gate = _left16(gate, 1) if left > 0 else divide(gate, -left)
    gate = (gate + (1 << 15)) >> 1
    product = gate * _product16(wide, factor)
    return divide(np.sign(product) * (np.abs(product) >> 15), -exponent) + y[1]


FUNCTIONS: Mapping[str, TableFunction] = {
    "abs": _abs,
    "elu": _elu,
    "hard sigmoid": _hard_sigmoid,
    "hard swish": _hard_swish,
    "leaky relu": _leaky_relu,
    "neg": _neg,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
}
