"""An independent oracle: convolutions by torch in float64 (exact at these sizes), scaling by rational arithmetic."""

import math
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from tapc.ir.program import Program
from tapc.operators.weighted import Conv


def nearest_even(value: Fraction) -> int:
    return round(value)  # Python rounds Fractions half to even, exactly


def float32(value: Fraction) -> Fraction:
    """Round a rational to float32 (normal range), half to even, without floating point."""
    if value == 0:
        return value
    sign, magnitude = (-1, -value) if value < 0 else (1, value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    unit = Fraction(2) ** (exponent - 23)
    return sign * round(magnitude / unit) * unit


def requantize(acc: int, ratio: float, mode: str, zero: int, low: int, high: int) -> int:
    exact_ratio = Fraction(ratio)
    if mode == "float":
        code = nearest_even(float32(float32(Fraction(acc)) * exact_ratio))
    elif mode == "tflite":  # half up to the factor's own power of two, then half away from zero
        unit = Fraction(2) ** min(0, math.frexp(ratio)[1])
        first = (acc * exact_ratio / unit + Fraction(1, 2)).__floor__() * unit
        code = (abs(first) + Fraction(1, 2)).__floor__() * (1 if first >= 0 else -1)
    else:  # 31 significant bits hold every float32, so the scaled value is exact; half rounds up
        code = (acc * exact_ratio + Fraction(1, 2)).__floor__()
    return min(max(code + zero, low), high)


def accumulators(program: Program, op: Conv, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    x = program.tensors[op.inputs[0]]
    data = torch.from_numpy((codes - x.zero).astype(np.float64)).permute(0, 3, 1, 2)
    top, left, bottom, right = op.pads
    data = torch.nn.functional.pad(data, (left, right, top, bottom))
    weights = torch.from_numpy(op.weights.astype(np.float64)).permute(0, 3, 1, 2)
    acc = torch.nn.functional.conv2d(data, weights, stride=op.stride, groups=op.groups, dilation=op.dilation)
    return acc.permute(0, 2, 3, 1).numpy().astype(np.int64) + op.bias


def conv(program: Program, op: Conv, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    y = program.tensors[op.output]
    acc = accumulators(program, op, codes)
    result = np.empty_like(acc)
    for channel, ratio in enumerate(op.ratios.tolist()):
        values, where = np.unique(acc[..., channel], return_inverse=True)
        scaled = [requantize(int(v), ratio, program.mode, y.zero, op.low, op.high) for v in values]
        result[..., channel] = np.array(scaled)[where].reshape(acc.shape[:-1])
    return result
