"""Random layers for the fit of the cost model."""

from dataclasses import replace

import numpy as np

from tapc.base.arithmetic.smm import moved
from tapc.ir.program import Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels import nested
from tapc.kernels.schedule import SPELLED, Algorithm, Schedule, largest_divisor, least_padding
from tapc.operators.weighted import Conv
from tapc.operators.weighted.layer import MaxPool, Residual


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
    large = 1 << (w_bits - 2) if outputs % 8 else 1  # some, whose sums need more bits
    weights = (s.rng.integers(-2, 2, (outputs, height, width, 1)) * large).astype(np.int8)
    op = Conv(
        s.name, (x.name,), y.name, weights, w_bits, np.zeros(outputs, np.int32),
        s.ratios(outputs), (stride, stride), (pad,) * 4, channels, s.low(y), y.high,
    )  # fmt: skip
    s.add(op)


def _eased(op: Conv, x: Tensor, y: Tensor) -> Conv:
    """Return a layer with ratios next to its own at which two instructions requantize its sums."""
    weights = np.abs(op.weights.reshape(len(op.bias), -1).astype(np.int64)).sum(axis=1)
    largest = weights * max(x.high - x.zero, x.zero - x.low) + np.abs(op.bias.astype(np.int64))
    ratios = moved(lambda scales: scales, op.ratios, y.zero, op.low, op.high, largest)
    return op if ratios is None else replace(op, ratios=ratios)


@samples("quick", 1.0)
def eased(s: Sampler) -> None:
    """Add a layer with ratios at which integers may give the codes of floats."""
    side, size = s.pick(2, 3, 4, 5, 8, 12), s.pick(1, 3, 3)
    depth, multiplier = s.pick(1, 3, 4, 8, 16, 32), s.pick(1, 1, 2)
    apart = s.rng.random() < 0.3  # depthwise
    outputs = depth * multiplier if apart else s.pick(1, 2, 3, 8, 16, 32)
    if side < size:
        return
    x, y = s.tensor((side, side, depth), s.bits()), s.tensor((side, side, outputs), s.bits())
    w_bits, pad = s.pick(2, 4, 8), size // 2
    half = 1 << (w_bits - 1)
    weights = s.rng.integers(-half, half, (outputs, size, size, 1 if apart else depth)).astype(np.int8)
    ratios = s.rng.uniform(2e-4, 1e-2, outputs).astype(np.float32)
    op = Conv(
        s.name, (x.name,), y.name, weights, w_bits, np.zeros(outputs, np.int32),
        ratios, (1, 1), (pad,) * 4, depth if apart else 1, s.low(y), y.high,
    )  # fmt: skip
    s.add(_eased(op, x, y))


@samples("ahead", 1.0)
def ahead(s: Sampler) -> None:
    """Add a convolution whose words are loaded one by one where the instruction set has such a form."""
    side, size = s.pick(2, 4, 5, 8), s.pick(1, 3, 3)
    depth, outputs, w_bits = s.pick(3, 4, 8, 16, 32, 64), s.pick(2, 3, 8, 16, 32), s.pick(2, 4, 8, 8)
    if side < size or outputs * depth * size * size > s.largest:
        return
    x, y = s.tensor((side, side, depth), 8), s.tensor((side, side, outputs), 8)
    half = 1 << (w_bits - 1)
    weights = (s.rng.integers(-half, half, (outputs, size, size, depth)) // s.pick(1, 4)).astype(np.int8)
    ratios = s.rng.uniform(2e-4, 1e-2, outputs).astype(np.float32)
    op = Conv(
        s.name, (x.name,), y.name, weights, w_bits, np.zeros(outputs, np.int32),
        ratios, (1, 1), (size // 2,) * 4, 1, s.low(y), y.high,
    )  # fmt: skip
    words = max(-(-size * size * depth // 4) * 4 * w_bits // 32, 1)
    s.add(op, Schedule(2, 2, largest_divisor(words, 48 * w_bits // 32), "direct", True))


@samples("nested", 1.0)
def nested_weights(s: Sampler) -> None:
    """Add a convolution or dense layer of which two weights share a half-word, where the instruction set has that."""
    single = bool(s.pick(0, 1))
    if s.rng.random() < 0.3:
        side, size, depth = 1, 1, s.pick(10, 16, 30, 64, 92, 128, 256)
    else:
        side, size, depth = s.pick(2, 3, 4, 5, 8), s.pick(1, 1, 3, 3), s.pick(1, 3, 4, 5, 8, 16, 22, 32, 64, 92)
    pad, outputs = s.pick(0, size // 2), s.pick(2, 3, 4, 7, 8, 10, 16, 32, 64)
    if side < size or outputs * depth * size * size > s.largest:
        return
    extent = side + 2 * pad - size + 1
    x, y = s.tensor((side, side, depth), 8), s.tensor((extent, extent, outputs), 8)
    weights = (s.rng.integers(-127, 128, (outputs, size, size, depth)) // s.pick(1, 4)).astype(np.int8)
    ratios = s.rng.uniform(2e-4, 1e-2, outputs).astype(np.float32)
    op = Conv(
        s.name, (x.name,), y.name, weights, 8, np.zeros(outputs, np.int32),
        ratios, (1, 1), (pad,) * 4, 1, s.low(y), y.high,
    )  # fmt: skip
    direct = Schedule(2, 2, 1) if extent > 1 else Schedule(least_padding(outputs, (4, 2)), 1, 1)
    schedule = nested.schedule(direct, -(-size * size * depth // 4), s.pick(36, SPELLED), single=single)
    s.add(_eased(op, x, y) if s.rng.random() < 0.7 else op, schedule)


@samples("winograd", 1.0)
def transformed(s: Sampler) -> None:
    """Add a convolution that is computed by a transform; most need little work beside their products."""
    height, width, kernel = s.pick(2, 4, 5, 8, 12, 16), s.pick(2, 4, 5, 7, 8, 12, 16), (3, 3)
    depth, outputs = s.pick(3, 4, 8, 16, 20, 32, 40, 64), s.pick(1, 2, 3, 8, 16, 32)
    algorithm: Algorithm = "f4" if s.pick(0, 1) else "f2"
    if s.rng.random() < 0.2:
        algorithm = "f4r" if algorithm == "f4" else "f2r"
    if s.rng.random() < 0.3:  # along a line
        height, width, kernel = 1, width * s.pick(1, 4, 8), (1, 3 if algorithm in ("f4", "f4r") else 5)
    x = s.tensor((height, width, depth), 8)
    ties = s.round()
    y = s.tensor((height, width, outputs), 8, **ties)
    if outputs * depth * 9 > s.largest:
        return
    weights = s.rng.integers(-127, 128, (outputs, *kernel, depth)).astype(np.int8)
    ratios = s.rng.uniform(2e-4, 2e-3, outputs).astype(np.float32)
    op = Conv(
        s.name, (x.name,), y.name, weights, 8, np.zeros(outputs, np.int32),
        ratios, (1, 1), (kernel[0] // 2, kernel[1] // 2) * 2, 1, s.low(y), y.high,
    )  # fmt: skip
    if s.rng.random() < 0.3:
        other = s.tensor(y.shape, 8, **ties)
        residual = Residual(f"{op.name}_add", replace(y, name=f"{y.name}_middle"), s.low(y), y.high, False)
        op = replace(op, inputs=(x.name, other.name), residual=residual)
    op = _eased(op, x, y) if s.rng.random() < 0.7 else op
    if op.residual is None and s.rng.random() < 0.4:
        op = _pooled(s, op, y, in_tiles=height == 1 or algorithm.endswith("r") or s.rng.random() < 0.8)
    s.add(op, Schedule(2, 2, 1, algorithm, bool(s.pick(0, 1))))


def _pooled(s: Sampler, op: Conv, middle: Tensor, *, in_tiles: bool) -> Conv:
    """Return a convolution with a max-pooling behind it whose windows fill the tiles of transforms, or do not."""
    kernel = (s.pick(2, 2, 2, 1), s.pick(2, 2, 2, 1)) if in_tiles else (3, 3)
    kernel = kernel if middle.shape[0] > 1 else (1, 2)
    sides = [size // n for size, n in zip(middle.shape, kernel, strict=False)]
    if kernel == (1, 1) or min(sides) < 1:
        return op
    y = s.tensor((sides[0], sides[1], middle.shape[2]), 8)
    s.tensors[y.name] = replace(y, scale=middle.scale, zero=middle.zero)
    return replace(op, output=y.name, pool=MaxPool(f"{op.name}_pool", middle, kernel, kernel, s.low(y), y.high))


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
