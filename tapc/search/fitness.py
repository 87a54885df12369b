"""How good a proxy is (Eq. 6): rank correlation, accuracy at the bits it leads to, and their measured cost."""

import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from scipy.stats import spearmanr

from tapc.allocate import Allocation, AllocationError, solve
from tapc.allocate.problem import AllocationProblem
from tapc.base.errors import BudgetError
from tapc.flow.decide import with_scores
from tapc.graph.network import WEIGHT_BITS, Bits
from tapc.proxy.base import normalize
from tapc.quantize import uniform_bits
from tapc.search.configuration import ConfigurationFigures, bops
from tapc.search.measurements import Measurements
from tapc.search.networks import SearchNetwork
from tapc.search.options import SearchOptions

_SOLVER = threading.Lock()  # HiGHS keeps global state

ATTEMPTS = 4
"""How often bits are chosen again because the measurement missed a budget that the prediction met."""


@dataclass(frozen=True)
class NetworkFitness:
    """A proxy on one network.

    Attributes
    ----------
    network : str
    rho : float
        Spearman correlation between scores and measured single-layer errors; 0 where the scores are constant.
    weights : tuple of int
        Weight bits per layer, in execution order.
    activations : tuple of int
        Bits per activation group.
    accuracy : float
        Top-1 on the hold-out, 0..1.
    cost : float
        Measured quantity over its budget; 0 where nothing is measured.
    figures : dict
        What was measured: see `ConfigurationFigures`.
    """

    network: str
    rho: float
    weights: tuple[int, ...]
    activations: tuple[int, ...]
    accuracy: float
    cost: float
    figures: dict[str, Any]


@dataclass(frozen=True)
class Fitness:
    """Eq. 6 over the search networks.

    Attributes
    ----------
    phi : float
        alpha * rho + (1 - alpha) * accuracy - beta * cost, of the means below.
    rho, accuracy, cost : float
        Means over the networks.
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
            NetworkFitness(**(n | {"weights": tuple(n["weights"]), "activations": tuple(n["activations"])}))
            for n in values["networks"]
        )
        return Fitness(values["phi"], values["rho"], values["accuracy"], values["cost"], networks)


def rho(scores: Sequence[float], errors: Sequence[float]) -> float:
    """Return Spearman's correlation; 0 where one side is constant, which ranks nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(spearmanr(scores, errors).statistic) if len(scores) > 1 else 0.0
    return value if math.isfinite(value) else 0.0


def rank_correlation(network: SearchNetwork, scores: Mapping[str, float]) -> float:
    """Return the correlation of scores with the network's measured single-layer errors."""
    names = network.layer_names
    return rho([scores[name] for name in names], [network.errors[name] for name in names])


class Judge:
    """Computes fitness; one for a whole search.

    Parameters
    ----------
    networks : sequence of SearchNetwork
    options : SearchOptions
    measurements : Measurements
    """

    def __init__(self, networks: Sequence[SearchNetwork], options: SearchOptions, measurements: Measurements) -> None:
        self.networks = tuple(networks)
        self.options = options
        self._measurements = measurements

    def reference(self, network: SearchNetwork) -> ConfigurationFigures:
        """Return the figures of the network at the most bits on offer: the scale of costs without a budget."""
        options = self.options
        return self._measurements.measure(
            network.subject, uniform_bits(network.subject.network, max(options.wbits), max(options.abits))
        )

    def judge(
        self, scores: Sequence[Mapping[str, float]], own_bits: Sequence[Mapping[str, int]] | None = None
    ) -> Fitness:
        """Choose bits by scores, measure them, and return the fitness.

        Parameters
        ----------
        scores : sequence of mapping
            Per network: layer -> predicted error.
        own_bits : sequence of mapping, optional
            Per network: weight bits that the proxy chose itself.

        Raises
        ------
        BudgetError
            No bits, or not those that the proxy chose, keep the budgets as measured.
        """
        results = []
        for i, network in enumerate(self.networks):
            normalized = normalize("candidate", scores[i], network.subject.network)
            allocation, figures = self.allocate(network, normalized, None if own_bits is None else own_bits[i])
            bits = allocation.bits
            results.append(
                NetworkFitness(
                    network=network.name,
                    rho=rank_correlation(network, scores[i]),
                    weights=tuple(bits.weights[name] for name in network.layer_names),
                    activations=tuple(bits.activations[g] for g in range(len(network.subject.network.groups))),
                    accuracy=figures.accuracy,
                    cost=self.cost(network, bits, figures),
                    figures=figures.to_dict() | {"bops": bops(network.subject, bits)},
                )
            )
        return self._combine(tuple(results))

    def _combine(self, results: tuple[NetworkFitness, ...]) -> Fitness:
        count, options = len(results), self.options
        mean_rho = math.fsum(r.rho for r in results) / count
        accuracy = math.fsum(r.accuracy for r in results) / count
        cost = math.fsum(r.cost for r in results) / count
        phi = options.alpha * mean_rho + (1 - options.alpha) * accuracy - options.beta * cost
        return Fitness(phi, mean_rho, accuracy, cost, results)

    def allocate(
        self, network: SearchNetwork, scores: Mapping[str, float], own_bits: Mapping[str, int] | None
    ) -> tuple[Allocation, ConfigurationFigures]:
        """Choose bits that keep the budgets as measured, and return them with their figures.

        Raises
        ------
        BudgetError
        """
        problem = with_scores(network.problem, scores)
        if own_bits is not None:
            problem = _fixed(problem, own_bits)
        refused: BudgetError | None = None
        for _ in range(ATTEMPTS if own_bits is None else 1):
            try:
                with _SOLVER:
                    allocation = solve(problem)
                figures = self._measurements.measure(network.subject, allocation.bits)
            except AllocationError as error:
                raise refused or error from error
            excess = self._excess(figures, network.problem)
            if not excess:
                return allocation, figures
            what = ", ".join(f"{value:g} too much {name}" for name, value in excess.items())
            refused = BudgetError(f"{network.name}: the bits that fit by prediction need {what} as measured")
            limits = {
                name: type(value)(allocation.used[name].used - value)
                for name, value in excess.items()
            }  # fmt: skip
            problem = replace(problem, budgets=replace(problem.budgets, **limits))
        assert refused is not None
        raise refused

    def _excess(self, figures: ConfigurationFigures, problem: AllocationProblem) -> dict[str, int]:
        device, budgets = figures.device, problem.budgets
        if device is None:
            return {}
        pairs = {
            "flash": (device.flash, budgets.flash),
            "ram": (device.ram, budgets.ram),
            "latency": (device.instructions, budgets.latency),
        }
        return {
            name: math.ceil(used - limit) for name, (used, limit) in pairs.items() if limit is not None and used > limit
        }

    def cost(self, network: SearchNetwork, bits: Bits, figures: ConfigurationFigures) -> float:
        """Return the measured quantity that beta weighs over its budget, or over that of the most bits on offer."""
        options = self.options
        if figures.device is None:
            return 0.0
        reference = self.reference(network).device
        assert reference is not None
        if options.cost == "bops":
            most = uniform_bits(network.subject.network, max(options.wbits), max(options.abits))
            return bops(network.subject, bits) / (options.bops or bops(network.subject, most))
        budget = {
            "instructions": options.latency, "cycles": None, "flash": options.flash, "ram": options.ram
        }[options.cost]  # fmt: skip
        value, whole = getattr(figures.device, options.cost), getattr(reference, options.cost)
        if value is None or whole is None:
            raise BudgetError(f"--cost {options.cost}: nothing on this machine estimates cycles; see tapc doctor")
        return float(value / (budget or whole))


def _fixed(problem: AllocationProblem, weights: Mapping[str, int]) -> AllocationProblem:
    """Leave each layer only the choices with its given weight bits."""
    assert set(weights.values()) <= set(WEIGHT_BITS)
    layers = tuple(
        replace(
            layer,
            choices=tuple(c for c in layer.choices if c.w_bits == weights[layer.name]),
            fixed_by="the proxy's allocate",
        )
        for layer in problem.layers
    )
    return replace(problem, layers=layers)
