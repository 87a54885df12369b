"""HAWQ: largest Hessian eigenvalue."""

import numpy as np

from tapc.proxy.base import ProxyContext, Scores, register_proxy
from tapc.proxy.needs import derivatives, perturbation


@register_proxy("hawq", "lambda / n * ||Q(W) - W||^2, lambda the largest Hessian eigenvalue, n the number of weights")
def hawq(context: ProxyContext) -> Scores:
    """Return lambda / n * ||Q(W) - W||_2^2 for every layer, Q at the lowest bits (arXiv 1905.03696).

    lambda is the largest eigenvalue of the layer's block of the Hessian and n the number of its weights: lambda / n
    is HAWQ's S_i, which orders layers by the bits that they need. It has no unit of error and knows no bits; times
    the squared perturbation, as in HAWQ's own Omega_i = lambda_i ||Q(W_i) - W_i||^2, it predicts one.

    Raises
    ------
    UsageError
        The context has no derivatives or cannot quantize.
    DataError
        Derivatives that overflow.
    """
    largest = derivatives(context, "hawq").top_eigenvalue()
    return {
        layer.name: largest[layer.name]
        / layer.parameters
        * float(np.sum(np.square(perturbation(context, layer.name, "hawq"))))
        for layer in context.network.layers
    }
