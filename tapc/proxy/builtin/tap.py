"""The training-free proxy that TAP reports as its discovery."""

import math

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.proxy.base import ProxyContext, Scores, register_proxy

SAMPLES = 16
BINS = 256


@register_proxy("tap", "||W||_2 * H(A) * exp(-depth / L), the example of the TAP paper")
def tap(context: ProxyContext) -> Scores:
    """Return ||W||_2 * H(A) * exp(-d / L) for every layer (arXiv 2512.07419, Table 2).

    ||W||_2 is the Frobenius norm of the weights; H(A) the entropy of the layer's input, see
    `activation_entropy`, over the first 16 samples; d the layer's position from 0; L the number of layers.

    Raises
    ------
    DataError
        A layer without input samples, or with samples that are not finite.
    """
    count = len(context.network.layers)
    scores: Scores = {}
    for layer in context.network.layers:
        samples = context.activations.get(layer.name)
        if samples is None or samples.size == 0:
            raise DataError(f"layer {layer.name!r}: the tap proxy needs samples of its input; give calibration data")
        if not np.isfinite(samples[:SAMPLES]).all():
            raise DataError(f"layer {layer.name!r}: its input holds NaN or infinite values on the calibration data")
        norm = float(np.linalg.norm(context.weights[layer.name].astype(np.float64)))
        scores[layer.name] = norm * activation_entropy(samples[:SAMPLES]) * math.exp(-layer.depth / count)
    return scores


def activation_entropy(values: NDArray[np.float32], bins: int = BINS) -> float:
    """Return the Shannon entropy of a histogram between the values' minimum and maximum.

    Parameters
    ----------
    values : array
        Any shape, finite.
    bins : int

    Returns
    -------
    float
        Bits, from 0 (all values in one bin) to log2(bins).
    """
    counts = np.histogram(values.astype(np.float64), bins=bins)[0]
    shares = counts[counts > 0] / counts.sum()
    return float(max(0.0, -(shares * np.log2(shares)).sum()))
