"""HAWQ-V2: average Hessian trace."""

import numpy as np

from tapc.proxy.base import ProxyContext, Scores, register_proxy
from tapc.proxy.needs import derivatives, perturbation


@register_proxy("hawq_v2", "trace(H) / n * ||Q(W) - W||^2, H the layer's Hessian, n the number of weights")
def hawq_v2(context: ProxyContext) -> Scores:
    """Return trace(H) / n * ||Q(W) - W||_2^2 for every layer, Q at the lowest bits: Omega_i of arXiv 1911.03852.

    To second order it is twice the expected rise of the loss where the perturbation points anywhere with equal
    probability.

    Raises
    ------
    UsageError
        The context has no derivatives or cannot quantize.
    DataError
        Derivatives that overflow.
    """
    traces = derivatives(context, "hawq_v2").trace()
    return {
        layer.name: traces[layer.name]
        / layer.parameters
        * float(np.sum(np.square(perturbation(context, layer.name, "hawq_v2"))))
        for layer in context.network.layers
    }
