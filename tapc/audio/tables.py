"""The integers that a front end computes with."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.audio.spec import FrontEnd, Quantization

Ints = NDArray[np.int64]
LOG_BITS = 7
"""The logarithm's table has a place for each of 2^7 parts of an octave."""
ONE = 1 << 15


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables and shifts; what is computed with them is in `reference.py`.

    Attributes
    ----------
    window : ndarray
        Its first half and the middle, times 2^15.
    sine : ndarray
        A quarter of a wave, FFT / 4 + 1 values, times 2^15.
    first, counts, weights : ndarray
        Of each filter the first bin and the number of bins; the weights of all, times 2^15.
    log : ndarray
        log2(1 + i / 128), times 2^15.
    dct : ndarray, shape (features, filters)
        Cosines with the logarithm's base in them, times 2^`dct_bits`; empty without a cosine transform.
    fraction : int
        Bits behind the point of what is transformed: as many as fit 32 bits whatever the samples are.
    power_shift : int
        Powers are divided by 2^this; with it sums of a filter fit 64 bits whatever the samples are.
    unit : int
        Sums of a filter are those of samples times 2^this.
    floor : int
        Floor of sums, for a peak of 1, times 2^16.
    dct_bits : int
    multiplier, shift : int
        From features to codes.
    """

    window: Ints
    sine: Ints
    first: Ints
    counts: Ints
    weights: Ints
    log: Ints
    dct: Ints
    fraction: int
    power_shift: int
    unit: int
    floor: int
    dct_bits: int
    multiplier: int
    shift: int


def tables_of(spec: FrontEnd, quantization: Quantization) -> Tables:
    """Make the tables of a front end whose columns are codes of a network's input."""
    window = np.rint(ONE * _window(spec)).astype(np.int64)
    matrix = np.rint(ONE * mel_weights(spec)).astype(np.int64)
    first, counts, weights = _sparse(matrix)
    # |X| is at most the sum of the window times 2^15, and the last step of the transform doubles it. 1/256 of it and
    # four for each value are more than all roundings add.
    full = float(window.sum()) * (1 + 2**-8)
    fraction = min(14, math.floor(math.log2((2**31 - 4 * spec.fft) / (2 * full))))
    power_shift, unit = 0, fraction + 1 + 15
    if spec.spectrum == "power":
        # Parseval: all bins together have at most FFT / 2 times the energy of the window.
        energy = spec.fft / 2 * float((window.astype(np.float64) ** 2).sum()) * (1 + 2**-8)
        power_shift = max(0, 2 * (fraction + 1) + math.ceil(math.log2(energy * ONE)) - 63)
        unit = 2 * (fraction + 1) - power_shift + 15
    dct, dct_bits = _dct(spec) if spec.kind == "mfcc" else (np.zeros((0, 0), np.int64), 0)
    factor = 2.0**-dct_bits if spec.kind == "mfcc" else spec.per_octave / ONE
    multiplier, shift = _multiplier(factor / quantization.scale)
    return Tables(
        window=window[: spec.window // 2 + 1],
        sine=np.rint(ONE * np.sin(2 * np.pi * np.arange(spec.fft // 4 + 1) / spec.fft)).astype(np.int64),
        first=first,
        counts=counts,
        weights=weights,
        log=np.rint(ONE * np.log2(1 + np.arange((1 << LOG_BITS) + 1) / (1 << LOG_BITS))).astype(np.int64),
        dct=dct,
        fraction=fraction,
        power_shift=power_shift,
        unit=unit,
        floor=round(spec.floor * 2.0 ** (unit + 16)),
        dct_bits=dct_bits,
        multiplier=multiplier,
        shift=shift,
    )


def _window(spec: FrontEnd) -> NDArray[np.float64]:
    least = {"hann": 0.5, "hamming": 0.54}[spec.shape]
    return least - (1 - least) * np.cos(2 * np.pi * np.arange(spec.window) / spec.window)


def mel_weights(spec: FrontEnd) -> NDArray[np.float64]:
    """Return the filters' weights, shape (FFT / 2, filters); bin 0 and what lies outside have none."""

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127.0 * np.log1p(hertz / 700.0)

    bins = mel(np.arange(spec.fft // 2) * spec.rate / spec.fft)[:, None]
    low, high = mel(np.array([spec.low, spec.high]))
    edges = np.linspace(float(low), float(high), spec.filters + 2)
    width = edges[1] - edges[0]
    rising, falling = (bins - edges[:-2]) / width, (edges[2:] - bins) / width
    weights: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0
    return weights


def _sparse(matrix: Ints) -> tuple[Ints, Ints, Ints]:
    first, counts, weights = [], [], []
    for column in matrix.T:
        (used,) = np.nonzero(column)
        begin, end = (int(used[0]), int(used[-1]) + 1) if used.size else (1, 1)
        first.append(begin)
        counts.append(end - begin)
        weights.append(column[begin:end])
    return np.array(first), np.array(counts), np.concatenate(weights)


def _dct(spec: FrontEnd) -> tuple[Ints, int]:
    rows, places = np.arange(spec.coefficients)[:, None], np.arange(spec.filters) + 0.5
    real = math.sqrt(2 / spec.filters) * spec.per_octave * np.cos(np.pi * rows * places / spec.filters)
    bits = 15
    while abs(real).max() * 2.0 ** (bits + 1) < ONE - 1 and bits < 24:
        bits += 1
    if abs(real).max() * 2.0**bits >= ONE:  # decibels
        bits = math.floor(math.log2((ONE - 1) / abs(real).max()))
    return np.rint(real * 2.0**bits).astype(np.int64), bits


def _multiplier(factor: float) -> tuple[int, int]:
    """Return m below 2^31 and s up to 62 such that m / 2^s is the factor."""
    shift = min(62, 30 - math.floor(math.log2(factor)))
    multiplier = round(factor * 2.0**shift)
    return (multiplier, shift) if multiplier < 1 << 31 else (multiplier >> 1, shift - 1)
