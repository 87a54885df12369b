"""Which configurations the loss tables hold: extremal, random ones of equal size, and those that allocators choose."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tapc.allocate import AllocationOptions, LayerChoices, build_problem, solve
from tapc.graph.network import WEIGHT_BITS, Layer, Network

Kind = Literal["uniform", "one-low", "one-high", "size", "chosen"]

SIZES = (2.25, 2.5, 2.75, 3.0, 4.0)
"""Average weight bits of the random configurations."""
BUDGETS = (2.25, 2.5, 2.75, 3.0)
"""Average weight bits that allocators may use."""
TOLERANCE = 0.02
"""Share of a size by which a configuration may be smaller, where no layers make it up exactly."""

ALONE = "alone"
"""In place of a proxy's name: the measured losses of the layers, each alone."""

_ALONE = 12  # layers that are changed alone, at most
_TRIES = 200
_PASSES = 4
_ACTIVATIONS = ("8", "4", "4", "8", "mixed")  # what is drawn in turn for each size


@dataclass(frozen=True)
class Drawn:
    """Bits of a whole network.

    Attributes
    ----------
    kind : str
        Why it is in the table.
    size : float or None
        Average weight bits that it was drawn or chosen for.
    weights : str
        A digit per layer, in execution order.
    activations : str
        A digit per activation group.
    """

    kind: Kind
    size: float | None
    weights: str
    activations: str

    @property
    def key(self) -> str:
        """The bits as text, such as ``8442/8848``."""
        return f"{self.weights}/{self.activations}"


def draw(network: Network, count: int, seed: int) -> list[Drawn]:
    """Draw the extremal configurations, then random ones of equal sizes.

    Extremal are: one width for all weights, with 8- and with 4-bit activations; one layer at 2 bits and the others at
    8, and the reverse, for at most 12 layers. Random ones have an average of `SIZES` at most and 2 % less at least;
    two in five have 4-bit activations wherever that is possible, two in five nowhere, one in some groups.

    Parameters
    ----------
    network : Network
    count : int
        Configurations in all; fewer where there are not as many different ones.
    seed : int
        A larger count begins with the same ones.
    """
    result: dict[str, Drawn] = {}
    for drawn in _extremal(network):
        result.setdefault(drawn.key, drawn)
    rng = np.random.default_rng(seed)
    parameters = np.array([layer.parameters for layer in network.layers], float)
    cells = [(size, activations) for activations in _ACTIVATIONS for size in SIZES]
    turn = 0
    while len(result) < count and cells:
        size, activations = cells[turn % len(cells)]
        found = _random(network, parameters, size, activations, result, rng)
        if found is None:
            cells.remove((size, activations))
        else:
            result[found.key] = found
            turn += 1
    return list(result.values())


def choose(
    network: Network,
    scores: Mapping[str, Sequence[float]],
    distortion: Mapping[str, Mapping[tuple[int, int], float]],
    alone: Sequence[Sequence[float]] = (),
    *,
    budgets: Sequence[float] = BUDGETS,
    a_bits: int = 4,
) -> dict[str, Drawn]:
    """Return what the allocator chooses by each proxy's scores at each budget.

    Parameters
    ----------
    network : Network
    scores : mapping of str to sequence of float
        Proxy -> score per layer.
    distortion : mapping
        From `layer_distortion`.
    alone : sequence of sequence of float
        Per layer its measured loss at each of `WEIGHT_BITS`, if these are to choose, too.
    budgets : sequence of float
        Average weight bits.
    a_bits : {4, 8}
        Bits of all activations that may have others than 8.

    Returns
    -------
    dict of str to Drawn
        By ``proxy@budget``; the measured losses' are ``alone@budget``.
    """
    lowest = {name: pairs[min(WEIGHT_BITS), 8] for name, pairs in distortion.items()}
    relative = {
        name: {pair: value / lowest[name] if lowest[name] > 0 else 0.0 for pair, value in pairs.items()}
        for name, pairs in distortion.items()
    }
    names = [layer.name for layer in network.layers]
    result: dict[str, Drawn] = {}

    def bits(own: Sequence[float], budget: float, losses: Sequence[Sequence[float]] = ()) -> Drawn:
        options = AllocationOptions(abits=(a_bits,), target_bits=budget)
        problem = build_problem(network, dict(zip(names, own, strict=True)), relative, _Free(), options)
        if losses:
            measured = map(_measured, problem.layers, losses, map(relative.__getitem__, names))
            problem = replace(problem, layers=tuple(measured))
        found = solve(problem).bits
        weights = "".join(str(found.weights[name]) for name in names)
        return Drawn("chosen", budget, weights, "".join(str(found.activations[i]) for i in range(len(network.groups))))

    for budget in budgets:
        for proxy, own in scores.items():
            result[f"{proxy}@{budget:g}"] = bits(own, budget)
        if alone:
            result[f"{ALONE}@{budget:g}"] = bits([1.0] * len(names), budget, alone)
    return result


def _measured(layer: LayerChoices, own: Sequence[float], relative: Mapping[tuple[int, int], float]) -> LayerChoices:
    """Return a layer's choices with measured losses; what 4-bit inputs add is known relative to that at 2 bits."""

    def loss(w: int, a: int) -> float:
        return own[WEIGHT_BITS.index(w)] + max(0.0, relative[w, a] - relative[w, 8]) * own[0]

    return replace(layer, choices=tuple(replace(c, loss=loss(c.w_bits, c.a_bits)) for c in layer.choices))


class _Free:
    """A cost model in which nothing costs anything: only the average of the weight bits bounds the choice."""

    def algorithms(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int) -> tuple[str, ...]:
        return ("",)

    def code(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> tuple[str, int]:
        return "", 0

    def flash_bytes(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> int:
        return 0

    def latency(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> float:
        return 0.0


def _extremal(network: Network) -> Iterator[Drawn]:
    n = len(network.layers)
    wide, narrow = groups_at(network, "8"), groups_at(network, "4")
    for bits in map(str, WEIGHT_BITS):
        yield Drawn("uniform", None, bits * n, wide)
        yield Drawn("uniform", None, bits * n, narrow)
    for i in dict.fromkeys(np.linspace(0, n - 1, min(n, _ALONE)).round().astype(int).tolist()):
        yield Drawn("one-low", None, "8" * i + "2" + "8" * (n - 1 - i), wide)
        yield Drawn("one-high", None, "2" * i + "8" + "2" * (n - 1 - i), wide)


def groups_at(network: Network, bits: str, narrow: Container[int] | None = None) -> str:
    """Return all groups that may have other bits than 8 at `bits`, or those of `narrow` at 4."""
    if narrow is not None:
        return "".join("4" if i in narrow else "8" for i in range(len(network.groups)))
    return "".join("8" if group.interface else bits for group in network.groups)


def _random(
    network: Network, parameters: NDArray[np.float64], size: float, activations: str, taken: Container[str],
    rng: np.random.Generator,
) -> Drawn | None:  # fmt: skip
    inner = [i for i, group in enumerate(network.groups) if not group.interface]
    for _ in range(_TRIES):
        weights = _weights(parameters, size, rng)
        if weights is None:
            continue
        groups = groups_at(network, activations) if activations != "mixed" else ""
        if activations == "mixed":
            share = rng.random()
            groups = groups_at(network, "", {i for i in inner if rng.random() < share})
        drawn = Drawn("size", size, "".join(map(str, weights)), groups)
        if drawn.key not in taken:
            return drawn
    return None


def _weights(parameters: NDArray[np.float64], size: float, rng: np.random.Generator) -> list[int] | None:
    """Return random bits whose average is `size` at most and `TOLERANCE` less at least."""
    total = parameters.sum()
    aim = size * (1 - TOLERANCE * rng.random()) * total
    weights = rng.choice(WEIGHT_BITS, len(parameters), p=rng.dirichlet(np.ones(len(WEIGHT_BITS))))
    for _ in range(_PASSES):
        # Layer by layer in random order, the width that comes nearest to the size.
        for i in rng.permutation(len(parameters)):
            rest = parameters @ weights - parameters[i] * weights[i]
            if size * (1 - TOLERANCE) * total <= rest + parameters[i] * weights[i] <= size * total:
                return [int(w) for w in weights]
            weights[i] = min(WEIGHT_BITS, key=lambda w: abs(rest + parameters[i] * w - aim))
    return None
