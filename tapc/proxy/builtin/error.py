"""Sensitivity measured: quantize one layer at a time and look at the network's output."""

import math

from tapc.base.errors import DataError, UsageError
from tapc.proxy.base import ProxyContext, Scores, register_proxy


@register_proxy("error", "measured: relative squared error of the logits when a layer alone has the lowest bits")
def error(context: ProxyContext) -> Scores:
    """Return, for every layer, the output error that it causes alone at the lowest bits.

    It is the very quantity that the others predict.

    Raises
    ------
    UsageError
        The context cannot measure (`output_error` is None).
    DataError
        A measured error that is negative or not finite.
    """
    if context.output_error is None:
        raise UsageError("the error proxy needs calibration data to measure with; give data or use --proxy tap")
    scores: Scores = {}
    for layer in context.network.layers:
        measured = context.output_error(layer.name, context.low_bits)
        if not math.isfinite(measured) or measured < 0:
            raise DataError(f"layer {layer.name!r}: its measured output error at {context.low_bits} bits is {measured}")
        scores[layer.name] = measured
    return scores
