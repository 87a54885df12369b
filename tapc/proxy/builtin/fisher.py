"""Diagonal Fisher information times the squared perturbation of each weight."""

import numpy as np

from tapc.proxy.base import ProxyContext, Scores, register_proxy
from tapc.proxy.needs import derivatives, perturbation


@register_proxy(
    "fisher", "1/2 sum F_ii dW_i^2: divergence of the predictions from rounded weights, by the Fisher diagonal"
)
def fisher(context: ProxyContext) -> Scores:
    """Return 1/2 sum_i F_ii (Q(W)_i - W_i)^2 for every layer, Q at the lowest bits.

    F is the Fisher information of the float network's own predictions. To second order the divergence
    KL(p(y | W) || p(y | Q(W))) is 1/2 dW^T F dW, in nats per sample; the diagonal assumes that the rounding errors of
    different weights do not add up coherently. Fisher pruning weighs weights in the same way (arXiv 1801.05787).
    FIT (arXiv 2210.08502) multiplies the trace of F with the layer's mean squared perturbation instead; that product
    is `hawq_v2`.

    Raises
    ------
    UsageError
        The context has no derivatives or cannot quantize.
    DataError
        Derivatives that overflow.
    """
    diagonals = derivatives(context, "fisher").fisher()
    return {
        layer.name: 0.5 * float(np.sum(diagonals[layer.name] * np.square(perturbation(context, layer.name, "fisher"))))
        for layer in context.network.layers
    }
