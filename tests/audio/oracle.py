"""TensorFlow's definitions of log-mel and MFCC features in float64, and sounds to try them on."""

import numpy as np
from numpy.typing import NDArray

from tapc.audio import FrontEnd

Floats = NDArray[np.float64]


def features(spec: FrontEnd, samples: NDArray[np.int16], peak: float = 32768.0) -> Floats:
    """Return what `tf.signal` gives: stft, linear_to_mel_weight_matrix, log, mfccs_from_log_mel_spectrograms."""
    x = samples / peak
    count = 1 + (len(x) - spec.window) // spec.hop
    turn = 2 * np.pi * np.arange(spec.window) / spec.window
    window = {"hann": 0.5 - 0.5 * np.cos(turn), "hamming": 0.54 - 0.46 * np.cos(turn)}[spec.shape]
    frames = np.stack([x[i * spec.hop : i * spec.hop + spec.window] * window for i in range(count)])
    spectrum = np.abs(np.fft.rfft(frames, spec.fft))
    if spec.spectrum == "power":
        spectrum = spectrum**2
    mel = spectrum @ filterbank(spec)
    floored = mel + spec.floor if spec.floored == "add" else np.maximum(mel, spec.floor)
    base = {"e": 1.0, "2": 1 / np.log(2), "10": 1 / np.log(10), "db": 10 / np.log(10)}[spec.log]
    logarithms: Floats = np.log(floored) * base
    if spec.kind == "log-mel":
        return logarithms
    out = np.zeros((count, spec.coefficients))
    for k in range(spec.coefficients):
        for n in range(spec.filters):
            out[:, k] += np.sqrt(2 / spec.filters) * logarithms[:, n] * np.cos(np.pi / spec.filters * (n + 0.5) * k)
    return out


def filterbank(spec: FrontEnd) -> Floats:
    """Return the weights bin by bin, as TensorFlow's kernel of `Mfcc` finds them: a band's centres and slopes."""

    def mel(hertz: float) -> float:
        return 1127.0 * float(np.log1p(hertz / 700.0))

    low, high = mel(spec.low), mel(spec.high)
    centres = [low + (high - low) * (i + 1) / (spec.filters + 1) for i in range(spec.filters + 1)]
    weights = np.zeros((spec.fft // 2 + 1, spec.filters))
    for k in range(1, spec.fft // 2 + 1):
        at = mel(k * spec.rate / spec.fft)
        if not low <= at <= high:
            continue
        channel = sum(centre < at for centre in centres) - 1  # the band that begins below
        below = centres[channel] if channel >= 0 else low
        above = centres[channel + 1] if channel + 1 < len(centres) else high
        share = (above - at) / (above - below)
        if channel >= 0:
            weights[k, channel] += share
        if channel + 1 < spec.filters:
            weights[k, channel + 1] += 1 - share
    return weights


def sounds(rate: int, length: int) -> dict[str, NDArray[np.int16]]:
    """Return synthesized sounds: tones, a sweep, something like a vowel, noise, quiet noise, clicks."""
    rng = np.random.default_rng(7)
    t = np.arange(length) / rate
    sweep = np.sin(2 * np.pi * (50 * t + 0.5 * rate * 0.45 / max(t[-1], 1e-9) * t**2))
    vowel = sum(np.sin(2 * np.pi * 120 * h * t) * np.exp(-(((120 * h - 700) / 600) ** 2)) for h in range(1, 30))
    clicks = np.zeros(length)
    clicks[:: rate // 7] = 1
    made = {
        "tone": 0.9 * np.sin(2 * np.pi * 1000 * t),
        "low tone": 0.3 * np.sin(2 * np.pi * 63 * t),
        "sweep": 0.7 * sweep,
        "vowel": 0.2 * vowel * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)),
        "noise": 0.3 * rng.standard_normal(length),
        "quiet noise": 0.001 * rng.standard_normal(length),
        "clicks": clicks,
    }
    return {name: np.clip(np.rint(x * 32768), -32768, 32767).astype(np.int16) for name, x in made.items()}
