"""Error of the rounded weights."""

import numpy as np

from tapc.proxy.base import ProxyContext, Scores, register_proxy
from tapc.proxy.needs import perturbation


@register_proxy("weight_error", "||Q(W) - W||^2 / ||W||^2: relative squared error of the weights at the lowest bits")
def weight_error(context: ProxyContext) -> Scores:
    """Return ||Q(W) - W||_2^2 / ||W||_2^2 for every layer, Q at the lowest bits; 0 where all weights are 0.

    Raises
    ------
    UsageError
        The context cannot quantize.
    """
    scores: Scores = {}
    for layer in context.network.layers:
        power = float(np.sum(np.square(context.weights[layer.name].astype(np.float64))))
        error = float(np.sum(np.square(perturbation(context, layer.name, "weight_error"))))
        scores[layer.name] = error / power if power > 0 else 0.0
    return scores
