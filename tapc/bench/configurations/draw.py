"""Which bit configurations of a network the benchmark measures."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import UsageError
from tapc.graph.network import ACTIVATION_BITS, WEIGHT_BITS, Bits, Network

Kind = Literal["uniform", "one-low", "one-high", "ends", "activation", "random"]

STRATA = 12
"""Intervals of the average weight bits, equally wide from 2 to 8, that random configurations are spread over."""

_TRIES = 400  # draws per configuration before its stratum counts as exhausted
_NARROW = 0.25  # share of random configurations with groups of 4-bit activations


@dataclass(frozen=True)
class Configuration:
    """Bits of a whole network.

    Attributes
    ----------
    kind : str
        Why it is in the benchmark.
    weights : tuple of int
        Weight bits of the layers in execution order.
    activations : tuple of int
        Activation bits of the groups, in the network's order.
    """

    kind: Kind
    weights: tuple[int, ...]
    activations: tuple[int, ...]

    @property
    def key(self) -> str:
        """The bits as text, such as ``8442/8848``."""
        return f"{''.join(map(str, self.weights))}/{''.join(map(str, self.activations))}"

    def bits(self, network: Network) -> Bits:
        """Return the assignment by layer name and group index."""
        names = [layer.name for layer in network.layers]
        return Bits(dict(zip(names, self.weights, strict=True)), dict(enumerate(self.activations)))


def draw_configurations(network: Network, count: int, seed: int) -> list[Configuration]:
    """Draw configurations: the extremal ones, then random ones spread evenly over the average bits.

    Extremal are: one width for all weights, with 8- and with 4-bit activations; one layer at 2 or 4 bits and the
    others at 8; one layer at 8 bits and the others at 2; first and last layer at 8 bits and the others at 2 or 4, and
    the reverse; one group of 4-bit activations and everything else at 8 bits. A random configuration draws how
    frequent each width is (uniformly over all mixtures), then every layer's width; it is taken if the stratum that
    is to be filled holds its average. About one in four has 4-bit activations in a random
    subset of groups.

    Parameters
    ----------
    network : Network
    count : int
        Configurations in all; none occurs twice.
    seed : int

    Raises
    ------
    UsageError
        `count` is smaller than the number of extremal configurations, or there are not as many different ones.
    """
    chosen: dict[str, Configuration] = {}
    for configuration in _extremal(network):
        chosen.setdefault(configuration.key, configuration)
    if count < len(chosen):
        raise UsageError(f"{network.name} has {len(chosen)} extremal configurations; ask for at least as many")
    rng = np.random.default_rng(seed)
    parameters = np.array([layer.parameters for layer in network.layers], float)
    open_strata = list(range(STRATA))
    turn = 0
    while len(chosen) < count:
        if not open_strata:
            raise UsageError(f"{network.name} yields only {len(chosen)} different configurations; ask for fewer")
        stratum = open_strata[turn % len(open_strata)]
        narrow = bool(rng.random() < _NARROW)
        drawn = _random(network, parameters, stratum, narrow, chosen.keys(), rng)
        if drawn is None:
            open_strata.remove(stratum)
        else:
            chosen[drawn.key] = drawn
            turn += 1
    return list(chosen.values())


def stratum_of(average_bits: float) -> int:
    """Return the stratum, 0 to STRATA - 1, that an average of weight bits belongs to."""
    low, high = min(WEIGHT_BITS), max(WEIGHT_BITS)
    return min(STRATA - 1, int((average_bits - low) / (high - low) * STRATA))


def _extremal(network: Network) -> Iterator[Configuration]:
    n = len(network.layers)
    low, middle, high = WEIGHT_BITS
    wide = tuple(8 for _ in network.groups)
    inner = [i for i, group in enumerate(network.groups) if not group.interface]
    for bits in WEIGHT_BITS:
        yield Configuration("uniform", (bits,) * n, wide)
        yield Configuration("uniform", (bits,) * n, _narrowed(wide, inner))
    for i in range(n):
        for bits in (low, middle):
            yield Configuration("one-low", _with(n, high, {i: bits}), wide)
        yield Configuration("one-high", _with(n, low, {i: high}), wide)
    for ends, rest in ((high, low), (high, middle), (low, high), (middle, high)):
        yield Configuration("ends", _with(n, rest, {0: ends, n - 1: ends}), wide)
    for i in inner:
        yield Configuration("activation", (high,) * n, _narrowed(wide, [i]))


def _with(n: int, rest: int, changed: dict[int, int]) -> tuple[int, ...]:
    return tuple(changed.get(i, rest) for i in range(n))


def _narrowed(groups: tuple[int, ...], which: list[int]) -> tuple[int, ...]:
    return tuple(min(ACTIVATION_BITS) if i in which else bits for i, bits in enumerate(groups))


def _random(
    network: Network,
    parameters: NDArray[np.float64],
    stratum: int,
    narrow: bool,
    taken: Container[str],
    rng: np.random.Generator,
) -> Configuration | None:
    inner = [i for i, group in enumerate(network.groups) if not group.interface]
    for _ in range(_TRIES):
        weights = rng.choice(WEIGHT_BITS, len(parameters), p=rng.dirichlet(np.ones(len(WEIGHT_BITS))))
        groups = tuple(8 for _ in network.groups)
        if narrow and inner:
            frequency = rng.random()
            groups = _narrowed(groups, [i for i in inner if rng.random() < frequency])
        if stratum_of(float(parameters @ weights / parameters.sum())) != stratum:
            continue
        drawn = Configuration("random", tuple(int(w) for w in weights), groups)
        if drawn.key not in taken:
            return drawn
    return None
