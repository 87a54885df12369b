"""Per-tensor asymmetric quantization of activations, clipped where the mean squared error is least."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tapc.quantize.calibration import Calibration, TensorStatistics

Float = NDArray[np.float32]
_RANGES: dict[int, tuple[int, int]] = {4: (0, 15), 8: (-128, 127), 16: (-32768, 32767)}
_COARSE, _FINE = 40, 9
_LATTICE_TOLERANCE = 1e-2
_BLOCK = 1 << 16
_chosen: "WeakKeyDictionary[TensorStatistics, dict[int, ActivationParameters]]" = WeakKeyDictionary()


@dataclass(frozen=True)
class ActivationParameters:
    """How one tensor is quantized: q = clamp(rint(v / scale) + zero_point), INT8 for 8 bits, UINT4 for 4.

    Attributes
    ----------
    bits : int
        4, 8 or 16; those of 16 are symmetric but in kept networks.
    scale : float
        A float32 value.
    zero_point : int
        -128..127 for 8 bits, 0..15 for 4, 0 for 16.
    """

    bits: int
    scale: float
    zero_point: int

    @property
    def low(self) -> int:
        """Lowest code."""
        return _RANGES[self.bits][0]

    @property
    def high(self) -> int:
        """Highest code."""
        return _RANGES[self.bits][1]


def quantize_array(values: NDArray[Any], parameters: ActivationParameters) -> NDArray[np.int32]:
    """Return the integer codes of values, as QuantizeLinear computes them (float32, round half to even)."""
    scaled = np.rint(np.asarray(values, np.float32) / np.float32(parameters.scale)) + np.float32(parameters.zero_point)
    result: NDArray[np.int32] = np.clip(scaled, parameters.low, parameters.high).astype(np.int32)
    return result


def dequantize_array(codes: NDArray[Any], parameters: ActivationParameters) -> Float:
    """Return the float32 values of integer codes, as DequantizeLinear computes them."""
    return (codes.astype(np.int32) - parameters.zero_point).astype(np.float32) * np.float32(parameters.scale)


def fake_quantize(values: Float, parameters: ActivationParameters) -> Float:
    """Return the float32 values after quantization and dequantization."""
    scale = np.float32(parameters.scale)
    low, high = parameters.low - parameters.zero_point, parameters.high - parameters.zero_point
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    result = np.empty_like(flat)
    for start in range(0, len(flat), _BLOCK):  # all passes over what the processor's cache holds
        block = result[start : start + _BLOCK]
        np.divide(flat[start : start + _BLOCK], scale, out=block)
        np.rint(block, out=block)
        np.clip(block, low, high, out=block)
        block *= scale
    return result.reshape(np.shape(values))


def _lattice(values: Float, bits: int) -> ActivationParameters | None:
    """Return lossless parameters where all values are multiples of one step, as those of 8-bit sensors are."""
    distinct = np.unique(values).astype(np.float64)
    low, high = _RANGES[bits]
    if not 3 <= len(distinct) <= high - low + 1:
        return None
    steps = np.rint(distinct / np.diff(distinct).min())
    if not steps.any():
        return None
    step = float(distinct @ steps / (steps @ steps))
    if np.abs(distinct / step - steps).max() > _LATTICE_TOLERANCE:
        return None
    first, last = min(0.0, float(steps[0])), max(0.0, float(steps[-1]))
    if last - first > high - low:
        return None
    return ActivationParameters(bits, float(np.float32(step)), int(low - first))


def _errors(
    values: Float, scales: NDArray[np.float64], zero_points: NDArray[np.float64], bits: int
) -> NDArray[np.float64]:
    """Return the summed squared error over sorted values of each candidate (scale, zero point).

    With prefix sums over the sorted values a candidate costs one binary search per code, not one pass.
    """
    low, high = _RANGES[bits]
    exact = values.astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(exact)])
    power = float(exact @ exact)
    codes = np.arange(low, high + 1)
    levels = (codes - zero_points[:, None]) * scales[:, None]
    thresholds = ((levels[:, :-1] + levels[:, 1:]) / 2).astype(np.float32)
    inner = np.searchsorted(values, thresholds)
    edges = np.pad(inner, ((0, 0), (1, 1)), constant_values=((0, 0), (0, len(values))))
    counts = np.diff(edges, axis=1)
    totals = np.diff(sums[edges], axis=1)
    result: NDArray[np.float64] = power + (counts * levels**2 - 2 * totals * levels).sum(axis=1)
    return result


def _best_range(
    values: Float, lows: NDArray[np.float64], highs: NDArray[np.float64], bits: int
) -> tuple[float, float, ActivationParameters]:
    """Return the (low, high) of least error among all pairs; the wider range wins ties."""
    first, last = _RANGES[bits]
    pairs = np.stack(np.meshgrid(lows, highs, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float64)
    scales = np.maximum((pairs[:, 1] - pairs[:, 0]) / (last - first), np.finfo(np.float32).tiny)
    scales = scales.astype(np.float32).astype(np.float64)
    zero_points = np.clip(np.rint(first - pairs[:, 0] / scales), first, last)
    best = int(np.argmin(_errors(values, scales, zero_points, bits)))
    parameters = ActivationParameters(bits, float(scales[best]), int(zero_points[best]))
    return float(pairs[best, 0]), float(pairs[best, 1]), parameters


def tensor_parameters(statistics: TensorStatistics, bits: int) -> ActivationParameters:
    """Return the scale and zero point of least mean squared error for one tensor.

    Zero is always a code. Tensors that are never negative have it at the lowest code. Inputs that are
    multiples of one step and fit the codes (images, sensor words) are represented without loss.
    """
    chosen = _chosen.setdefault(statistics, {})
    if bits not in chosen:
        chosen[bits] = _choose(statistics, bits)
    return chosen[bits]


def _symmetric(statistics: TensorStatistics) -> ActivationParameters:
    """Return parameters of 16 bits that hold every value; their zero point is 0."""
    if (fixed := statistics.point.fixed) is not None:
        return ActivationParameters(16, max(map(abs, fixed)) / (1 << 15), 0)
    largest = max(abs(statistics.low), abs(statistics.high))
    return ActivationParameters(
        16, float(np.float32(largest / 32767)) if largest > np.finfo(np.float32).tiny else 1.0, 0
    )


def _choose(statistics: TensorStatistics, bits: int) -> ActivationParameters:
    if bits == 16:
        return _symmetric(statistics)
    first = _RANGES[bits][0]
    if (fixed := statistics.point.fixed) is not None:
        # What a code short of the upper bound is worth, so that the scale is a power of two.
        scale = (fixed[1] - fixed[0]) / (1 << bits)
        return ActivationParameters(bits, scale, first - round(fixed[0] / scale))
    low, high = min(0.0, statistics.low), max(0.0, statistics.high)
    if high - low < np.finfo(np.float32).tiny * 256:
        return ActivationParameters(bits, 1.0, first)
    # The extremes may have escaped the sample, but must not weigh double where they are in it.
    extremes = np.array([statistics.low, statistics.high], np.float32)
    values = np.sort(np.concatenate([statistics.values, np.setdiff1d(extremes, statistics.values)]))
    if statistics.point.op == "Input" and (lossless := _lattice(values, bits)) is not None:
        return lossless
    ratios = np.linspace(1.0, 1.0 / _COARSE, _COARSE)
    lows = low * ratios if low < 0 else np.zeros(1)
    highs = high * ratios if high > 0 else np.zeros(1)
    best_low, best_high, _ = _best_range(values, lows, highs, bits)
    # The coarse grid's optimum again, between its neighbours; the exact extremes stay the outer bounds.
    step = np.linspace(1.0, -1.0, _FINE) / _COARSE
    lows = np.unique(np.clip(best_low + low * step, low, 0.0))
    highs = np.unique(np.clip(best_high + high * step, 0.0, high))[::-1]
    return _best_range(values, lows, highs, bits)[2]


def activation_parameters(calibration: Calibration, bits: int | Mapping[str, int]) -> dict[str, ActivationParameters]:
    """Choose scale and zero point of every quantized tensor.

    Parameters
    ----------
    calibration : Calibration
        From `calibrate`.
    bits : int or mapping of str to int
        4, 8 or 16, for all tensors or per tensor.

    Returns
    -------
    dict of str to ActivationParameters
        Keyed by tensor name in the float graph; outputs of MaxPool, Flatten, Reshape and Pad share their input's.
    """
    own: dict[str, ActivationParameters] = {}
    for name, statistics in calibration.tensors.items():
        if statistics.point.like is None:
            own[name] = tensor_parameters(statistics, bits if isinstance(bits, int) else bits[name])
    # A state's scale is that of a tensor that comes later.
    return {name: own[statistics.point.like or name] for name, statistics in calibration.tensors.items()}
