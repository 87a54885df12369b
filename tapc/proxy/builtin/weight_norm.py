"""Norm of the weights."""

import numpy as np

from tapc.proxy.base import ProxyContext, Scores, register_proxy


@register_proxy("weight_norm", "||W||_2, the Frobenius norm of the weights: a baseline")
def weight_norm(context: ProxyContext) -> Scores:
    """Return the Frobenius norm of the weights of every layer."""
    return {
        layer.name: float(np.linalg.norm(context.weights[layer.name].astype(np.float64)))
        for layer in context.network.layers
    }
