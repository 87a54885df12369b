"""OMPQ: network orthogonality, from how similar a layer's output is to those of the others."""

import math

import numpy as np
from numpy.typing import NDArray

from tapc.proxy.base import ProxyContext, Scores, register_proxy
from tapc.proxy.needs import outputs

BETA = 1.0


@register_proxy("ompq", "exp(-gamma), gamma the layer's summed similarity to all others: network orthogonality")
def ompq(context: ProxyContext) -> Scores:
    """Return theta_i = exp(-beta * gamma_i), gamma_i = sum_j ORM_ij - 1, for every layer (arXiv 2109.07865).

    The outputs are those before the activation function, flattened per sample. beta is 1, the default of the authors'
    program (github.com/MAC-AutoML/OMPQ); their runs use between 1e-9 and 100, chosen per network. A layer whose output
    is zero on all samples has no direction and scores 0.

    Raises
    ------
    UsageError
        The context has no outputs.
    DataError
        A layer without samples, or with samples that are not finite.
    """
    names = [layer.name for layer in context.network.layers]
    samples = outputs(context, "ompq")
    similarity = orthogonality([samples[name] for name in names])
    gamma = similarity.sum(axis=1) - 1.0
    return {name: math.exp(-BETA * gamma[i]) if similarity[i, i] > 0 else 0.0 for i, name in enumerate(names)}


def orthogonality(features: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the matrix ORM_ij = ||F_j^T F_i||_F^2 / (||F_i^T F_i||_F ||F_j^T F_j||_F).

    Parameters
    ----------
    features : list of arrays (N, ...)
        One per layer; F is its (N, features) matrix.

    Returns
    -------
    float64 (layers, layers)
        From 0, orthogonal, to 1; the diagonal is 1, or 0 where all features are zero.
    """
    rows = []
    for values in features:
        matrix = values.reshape(len(values), -1).astype(np.float64)
        matrix /= np.abs(matrix).max() or 1.0  # ORM does not depend on it, and no square overflows
        # ||F_j^T F_i||_F^2 is the inner product of the N x N Gram matrices, which are small.
        gram = (matrix @ matrix.T).ravel()
        norm = float(np.linalg.norm(gram))
        rows.append(gram / norm if norm > 0 else gram)
    stacked = np.stack(rows)
    return np.clip(stacked @ stacked.T, 0.0, 1.0)
