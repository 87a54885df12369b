"""Signal to quantization noise of the layer's own output."""

from tapc.base.errors import UsageError
from tapc.proxy.base import ProxyContext, Scores, register_proxy

ACTIVATION_BITS = 8


@register_proxy("sqnr", "1 / SQNR of the layer's own output at the lowest weight bits")
def sqnr(context: ProxyContext) -> Scores:
    """Return noise over signal of every layer's own output: its squared error relative to its square.

    The layer alone is quantized, weights at the lowest bits and input at 8; what the rest of the network makes of the
    error is not looked at.

    Raises
    ------
    UsageError
        The context has no distortions.
    """
    if context.distortion is None:
        raise UsageError("the sqnr proxy needs calibration data to measure with; give data or use --proxy tap")
    return {
        layer.name: float(context.distortion[layer.name][context.low_bits, ACTIVATION_BITS])
        for layer in context.network.layers
    }
