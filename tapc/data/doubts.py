"""What is doubtful about samples, in words for the user."""

import numpy as np

from tapc.data.samples import Samples

FEW = 16
"""Calibration samples below which ranges are guesses."""
SPREAD = 10.0
"""Ratio of the widest channel's range to the narrowest's, from which one scale for both is worth a word."""
_CHANNELS = 64
_SERIES = 16


def few(calibration: Samples) -> tuple[str, ...]:
    """Return a warning where there are too few calibration samples to know ranges by."""
    count = len(calibration.x)
    if count >= FEW:
        return ()
    noun = "sample" if count == 1 else "samples"
    return (f"calibrated on {count} {noun}: ranges are guesses; give at least {FEW}, some hundreds are usual",)


def uneven(samples: Samples) -> tuple[str, ...]:
    """Return a warning where channels, or rows of a series, differ much in range: they share one input scale."""
    x = samples.x
    axis = 1 if 1 < x.shape[1] <= _CHANNELS else 2
    if axis >= x.ndim or (axis == 2 and not 1 < x.shape[2] <= _SERIES):
        return ()
    others = tuple(i for i in range(x.ndim) if i != axis)
    low, high = x.min(axis=others).astype(np.float64), x.max(axis=others).astype(np.float64)
    spans = high - low
    used = spans > 0
    if used.sum() < 2 or spans.max() <= SPREAD * spans[used].min():
        return ()
    narrow, wide = int(np.where(used, spans, np.inf).argmin()), int(spans.argmax())
    step = (max(float(high.max()), 0.0) - min(float(low.min()), 0.0)) / 255
    codes = round(spans[narrow] / step) + 1
    return (
        f"channel {narrow} of the input spans {spans[narrow]:.3g}, channel {wide} {spans[wide]:.3g}, and one scale "
        f"serves both: channel {narrow} gets {codes} of 256 codes; train with channels of like range (each less its "
        "mean, over its deviation) and give these with --mean and --std, one value per channel",
    )
