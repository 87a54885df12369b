"""What a proxy sees, what it returns, and the registry of proxies."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.graph.network import Network
from tapc.proxy.columns import Table
from tapc.proxy.derivatives import Derivatives

Scores = dict[str, float]


@dataclass(frozen=True)
class ProxyContext:
    """Everything that a proxy may look at.

    Attributes
    ----------
    network : Network
    weights : mapping of str to float32 array
        Layer name -> weights, OIHW or (outputs, inputs).
    activations : mapping of str to float32 array (N, ...)
        Layer name -> samples of the tensor that the layer reads.
    output_error : callable or None
        (layer name, weight bits) -> relative mean squared error of the logits when only that layer's weights are
        quantized. None where nothing can be measured.
    distortion : mapping of str to mapping of (int, int) to float, or None
        Layer name -> (weight bits, activation bits) -> relative squared error of the layer's own output.
    low_bits : int
        The lowest weight bits on offer.
    statistics : callable or None
        Returns the network's statistics table, see `tapc.proxy.columns`.
    derivatives : Derivatives or None
        Fisher information and Hessian of the weights.
    outputs : mapping of str to float32 array (N, ...), or None
        Layer name -> the layer's output before its activation function.
    seed : int
        For proxies that draw.
    quantized : callable or None
        (layer name, weight bits) -> the weights rounded to these bits, as float32.
    """

    network: Network
    weights: Mapping[str, NDArray[np.float32]]
    activations: Mapping[str, NDArray[np.float32]]
    output_error: Callable[[str, int], float] | None = None
    distortion: Mapping[str, Mapping[tuple[int, int], float]] | None = None
    low_bits: int = 2
    statistics: Callable[[], Table] | None = None
    derivatives: Derivatives | None = None
    outputs: Mapping[str, NDArray[np.float32]] | None = None
    seed: int = 0
    quantized: Callable[[str, int], NDArray[np.float32]] | None = None


class Proxy(Protocol):
    """Predicts the output error that each layer causes when it alone has the lowest weight bits."""

    @property
    def name(self) -> str:
        """The name that `tapc.proxy.get_proxy` knows it by."""

    @property
    def summary(self) -> str:
        """One line for listings."""

    def score(self, context: ProxyContext) -> Scores:
        """Return layer name -> predicted error; not negative, with a mean of 1 over the layers."""


@dataclass(frozen=True)
class FunctionProxy:
    """A proxy made of a function that returns raw scores; `score` checks and normalizes them."""

    name: str
    summary: str
    function: Callable[[ProxyContext], Mapping[str, float]]

    def score(self, context: ProxyContext) -> Scores:
        """Return normalized sensitivities; see `normalize` for the errors."""
        return normalize(self.name, self.function(context), context.network)


_REGISTRY: dict[str, Proxy] = {}


def register_proxy(
    name: str, summary: str
) -> Callable[[Callable[[ProxyContext], Mapping[str, float]]], Callable[[ProxyContext], Mapping[str, float]]]:
    """Return a decorator that adds a function of raw scores to the registry.

    Raises
    ------
    ValueError
        The name is taken.
    """

    def register(
        function: Callable[[ProxyContext], Mapping[str, float]],
    ) -> Callable[[ProxyContext], Mapping[str, float]]:
        if name in _REGISTRY:
            raise ValueError(f"a proxy called {name!r} is registered already")
        _REGISTRY[name] = FunctionProxy(name, summary, function)
        return function

    return register


def registered() -> Mapping[str, Proxy]:
    """Return all registered proxies by name."""
    return _REGISTRY


def proxy_names() -> tuple[str, ...]:
    """Return the names of all registered proxies, sorted: those made by hand; see also `tapc.proxy.found`."""
    return tuple(sorted(_REGISTRY))


def normalize(proxy: str, scores: Mapping[str, float], network: Network) -> Scores:
    """Check a proxy's raw scores and scale them to a mean of 1.

    Raises
    ------
    DataError
        A layer without a score, a score that is negative, NaN or infinite, a score for a layer that the network
        lacks, or nothing but zeros.
    """
    names = [layer.name for layer in network.layers]
    unknown = sorted(set(scores) - set(names))
    if unknown:
        raise DataError(f"proxy {proxy!r} scored {unknown[0]!r}, which is no layer of {network.name!r}")
    for name in names:
        if name not in scores:
            raise DataError(f"proxy {proxy!r} gave layer {name!r} no score")
        if not math.isfinite(scores[name]) or scores[name] < 0:
            raise DataError(
                f"proxy {proxy!r} gave layer {name!r} the score {scores[name]}; "
                "a sensitivity must be a finite number that is not negative"
            )
    largest = max((float(scores[name]) for name in names), default=1.0)
    if largest == 0:
        raise DataError(
            f"proxy {proxy!r} gave every layer the score 0, which ranks nothing; give calibration data that "
            "the network reacts to (are they all alike?), or another proxy, "
            "or one width (--wbits 8), which needs no ranking"
        )
    relative = {name: float(scores[name]) / largest for name in names}  # first, so that no sum overflows
    mean = math.fsum(relative.values()) / max(len(names), 1)
    return {name: value / mean for name, value in relative.items()}
