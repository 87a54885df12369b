"""How weights become integers once their scales are chosen: a hook, with nearest rounding built in."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tapc.errors import UsageError
from tapc.network import Layer
from tapc.quantize.weights import Float, round_weights


class Rounding(Protocol):
    """A rounding method."""

    def round(self, layer: Layer, weights: Float, scales: Float, bits: int, inputs: Float) -> NDArray[np.int8]:
        """Return integers in the range of `bits` with the shape of `weights`.

        Parameters
        ----------
        layer : Layer
            Name, kind and shape.
        weights : float32 (outputs, ...)
        scales : float32 (outputs,)
        bits : {2, 4, 8}
        inputs : float32 (N, ...)
            What the layer reads in the quantized network, dequantized, for up to 64 samples.
        """


class Nearest:
    """Round half to even; ignores the inputs."""

    def round(self, layer: Layer, weights: Float, scales: Float, bits: int, inputs: Float) -> NDArray[np.int8]:
        """Return the nearest integers."""
        return round_weights(weights, scales, bits)


_METHODS: dict[str, Rounding] = {"nearest": Nearest()}


def register_rounding(name: str, method: Rounding) -> None:
    """Make a rounding method available to `quantize` under a new name."""
    if name in _METHODS:
        raise UsageError(f"rounding method {name!r} exists already; choose another name")
    _METHODS[name] = method


def rounding_method(name: str) -> Rounding:
    """Return a rounding method; UsageError lists the known ones."""
    if name not in _METHODS:
        raise UsageError(f"unknown rounding method {name!r}; known: {', '.join(sorted(_METHODS))}")
    return _METHODS[name]
