"""Random layers for the fit of the cost model."""

from dataclasses import replace

import numpy as np

from tapc.ir.sampling import Sampler, samples
from tapc.operators.weighted import Conv
from tapc.operators.weighted.layer import Residual


@samples("network", 0.52)
def dense(s: Sampler) -> None:
    """Add a convolution or dense layer, some with an addition behind it."""
    dense = s.rng.random() < 0.2
    size = 1 if dense else s.pick(1, 3, 3, 5)
    side = 1 if dense else s.pick(2, 3, 4, 5, 8, 12, 16)
    pad = 0 if dense or size == 1 else s.pick(0, size // 2)
    stride = 1 if dense else s.pick(1, 1, 2)
    if side < size:
        return
    groups = 1 if dense or s.rng.random() < 0.85 else 2
    depth = s.pick(1, 2, 3, 3, 4, 5, 8, 16, 24, 32, 64) if not dense else s.pick(10, 16, 64, 100, 128, 256, 640)
    outputs = groups * s.pick(8, 16, 32, 48, 64, 5, 10, 3, 7, 1, 2)
    x = s.tensor((side, side, depth * groups), s.bits())
    extent = (side + 2 * pad - size) // stride + 1
    ties = s.round()
    y = s.tensor((extent, extent, outputs), s.bits(), **ties)
    w_bits = s.pick(2, 4, 8)
    if outputs * depth * size * size > s.largest or max(x.bytes, y.bytes) > 32768:
        return
    half = 1 << (w_bits - 1)
    weights = s.rng.integers(-half, half, (outputs, size, size, depth)).astype(np.int8)
    bias = 1 << 30 if s.rng.random() < 0.1 else 0  # leaves no room at the top of an accumulator
    op = Conv(
        s.name, (x.name,), y.name, weights, w_bits, np.full(outputs, bias, np.int32),
        s.ratios(outputs), (stride, stride), (pad,) * 4, groups, s.low(y), y.high,
    )  # fmt: skip
    if s.rng.random() < 0.3 and not dense:
        other = s.tensor(y.shape, s.pick(y.bits, y.bits, 4, 8), **ties)
        middle = replace(y, name=f"{y.name}_middle")
        residual = Residual(f"{op.name}_add", middle, s.low(y), y.high, False)
        op = replace(op, inputs=(x.name, other.name), residual=residual)
    s.add(op)


@samples("network", 0.12)
def depthwise(s: Sampler) -> None:
    """Add a depthwise convolution."""
    side, channels = s.pick(3, 5, 8, 12), s.pick(2, 3, 4, 8, 16, 32)
    height, width = (s.pick(3, 3, 5),) * 2 if s.pick(0, 1) else (s.pick(1, 2, 3, 4, 5, 7), s.pick(1, 2, 3, 4, 5, 7))
    stride, pad, multiplier = s.pick(1, 1, 2), s.pick(0, 1), s.pick(1, 1, 1, 2)
    if side + 2 * pad < max(height, width):
        return
    x = s.tensor((side, side, channels), s.bits())
    rows, columns = ((side + 2 * pad - size) // stride + 1 for size in (height, width))
    y = s.tensor((rows, columns, channels * multiplier), s.bits())
    w_bits, outputs = s.pick(2, 4, 8), channels * multiplier
    weights = s.rng.integers(-2, 2, (outputs, height, width, 1)).astype(np.int8)
    op = Conv(
        s.name, (x.name,), y.name, weights, w_bits, np.zeros(outputs, np.int32),
        s.ratios(outputs), (stride, stride), (pad,) * 4, channels, s.low(y), y.high,
    )  # fmt: skip
    s.add(op)


@samples("dilated", 1.0)
def dilated(s: Sampler) -> None:
    """Add a depthwise convolution whose taps lie apart; others are made of the parts of any convolution."""
    side, channels = s.pick(7, 8, 12), s.pick(4, 8, 16)
    size, distance, pad = (s.pick(2, 3), s.pick(3, 3, 5)), (s.pick(1, 2), s.pick(2, 3)), s.pick(0, 2)
    x = s.tensor((side, side, channels), 8)
    reach = [(n - 1) * d + 1 for n, d in zip(size, distance, strict=True)]
    if max(reach) > side + 2 * pad:
        return
    y = s.tensor((side + 2 * pad - reach[0] + 1, side + 2 * pad - reach[1] + 1, channels), 8)
    weights = s.rng.integers(-2, 2, (channels, *size, 1)).astype(np.int8)
    op = Conv(
        s.name, (x.name,), y.name, weights, 8, np.zeros(channels, np.int32),
        s.ratios(channels), (1, 1), (pad,) * 4, channels, y.low, y.high, distance,
    )  # fmt: skip
    s.add(op)
