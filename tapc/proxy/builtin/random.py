"""Chance, as a baseline."""

import numpy as np

from tapc.proxy.base import ProxyContext, Scores, register_proxy


@register_proxy("random", "uniform random numbers from the run's seed: a baseline")
def random(context: ProxyContext) -> Scores:
    """Return numbers in (0, 1], the same for the same seed and number of layers."""
    draws = 1.0 - np.random.default_rng(context.seed).random(len(context.network.layers))
    return {layer.name: float(draw) for layer, draw in zip(context.network.layers, draws, strict=True)}
