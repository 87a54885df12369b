"""The front end's integer arithmetic in numpy: what the C code computes, bit for bit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.audio.spec import FrontEnd, Quantization
from tapc.audio.tables import LOG_BITS, ONE, Ints, Tables, tables_of

FULL = 1 << 15
"""The level of samples from -1 to 1."""


def times(a: Ints, b: Ints | int) -> Ints:
    """Return a * b / 2^15, rounded."""
    product: Ints = (a * b + ONE // 2) >> 15
    return product


def log2(values: NDArray[np.uint64], table: Ints) -> Ints:
    """Return the logarithm of integers above zero, times 2^15, between two places of the table on a line."""
    exponent = _length(values) - 1
    left = np.maximum(0, 31 - exponent).astype(np.uint64)
    mantissa = ((values << left) >> np.maximum(0, exponent - 31).astype(np.uint64)).astype(np.int64)
    place = (mantissa >> (31 - LOG_BITS)) & ((1 << LOG_BITS) - 1)
    part = (mantissa >> (15 - LOG_BITS)) & 0xFFFF
    low = table[place]
    between: Ints = ((table[place + 1] - low) * part + (1 << 15)) >> 16
    found: Ints = exponent * ONE + low + between
    return found


def _length(values: NDArray[np.uint64]) -> Ints:
    """Return the number of bits that integers take."""
    length, rest = np.zeros(values.shape, np.int64), values.copy()
    for bits in (32, 16, 8, 4, 2, 1):
        more = rest >> np.uint64(bits) != 0
        length += np.where(more, bits, 0)
        rest = np.where(more, rest >> np.uint64(bits), rest)
    length += rest != 0
    return length


@dataclass(frozen=True)
class Reference:
    """A front end, in the integers of the C code."""

    spec: FrontEnd
    quantization: Quantization

    def clip(self, samples: NDArray[np.int16], columns: int) -> NDArray[np.int8]:
        """Return the features of one clip, shape (columns, features); zeros follow samples that are too few."""
        padded = np.zeros(self.spec.samples(columns), np.int16)
        used = samples[: len(padded)]
        padded[: len(used)] = used
        peak = max(1, int(samples.max(initial=1))) if self.spec.normalize == "peak" else FULL
        return self.columns(padded, peak)

    def columns(self, samples: NDArray[np.int16], peak: int = FULL) -> NDArray[np.int8]:
        """Return the features of all windows of a stream, shape (columns, features)."""
        if len(samples) < self.spec.window:
            return np.zeros((0, self.spec.features), np.int8)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.spec.window)[:: self.spec.hop]
        return self.quantized(self.logarithms(self.sums(frames.astype(np.int64)), peak))

    def tables(self) -> Tables:
        """Return the tables."""
        return tables_of(self.spec, self.quantization)

    def spectrum(self, frames: Ints) -> tuple[Ints, Ints]:
        """Return twice the real and imaginary parts of the bins 0 to FFT / 2 - 1 with `fraction` bits, bin 0 as 0."""
        t, size = self.tables(), self.spec.fft
        place = np.arange(self.spec.window)
        products = frames * t.window[np.minimum(place, self.spec.window - place)]
        shift = 15 - t.fraction
        padded = np.zeros((len(frames), size), np.int64)
        padded[:, : self.spec.window] = (products + (1 << shift >> 1)) >> shift
        re, im = self._transform(padded[:, 0::2], padded[:, 1::2])
        half = size // 2
        k = np.arange(1, half)
        zr, zi, yr, yi = re[:, k], im[:, k], re[:, half - k], im[:, half - k]
        cos, sin = self._rotation(k)
        even_r, even_i, odd_r, odd_i = zr + yr, zi - yi, zi + yi, yr - zr
        # Bins above the middle come with those below it, and turn by the same angle.
        mirrored = k > half // 2
        cos, sin = (np.where(mirrored, part[::-1], part) for part in (cos, sin))
        even_r, even_i, odd_r, odd_i = (
            np.where(mirrored, part[:, ::-1], part) for part in (even_r, even_i, odd_r, odd_i)
        )
        turned_r, turned_i = times(odd_r, cos) - times(odd_i, sin), times(odd_r, sin) + times(odd_i, cos)
        sign = np.where(mirrored, -1, 1)
        out_r, out_i = np.zeros((2, len(frames), half), np.int64)
        out_r[:, 1:], out_i[:, 1:] = even_r + sign * turned_r, sign * even_i + turned_i
        return out_r, out_i

    def _rotation(self, index: Ints) -> tuple[Ints, Ints]:
        """Return cosine and minus sine of index / FFT of a turn, for at most half a turn."""
        sine, quarter = self.tables().sine, self.spec.fft // 4
        cos = np.where(index <= quarter, 1, -1) * sine[abs(quarter - index)]
        return cos, -sine[np.where(index <= quarter, index, 2 * quarter - index)]

    def _transform(self, re: Ints, im: Ints) -> tuple[Ints, Ints]:
        """Return the complex transform of half the length."""
        size = re.shape[1]
        bits = size.bit_length() - 1
        order = np.array([int(f"{n:0{bits}b}"[::-1], 2) for n in range(size)])
        re, im = re[:, order], im[:, order]
        half = 1
        while half < size:
            re, im = (part.reshape(len(re), -1, 2, half) for part in (re, im))
            ar, ai, br, bi = re[:, :, 0], im[:, :, 0], re[:, :, 1], im[:, :, 1]
            cos, sin = self._rotation(np.arange(half) * (self.spec.fft // (2 * half)))
            tr, ti = times(br, cos) - times(bi, sin), times(br, sin) + times(bi, cos)
            re, im = np.stack([ar + tr, ar - tr], 2), np.stack([ai + ti, ai - ti], 2)
            re, im = re.reshape(len(re), size), im.reshape(len(im), size)
            half *= 2
        return re, im

    def bins(self, frames: Ints) -> NDArray[np.uint64]:
        """Return what the filters add up, shape (frames, FFT / 2)."""
        re, im = (abs(part) for part in self.spectrum(frames))
        shift = np.maximum(0, _length(np.maximum(re, im).astype(np.uint64)) - 15)
        power = (re >> shift) ** 2 + (im >> shift) ** 2
        if self.spec.spectrum == "power":
            bins: Ints = (power << (2 * shift)) >> self.tables().power_shift
        else:
            bins = np.floor(np.sqrt(power)).astype(np.int64) << shift  # exact below 2^52
        return bins.astype(np.uint64)

    def sums(self, frames: Ints) -> NDArray[np.uint64]:
        """Return the sums of the filters, shape (frames, filters)."""
        t, bins = self.tables(), self.bins(frames)
        sums, begin = [], 0
        for first, count in zip(t.first, t.counts, strict=True):
            weights = t.weights[begin : begin + count].astype(np.uint64)
            sums.append((bins[:, first : first + count] * weights).sum(1, dtype=np.uint64))
            begin += count
        return np.stack(sums, 1)

    def logarithms(self, sums: NDArray[np.uint64], peak: int = FULL) -> Ints:
        """Return log2 of the sums of samples that are divided by a peak, times 2^15."""
        t = self.tables()
        power = 2 if self.spec.spectrum == "power" else 1
        floor = np.uint64(max(1, (t.floor * peak**power) >> 16))
        floored = sums + floor if self.spec.floored == "add" else np.maximum(sums, floor)
        level = int(log2(np.array([peak], np.uint64), t.log)[0])
        return log2(floored, t.log) - (power * level + t.unit * ONE)

    def quantized(self, logarithms: Ints) -> NDArray[np.int8]:
        """Return codes of features."""
        t, features = self.tables(), logarithms
        if self.spec.kind == "mfcc":
            features = times(logarithms[:, None, :], t.dct).sum(2)
        codes = ((features * t.multiplier + (1 << t.shift >> 1)) >> t.shift) + self.quantization.zero
        clipped: NDArray[np.int8] = np.clip(codes, -128, 127).astype(np.int8)
        return clipped
