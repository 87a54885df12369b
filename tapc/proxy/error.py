"""Sensitivity measured: quantize one layer at a time and look at the network's output."""

import math

from tapc.errors import DataError, UsageError
from tapc.proxy.base import ProxyContext, Scores, register_proxy

_ACTIVATION_BITS = 8


@register_proxy("error", "measured: relative squared error of the logits when a layer alone has the lowest bits")
def error(context: ProxyContext) -> Scores:
    """Return, for every layer, the output error it causes alone at the lowest bits per unit of its distortion.

    sensitivity x distortion at the lowest bits is then that output error (up to the common normalization), and at
    other bits the error scaled with the layer's distortion. A layer that the lowest bits do not distort scores 0.

    Raises
    ------
    UsageError
        The context cannot measure (`output_error` or `distortion` is None).
    DataError
        A measured error or distortion that is negative or not finite.
    """
    if context.output_error is None or context.distortion is None:
        raise UsageError("the error proxy needs calibration data to measure with; give data or use --proxy tap")
    scores: Scores = {}
    for layer in context.network.layers:
        distortion = context.distortion[layer.name][context.low_bits, _ACTIVATION_BITS]
        measured = context.output_error(layer.name, context.low_bits)
        for what, value in (("output error", measured), ("distortion", distortion)):
            if not math.isfinite(value) or value < 0:
                raise DataError(f"layer {layer.name!r}: its measured {what} at {context.low_bits} bits is {value}")
        scores[layer.name] = measured / distortion if distortion > 0 else 0.0
    return scores
