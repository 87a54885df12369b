"""Every layer is equally sensitive: the allocator minimizes the plain sum of distortions."""

from tapc.proxy.base import ProxyContext, Scores, register_proxy


@register_proxy("uniform", "1 for every layer: minimize the plain sum of layer distortions")
def uniform(context: ProxyContext) -> Scores:
    """Return 1 for every layer."""
    return {layer.name: 1.0 for layer in context.network.layers}
