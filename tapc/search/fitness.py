"""How good a proxy is (Eq. 6): ranks of configurations, what the bits lose that it leads to, and their cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np

from tapc.allocate import solve
from tapc.base.cache import digest
from tapc.base.errors import BudgetError
from tapc.flow.decide import with_scores
from tapc.flow.losses.draw import Drawn
from tapc.flow.losses.ranking import Doubles, Regret, narrow_activations
from tapc.flow.losses.table import LossRow, row_of
from tapc.proxy.base import normalize
from tapc.quantize import uniform_bits
from tapc.search.budgets import SOLVER, within_budgets
from tapc.search.configuration import DeviceFigures, bops, measure_loss
from tapc.search.measurements import Measurements
from tapc.search.networks import OnDevice, SearchNetwork
from tapc.search.options import SearchOptions

VERSION = 2
"""1 ranked layers and measured top-1 at one budget."""

Chosen = Mapping[float, Sequence[int]]
"""Weight bits that a program chose itself, by average."""


@dataclass(frozen=True)
class BudgetFigure:
    """What the bits lose that a proxy leads to.

    Attributes
    ----------
    budget : float
        Largest average weight bits; activations have 4 bits wherever possible.
    weights : str
        A digit per layer.
    loss, best : float
        Measured, and the least that was measured of configurations that fit.
    metric : float
        The network's metric with these bits, 0 to 1.
    """

    budget: float
    weights: str
    loss: float
    best: float
    metric: float


@dataclass(frozen=True)
class NetworkFitness:
    """A proxy on one network.

    Attributes
    ----------
    network : str
    rho : float
        Rank correlation of predicted and measured losses within equal sizes; 0 where nothing is ranked.
    accuracy : float
        Of the bits at the budgets, 0..1: the least measured loss over theirs, or their metric; mean of the budgets.
    cost : float
        Measured quantity over its budget; 0 where nothing is measured.
    budgets : tuple of BudgetFigure
    weights, activations : tuple of int
        Bits per layer and per activation group whose cost was measured; empty without a cost.
    figures : dict
        What was measured: see `DeviceFigures`; and BOPs.
    """

    network: str
    rho: float
    accuracy: float
    cost: float
    budgets: tuple[BudgetFigure, ...]
    weights: tuple[int, ...] = ()
    activations: tuple[int, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def picks(self) -> tuple[str, ...]:
        """The weight bits at the budgets."""
        return tuple(figure.weights for figure in self.budgets)


@dataclass(frozen=True)
class Fitness:
    """Eq. 6 over some networks.

    Attributes
    ----------
    phi : float
        alpha * rho + (1 - alpha) * accuracy - beta * cost.
    rho, accuracy : float
        Of the networks, combined.
    cost : float
        Mean over the networks.
    networks : tuple of NetworkFitness
    """

    phi: float
    rho: float
    accuracy: float
    cost: float
    networks: tuple[NetworkFitness, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Fitness":
        """Return the fitness that `to_dict` gave."""
        networks = tuple(
            NetworkFitness(**(n | {
                "budgets": tuple(BudgetFigure(**b) for b in n["budgets"]),
                "weights": tuple(n["weights"]), "activations": tuple(n["activations"]),
            }))
            for n in values["networks"]
        )  # fmt: skip
        return Fitness(values["phi"], values["rho"], values["accuracy"], values["cost"], networks)


def combined(values: Sequence[float], how: str) -> float:
    """Return the least, the mean, or the mean without the highest and the lowest where that leaves one."""
    if how == "min":
        return min(values)
    kept = sorted(values)[1:-1] if how == "trimmed" and len(values) > 2 else values
    return math.fsum(kept) / len(kept)


class Judge:
    """Computes fitness; one for a whole search.

    Parameters
    ----------
    networks : sequence of SearchNetwork
    options : SearchOptions
    measurements : Measurements, optional
        Where the device counts, or programs choose bits themselves.
    """

    def __init__(
        self, networks: Sequence[SearchNetwork], options: SearchOptions, measurements: Measurements | None = None
    ) -> None:
        self.networks = tuple(networks)
        self.options = options
        self._measurements = measurements

    def judge(self, scores: Sequence[Sequence[float]], chosen: Sequence[Chosen] | None = None) -> Fitness:
        """Return the fitness of scores.

        Parameters
        ----------
        scores : sequence of sequence of float
            Per network and layer.
        chosen : sequence of mapping, optional
            Per network what the program chose itself: weight bits by average, at each of
            `tapc.flow.losses.draw.BUDGETS` and at `target_bits` of the options.

        Raises
        ------
        BudgetError
            No bits, or not those that the program chose, keep the device's budgets as measured.
        """
        return self.combine([
            self._judged(network, network.ranking.predicted(own), own, None if chosen is None else chosen[i])
            for i, (network, own) in enumerate(zip(self.networks, scores, strict=True))
        ])  # fmt: skip

    def ceiling(self) -> Fitness:
        """Return what the measured losses of the layers, each alone and added, would have; without a cost."""
        return self.combine([self._ranked(network, network.ranking.alone()) for network in self.networks])

    def combine(self, results: Sequence[NetworkFitness]) -> Fitness:
        """Return the fitness of what was found on each network."""
        options = self.options
        rho, accuracy = (combined([getattr(r, name) for r in results], options.combine) for name in ("rho", "accuracy"))
        cost = math.fsum(r.cost for r in results) / len(results)
        phi = options.alpha * rho + (1 - options.alpha) * accuracy - options.beta * cost
        return Fitness(phi, rho, accuracy, cost, tuple(results))

    def _ranked(self, network: SearchNetwork, predicted: Doubles, chosen: Chosen | None = None) -> NetworkFitness:
        ranking = network.ranking
        regrets = ranking.regrets(predicted)
        if chosen is None:
            budgets = tuple(_figure(network, regret) for regret in regrets)
        else:
            budgets = tuple(self._own_figure(network, regret, chosen[regret.budget]) for regret in regrets)
        rho = ranking.correlation(predicted, self.options.rank)
        return NetworkFitness(network.name, rho, self._accuracy(budgets), 0.0, budgets)

    def _accuracy(self, budgets: Sequence[BudgetFigure]) -> float:
        if self.options.accuracy == "top1":
            return float(np.mean([min(1.0, max(0.0, b.metric)) for b in budgets]))
        return float(np.mean([b.best / b.loss if b.loss > 0 else 1.0 for b in budgets]))

    def _own_figure(self, network: SearchNetwork, regret: Regret, weights: Sequence[int]) -> BudgetFigure:
        """Return the figure of bits that the program chose; measured where the table lacks them."""
        table, rounding = network.losses, network.ranking.rounding
        drawn = Drawn("chosen", regret.budget, "".join(map(str, weights)), narrow_activations(table))
        row = table.row(drawn.key) or self._measured(network, drawn)
        own = row.by(rounding)
        return BudgetFigure(regret.budget, drawn.weights, own.loss, min(regret.best, own.loss), own.metric)

    def _measured(self, network: SearchNetwork, drawn: Drawn) -> LossRow:
        assert self._measurements is not None
        assert network.setup is not None
        key = digest("losses", network.losses.provenance.code_sha256, network.setup.digest, drawn.key)
        return row_of(dict(self._measurements.once(key, measure_loss, network.setup, drawn)))

    def _judged(
        self, network: SearchNetwork, predicted: Doubles, scores: Sequence[float], chosen: Chosen | None
    ) -> NetworkFitness:
        ranked, options = self._ranked(network, predicted, chosen), self.options
        if options.beta == 0 and not options.budgeted:
            return ranked
        own = None if chosen is None else chosen[cast(float, options.target_bits)]
        if network.device is None:
            weights, activations = self._picked(network, predicted, own)
            figures: dict[str, Any] = {"bops": bops(network.layers, weights, activations)}
        else:
            weights, activations, device = self._on_device(network, network.device, scores, own)
            figures = asdict(device) | {"bops": bops(network.layers, weights, activations)}
        return NetworkFitness(
            network.name, ranked.rho, ranked.accuracy, self.cost(network, figures), ranked.budgets, weights,
            activations, figures,
        )  # fmt: skip

    def _picked(
        self, network: SearchNetwork, predicted: Doubles, own: Sequence[int] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the bits at the search's own average: of the measured configurations with the wanted activations."""
        table, options = network.losses, self.options
        groups = len(table.rows[0].activations)
        low = str(min(options.abits))
        activations = "".join("8" if i in table.interface else low for i in range(groups))
        most = math.inf if options.target_bits is None else options.target_bits + 1e-5
        fits = [
            i for i, row in enumerate(table.rows) if row.activations == activations and row.average_bits <= most
        ]  # fmt: skip
        weights = table.rows[min(fits, key=lambda i: float(predicted[i]))].weights if own is None else own
        return tuple(map(int, weights)), tuple(map(int, activations))

    def _on_device(
        self, network: SearchNetwork, device: OnDevice, scores: Sequence[float], own: Sequence[int] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...], DeviceFigures]:
        assert self._measurements is not None
        graph = device.subject.network
        names = [layer.name for layer in graph.layers]
        normalized = normalize("candidate", dict(zip(names, scores, strict=True)), graph)
        problem = with_scores(device.problem, normalized)
        fixed = None if own is None else dict(zip(names, own, strict=True))
        bits, figures = within_budgets(self._measurements, device.subject, problem, fixed)
        weights = tuple(bits.weights[name] for name in names)
        return weights, tuple(bits.activations[g] for g in range(len(graph.groups))), figures

    def reference(self, device: OnDevice) -> DeviceFigures:
        """Return the figures of a network at the most bits on offer: the scale of costs without a budget."""
        options = self.options
        assert self._measurements is not None
        bits = uniform_bits(device.subject.network, max(options.wbits), max(options.abits))
        return self._measurements.device(device.subject, bits)

    def cost(self, network: SearchNetwork, figures: Mapping[str, Any]) -> float:
        """Return the quantity that beta weighs over its budget, or over that of the most bits on offer."""
        options = self.options
        if options.cost == "bops":
            groups = len(network.losses.rows[0].activations)
            a = [8 if i in network.losses.interface else max(options.abits) for i in range(groups)]
            return float(
                figures["bops"] / (options.bops or bops(network.layers, [max(options.wbits)] * len(network.layers), a))
            )
        assert network.device is not None
        budget = {
            "instructions": options.latency, "cycles": None, "flash": options.flash, "ram": options.ram
        }[options.cost]  # fmt: skip
        value, whole = figures[options.cost], getattr(self.reference(network.device), options.cost)
        if value is None or whole is None:
            raise BudgetError(f"--cost {options.cost}: nothing on this machine estimates cycles; see tapc doctor")
        return float(value / (budget or whole))

    def check(self) -> None:
        """Solve each device's problem for scores of 1: budgets that nothing meets end a search before it begins."""
        for network in self.networks:
            if network.device is not None:
                with SOLVER:
                    solve(network.device.problem)


def _figure(network: SearchNetwork, regret: Regret) -> BudgetFigure:
    row = network.losses.row(regret.key)
    assert row is not None
    return BudgetFigure(
        regret.budget, row.weights, regret.loss, regret.best, row.by(network.ranking.rounding).metric
    )  # fmt: skip
