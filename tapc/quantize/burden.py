"""Factors of tied channels that make the errors of activations and of the weights that read them least together.

The errors are those of uniform rounding: an activation's step follows the largest channel after the factors, a weight's
the largest weight of its row after they are divided out. Both are counted at the outputs of the readers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from scipy.special import logsumexp, softmax

from tapc.quantize.threads import threads_for

Doubles = NDArray[np.float64]
_SHARP = 0.03  # of the smooth maxima, in natural logarithms
_WEIGHTS = 3.0  # how much more an error of weights counts; of 0.3, 1 and 3 the best for small networks at 4 bits
_ITERATIONS = 300
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads a set of tied channels.

    Attributes
    ----------
    weights : float64 (outputs, channels)
        Largest magnitude of each output's weights on each channel.
    squares : float64 (channels,)
        Sum of all squared weights on each channel.
    power : float64 (channels,)
        Mean square of each channel that it reads.
    step : float
        Of its weights, relative to the largest of a row.
    depthwise : bool
        Each output reads one channel: no factor costs its weights anything.
    """

    weights: Doubles
    squares: Doubles
    power: Doubles
    step: float
    depthwise: bool


@dataclass(frozen=True, eq=False)
class Tensor:
    """A quantized tensor of the set.

    Attributes
    ----------
    peaks : float64 (channels,)
        Largest magnitudes.
    step : float
        Relative to the largest peak.
    readers : tuple of int
        Indices of the readers that its error reaches.
    """

    peaks: Doubles
    step: float
    readers: tuple[int, ...]


def least_error(
    tensors: Sequence[Tensor], readers: Sequence[Reader], low: Doubles, high: Doubles, start: Doubles
) -> Doubles:
    """Return the factors (channels,) of least error.

    Parameters
    ----------
    tensors : sequence of Tensor
    readers : sequence of Reader
    low, high : float64 (channels,)
        Bounds of the factors' logarithms.
    start : float64 (channels,)
        Logarithms to start from.
    """
    scale = 1 / max(_value(start, tensors, readers)[0], _TINY)

    def objective(logs: Doubles) -> tuple[float, Doubles]:
        value, gradient = _value(logs, tensors, readers)
        # Its logarithm is closer to a quadratic.
        return float(np.log(max(value * scale, _TINY))), gradient / max(value, _TINY)

    with threads_for(len(start)):
        found = minimize(
            objective, np.clip(start, low, high), jac=True, method="L-BFGS-B", bounds=Bounds(low, high),
            options={"maxiter": _ITERATIONS},
        )  # fmt: skip
    result: Doubles = np.exp(np.asarray(found.x, np.float64))
    return result


def _value(logs: Doubles, tensors: Sequence[Tensor], readers: Sequence[Reader]) -> tuple[float, Doubles]:
    """Return the error and its gradient by the factors' logarithms."""
    total, gradient = 0.0, np.zeros_like(logs)
    norms = [max(float(reader.squares @ reader.power), _TINY) for reader in readers]
    for tensor in tensors:
        peaks = (logs + np.log(np.maximum(tensor.peaks, _TINY))) / _SHARP
        step = tensor.step**2 * np.exp(2 * _SHARP * logsumexp(peaks))
        for index in tensor.readers:
            carried = readers[index].squares * np.exp(-2 * logs) / norms[index]
            error = step * carried.sum()
            total += error
            gradient += 2 * error * softmax(peaks) - 2 * step * carried
    for reader, norm in zip(readers, norms, strict=True):
        if reader.depthwise:
            continue
        rows = (np.log(np.maximum(reader.weights, _TINY)) - logs) / _SHARP
        steps = _WEIGHTS * reader.step**2 * np.exp(2 * _SHARP * logsumexp(rows, axis=1)) / norm
        power = reader.power * np.exp(2 * logs)
        total += steps.sum() * power.sum()
        gradient += 2 * steps.sum() * power - 2 * power.sum() * (steps @ softmax(rows, axis=1))
    return total, gradient
