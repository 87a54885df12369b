"""Number of weights."""

from tapc.proxy.base import ProxyContext, Scores, register_proxy


@register_proxy("parameters", "number of weights: a baseline")
def parameters(context: ProxyContext) -> Scores:
    """Return the number of weights of every layer, biases excluded."""
    return {layer.name: float(layer.parameters) for layer in context.network.layers}
