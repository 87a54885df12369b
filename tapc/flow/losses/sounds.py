"""Sounds of small machines, synthesized: what an autoencoder for anomalies is fed where no recordings are at hand."""

import numpy as np
from numpy.typing import NDArray

_RATE, _WINDOW, _HOP, _MELS, _FRAMES = 16_000, 1024, 512, 128, 5
_LENGTH = _WINDOW + _HOP * (_FRAMES - 1)


def machine_sounds(count: int, seed: int) -> NDArray[np.float32]:
    """Return log-mel spectra (count, 640) of five frames each, as MLPerf Tiny's anomaly detection takes them.

    A machine is a rotor with harmonics that fall off, coloured noise and a slow modulation; every sound draws its own.

    Parameters
    ----------
    count : int
    seed : int
    """
    rng = np.random.default_rng(seed)
    filters = _mel_filters()
    window = np.hanning(_WINDOW + 1)[:-1]
    time = np.arange(_LENGTH) / _RATE
    frequencies = np.fft.rfftfreq(_LENGTH, 1 / _RATE)
    result = np.empty((count, _MELS * _FRAMES), np.float32)
    for i in range(count):
        pitch, slope = rng.uniform(60, 400), rng.uniform(0.6, 1.6)
        order = np.arange(1, int(7000 / pitch))
        phases = rng.uniform(0, 2 * np.pi, len(order))
        tone = (np.sin(2 * np.pi * pitch * order[:, None] * time + phases[:, None]) / order[:, None] ** slope).sum(0)
        colour = (1 + frequencies / rng.uniform(100, 1500)) ** -rng.uniform(0.5, 1.5)
        noise = np.fft.irfft(np.fft.rfft(rng.normal(size=_LENGTH)) * colour, _LENGTH)
        sound = (tone / tone.std() * rng.uniform(0.1, 1) + noise / noise.std()) * 10 ** rng.uniform(-2.2, -1.2)
        sound *= 1 + rng.uniform(0, 0.5) * np.sin(2 * np.pi * rng.uniform(2, 30) * time)
        frames = np.stack([sound[start : start + _WINDOW] for start in range(0, _HOP * _FRAMES, _HOP)])
        power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
        result[i] = (10 * np.log10(power @ filters.T + np.finfo(float).eps)).reshape(-1)
    return result


def _mel_filters() -> NDArray[np.float64]:
    """Return triangles (mels, bins) of equal area on Slaney's mel scale."""
    step, knee = 200 / 3, 15.0
    top = knee + 27 * np.log(_RATE / 2 / 1000) / np.log(6.4)
    mels = np.linspace(0, top, _MELS + 2)
    edges = np.where(mels < knee, mels * step, 1000 * np.exp((mels - knee) * np.log(6.4) / 27))
    bins = np.fft.rfftfreq(_WINDOW, 1 / _RATE)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters
