"""What tables hold about a network's layers, so that proxies can be scored without the network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from tapc.graph.network import ACTIVATION_BITS, WEIGHT_BITS, Network
from tapc.proxy import get_proxy, proxy_names
from tapc.quantize import Calibration, HasGraph
from tapc.quantize.runtime import Float
from tapc.quantize.sensitivity import proxy_context

Distortion = Mapping[str, Mapping[tuple[int, int], float]]

_DIGITS = 9  # significant ones

StatisticsRow = dict[str, str | int | float | list[float]]


class LayerFacts(BaseModel):
    """What is needed to score a layer without the network.

    Attributes
    ----------
    name, op : str
    parameters, macs : int
    input_group : int
        Index of the activation group that it reads.
    errors : dict of str to float
        Weight bits -> relative squared error of the network's output when only this layer's weights have them.
    distortion : dict of str to float
        ``w2a8`` -> squared error of the layer's own output over the squared output; see `layer_distortion`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    op: str
    parameters: int
    macs: int
    input_group: int
    errors: dict[str, float]
    distortion: dict[str, float]

    @property
    def distortions(self) -> dict[tuple[int, int], float]:
        """The distortion by weight and activation bits."""
        return {(w, a): self.distortion[f"w{w}a{a}"] for w in WEIGHT_BITS for a in ACTIVATION_BITS}


@dataclass(frozen=True)
class NetworkFacts:
    """What a table holds besides its configurations; see `tapc.flow.losses.LossTable`."""

    layers: tuple[LayerFacts, ...]
    interface: tuple[int, ...]
    statistics: tuple[StatisticsRow, ...]
    scores: dict[str, tuple[float, ...]]


def network_facts(
    model: HasGraph, network: Network, calibration: Calibration, x: Float, distortion: Distortion
) -> NetworkFacts:
    """Return what is needed to score a network's layers without the network.

    Parameters
    ----------
    model : FloatModel
    network : Network
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    distortion : mapping
        From `layer_distortion`.
    """
    context = proxy_context(model, network, calibration, x, distortion, min(WEIGHT_BITS))
    assert context.output_error is not None
    layers = tuple(
        LayerFacts(
            name=layer.name,
            op=layer.op,
            parameters=layer.parameters,
            macs=layer.macs,
            input_group=layer.input_group,
            errors={str(bits): _rounded(context.output_error(layer.name, bits)) for bits in WEIGHT_BITS},
            distortion={
                f"w{w}a{a}": _rounded(distortion[layer.name][w, a]) for w in WEIGHT_BITS for a in ACTIVATION_BITS
            },
        )
        for layer in network.layers
    )
    names = [layer.name for layer in network.layers]
    scored = {name: get_proxy(name).score(context) for name in proxy_names()}
    assert context.statistics is not None
    return NetworkFacts(
        layers,
        tuple(i for i, group in enumerate(network.groups) if group.interface),
        tuple(_row(row) for row in context.statistics()),
        {name: tuple(_rounded(s[layer]) for layer in names) for name, s in scored.items()},
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return _rounded(value)
    return [float(f"{v:.5g}") for v in value] if isinstance(value, list) else value


def _row(row: Any) -> dict[str, Any]:
    return {name: _cell(value) for name, value in row.items()}
