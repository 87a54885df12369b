"""Number of multiplications."""

from tapc.proxy.base import ProxyContext, Scores, register_proxy


@register_proxy("macs", "multiply-accumulates per inference: a baseline")
def macs(context: ProxyContext) -> Scores:
    """Return the multiply-accumulates of every layer."""
    return {layer.name: float(layer.macs) for layer in context.network.layers}
