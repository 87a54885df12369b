"""Per-channel symmetric quantization of weights at 2 to 8 bits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.graph.network import CODED_BITS, WEIGHT_BITS

Float = NDArray[np.float32]
_RANGES: dict[int, tuple[int, int]] = {bits: (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in CODED_BITS}
_RANGES[8] = -127, 127
_CANDIDATES = 80
_INT32 = np.iinfo(np.int32)
_REFINEMENTS = 2
_SMALLEST_RATIO: dict[int, float] = {2: 0.1, 3: 0.17, 4: 0.25, 5: 0.35, 6: 0.45, 7: 0.52, 8: 0.6}


@dataclass(frozen=True)
class QuantizedWeights:
    """Integer weights and their scales.

    Attributes
    ----------
    values : int8 (int16 of kept networks), shape of the float weights
        8 bits in [-127, 127], 4 bits in [-8, 7], 2 bits in [-2, 1], the others likewise.
    scales : float32 (outputs,)
        Positive; zero point 0.
    bits : int
        2 to 8.
    """

    values: NDArray[Any]
    scales: Float
    bits: int

    def dequantized(self) -> Float:
        """Return the float32 weights that the integers stand for."""
        result: Float = self.values.astype(np.float32) * per_channel(self.scales, self.values.ndim)
        return result


def code_range(bits: int) -> tuple[int, int]:
    """Return the lowest and highest code of a weight width."""
    return _RANGES[bits]


def per_channel(vector: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Reshape (outputs,) so that it broadcasts along axis 0 of an ndim-dimensional array."""
    return vector.reshape(-1, *([1] * (ndim - 1)))


def round_weights(weights: Float, scales: Float, bits: int) -> NDArray[np.int8]:
    """Return weights / scales rounded half to even and clamped to the codes."""
    low, high = _RANGES[bits]
    result: NDArray[np.int8] = np.clip(np.rint(weights / per_channel(scales, weights.ndim)), low, high).astype(np.int8)
    return result


def weight_scales(weights: Float, bits: int) -> Float:
    """Return the scale per output channel that has the least squared error with nearest rounding.

    A grid of clip ratios per channel, then least-squares refinement of the best; a candidate is only
    taken where it lowers the error, so the result is never worse than the unclipped scale.

    Parameters
    ----------
    weights : float32 (outputs, ...)
    bits : int
        2 to 8.

    Returns
    -------
    float32 (outputs,)
        Positive; 1 for channels that are all zero.
    """
    low, high = _RANGES[bits]
    rows = np.ascontiguousarray(weights.reshape(len(weights), -1), np.float32)
    largest = np.abs(rows).max(axis=1)
    usable = largest / np.float32(high) >= np.finfo(np.float32).tiny
    full = np.where(usable, largest / np.float32(high), np.float32(1)).astype(np.float32)
    best, best_error = full, np.full(len(rows), np.inf)
    codes, error = np.empty_like(rows), np.empty_like(rows)

    def consider(scales: Float) -> None:
        nonlocal best, best_error
        np.divide(rows, scales[:, None], out=codes)
        np.rint(codes, out=codes)
        np.clip(codes, low, high, out=codes)
        np.multiply(codes, scales[:, None], out=error)
        np.subtract(error, rows, out=error)
        total = np.einsum("ij,ij->i", error, error, dtype=np.float64)
        better = total < best_error
        best, best_error = np.where(better, scales, best), np.where(better, total, best_error)

    for ratio in np.linspace(1.0, _SMALLEST_RATIO[bits], _CANDIDATES, dtype=np.float32):
        consider((full * ratio).astype(np.float32))
    for _ in range(_REFINEMENTS):
        np.clip(np.rint(rows / best[:, None]), low, high, out=codes)
        power = np.einsum("ij,ij->i", codes, codes)
        match = np.einsum("ij,ij->i", codes, rows)
        consider(np.where((power > 0) & (match > 0), match / np.maximum(power, 1), best).astype(np.float32))
    return np.where(usable, best, np.float32(1)).astype(np.float32)


def quantize_weights(weights: Float, bits: int) -> QuantizedWeights:
    """Quantize a layer's weights (outputs, ...) per output channel with nearest rounding."""
    scales = weight_scales(weights, bits)
    return QuantizedWeights(round_weights(weights, scales, bits), scales, bits)


def weight_distortion(weights: Float) -> dict[int, float]:
    """Return the squared error of nearest-rounded weights relative to the weights' power, per bit width."""
    power = float(np.square(weights, dtype=np.float64).sum())
    result: dict[int, float] = {}
    for bits in WEIGHT_BITS:
        error = quantize_weights(weights, bits).dequantized().astype(np.float64) - weights
        result[bits] = float(np.square(error).sum()) / power if power > 0 else 0.0
    return result


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer's integers.

    Attributes
    ----------
    weights : QuantizedWeights
    bias : int32 (outputs,)
        In units of `bias_scales`.
    bias_scales : float32 (outputs,)
        Input scale times weight scale, multiplied in float32.
    """

    weights: QuantizedWeights
    bias: NDArray[np.int32]
    bias_scales: Float


def integer_bias(bias: Float, scales: Float) -> NDArray[np.int32]:
    """Return bias / scales rounded half to even and saturated to int32."""
    exact = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return np.clip(exact, _INT32.min, _INT32.max).astype(np.int32)


def without_bias(weights: QuantizedWeights) -> QuantizedLayer:
    """Return a layer whose bias is no part of it."""
    count = len(weights.scales)
    return QuantizedLayer(weights, np.zeros(count, np.int32), np.ones(count, np.float32))
