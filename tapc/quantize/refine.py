"""The walk's refiners: units of the method's size, learned in torch."""

from collections.abc import Mapping

from tapc.base.progress import Advance
from tapc.graph.analysis import Graph
from tapc.quantize.activations import ActivationParameters
from tapc.quantize.incremental import Effort, NetworkLearner
from tapc.quantize.learn import Learner, Learning, with_scales
from tapc.quantize.units import Reconstruction, blocks, single_layers, whole
from tapc.quantize.weights import QuantizedLayer

BLOCK_LAYERS = 3
"""Layers that a unit of `block` holds at most where there is no residual block: an inverted bottleneck's."""


class TorchRefiner:
    """Learns layers ("adaround") or blocks ("block").

    Parameters
    ----------
    graph : Graph
    owners : mapping of str to str
        Quantized tensor -> the tensor whose parameters it shares.
    name : str
    seed : int
    """

    def __init__(self, graph: Graph, owners: Mapping[str, str], name: str, seed: int) -> None:
        self.name = name
        self.units = single_layers(graph) if name == "adaround" else blocks(graph, BLOCK_LAYERS)
        self._owners = owners
        self._learner = Learner(graph, owners, Learning(seed=seed))

    def learn(self, task: Reconstruction) -> tuple[dict[str, QuantizedLayer], dict[str, ActivationParameters]] | None:
        """Return better layers and parameters, or None; see `tapc.quantize.walk.Refiner`."""
        found = self._learner.learn(task)
        return None if found is None else (found.layers, with_scales(task.parameters, self._owners, found.scales))


class NetworkRefiner:
    """Learns all layers together ("network"), once the last of them is rounded.

    Parameters
    ----------
    graph : Graph
    owners : mapping of str to str
        Quantized tensor -> the tensor whose parameters it shares.
    effort : Effort
    seed : int
    advance : callable, optional
        Told (steps done, steps).
    pictures : bool
        Samples may be mirrored, shifted and cut.
    """

    name = "network"

    def __init__(
        self,
        graph: Graph,
        owners: Mapping[str, str],
        effort: Effort,
        seed: int,
        advance: Advance | None,
        *,
        pictures: bool = False,
    ) -> None:
        self.units = whole(graph)
        self._learner = NetworkLearner(graph, owners, effort, seed, advance, pictures=pictures)

    def learn(self, task: Reconstruction) -> tuple[dict[str, QuantizedLayer], dict[str, ActivationParameters]] | None:
        """Return better layers, or None; see `tapc.quantize.walk.Refiner`."""
        found = self._learner.learn(task)
        return None if found is None else (found, dict(task.parameters))
