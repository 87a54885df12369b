"""What built-in proxies ask of their context, with an error that says what to do where it is missing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError, UsageError
from tapc.proxy.derivatives import Derivatives

if TYPE_CHECKING:
    from tapc.proxy.base import ProxyContext


def derivatives(context: "ProxyContext", proxy: str) -> Derivatives:
    """Return the context's derivatives.

    Raises
    ------
    UsageError
        There are none.
    """
    if context.derivatives is None:
        raise UsageError(f"the {proxy} proxy needs calibration data to differentiate on; give data or use --proxy tap")
    return context.derivatives


def outputs(context: "ProxyContext", proxy: str) -> Mapping[str, NDArray[np.float32]]:
    """Return layer name -> output (N, ...) before the activation function, for every layer.

    Raises
    ------
    UsageError
        The context has none.
    DataError
        A layer without samples, or with samples that are not finite.
    """
    if context.outputs is None:
        raise UsageError(f"the {proxy} proxy needs calibration data; give data or use --proxy tap")
    for layer in context.network.layers:
        samples = context.outputs.get(layer.name)
        if samples is None or samples.size == 0:
            raise DataError(f"layer {layer.name!r}: the {proxy} proxy needs samples of its output; give data")
        if not np.isfinite(samples).all():
            raise DataError(f"layer {layer.name!r}: its output holds NaN or infinite values on the calibration data")
    return context.outputs


def perturbation(context: "ProxyContext", layer: str, proxy: str) -> NDArray[np.float64]:
    """Return Q(W) - W at the lowest bits with nearest rounding, in the shape of the weights.

    Raises
    ------
    UsageError
        The context cannot quantize.
    """
    if context.quantized is None:
        raise UsageError(f"the {proxy} proxy needs quantized weights, which this context cannot make")
    return context.quantized(layer, context.low_bits).astype(np.float64) - context.weights[layer]
