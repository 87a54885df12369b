"""The learned choice among the three operators (arXiv 2512.07419, Sec. 3.2, Eq. 7-8), and ablations of it.

States are immutable: `update` returns the next one.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

from tapc.base.errors import UsageError

Operator = Literal["initialization", "mutation", "crossover"]
OPERATORS: tuple[Operator, ...] = ("initialization", "mutation", "crossover")
Results = Mapping[Operator, Sequence[float | None]]
"""Operator -> fitness of each of its candidates of one generation; None where a candidate was invalid.

A fitness that is not finite counts as None.
"""

FLOOR = 0.05
"""p_min: no operator's probability falls below it."""


class Controller(Protocol):
    """Chooses operators."""

    def probabilities(self) -> dict[Operator, float]:
        """Return each operator's probability; they add up to 1."""

    def update(self, results: Results, population: Sequence[float | None] = ()) -> "Controller":
        """Return the controller after a generation with these results; the population is what it came from."""

    def state(self) -> dict[str, Any]:
        """Return what `update` changes as JSON values; `controller` takes them back."""


def floored(shares: Sequence[float], floor: float = FLOOR) -> dict[Operator, float]:
    """Return shares as probabilities, none below the floor.

    Shares below the floor get the floor; the others divide what is left in proportion, which may push one of them
    below it in turn. Where none is below, nothing changes.

    Parameters
    ----------
    shares : sequence of float
        One per operator, finite, >= 0, not all 0.
    floor : float
        At most 1 / 3.
    """
    total = math.fsum(shares)
    p = [share / total for share in shares]
    low: set[int] = set()
    while True:
        rest = 1.0 - floor * len(low)
        above = math.fsum(p[i] for i in range(len(p)) if i not in low)
        scaled = [floor if i in low else (p[i] * rest / above if low else p[i]) for i in range(len(p))]
        fallen = {i for i in range(len(p)) if i not in low and scaled[i] < floor}
        if not fallen:
            return dict(zip(OPERATORS, scaled, strict=True))
        low |= fallen


@dataclass(frozen=True)
class Eq7:
    """Eq. 7-8 as printed: w <- w * (F / mu)^eta, p = w / sum of w, and the floor.

    F is the mean fitness of an operator's candidates of the generation, an invalid one counted 0 (a negative F counts
    as 0 too); mu is the mean of F over the operators that were drawn. An operator that was not drawn keeps its weight.
    Where mu is 0 nothing changes.

    The paper's factor alpha is left out: where all three operators are drawn it cancels in Eq. 8, and elsewhere it
    would move drawn operators against those that keep their weight. The weights are kept normalized, as Eq. 8
    prints; since Eq. 7 is a product, that changes no later p. They are kept with the floor, which does: an operator
    whose only candidate failed (F = 0) would otherwise have weight 0 for ever. As long as no operator has been below
    the floor, p is exactly Eq. 7-8.

    Attributes
    ----------
    weights : tuple of float
        The probabilities, in the order of `OPERATORS`.
    eta : float
        1 is the paper's update.
    floor : float
    """

    weights: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)
    eta: float = 1.0
    floor: float = FLOOR

    def probabilities(self) -> dict[Operator, float]:
        """Return Eq. 8, with the floor."""
        return dict(zip(OPERATORS, self.weights, strict=True))

    def merits(self, results: Results, population: Sequence[float | None]) -> dict[Operator, float]:
        """Return F of every operator that was drawn."""
        return {o: _mean(results[o]) for o in OPERATORS if results.get(o)}

    def update(self, results: Results, population: Sequence[float | None] = ()) -> Self:
        """Return the controller after Eq. 7."""
        means = self.merits(results, population)
        mu = math.fsum(means.values()) / len(means) if means else 0.0
        if mu <= 0:
            return self
        weights = [
            w * (means[o] / mu) ** self.eta if o in means else w for w, o in zip(self.weights, OPERATORS, strict=True)
        ]
        if not any(weights):  # only with floor = 0: operators of weight 0 alone succeeded
            return self
        return replace(self, weights=tuple(floored(weights, self.floor).values()))

    def state(self) -> dict[str, Any]:
        """Return the weights."""
        return {"weights": list(self.weights)}


@dataclass(frozen=True)
class Tap(Eq7):
    """Eq. 7-8 with F relative to the population, so that what all fitnesses have in common does not hide differences.

    A candidate counts the share of its rivals that it beats, a tie half: the other candidates of its generation and
    the population before it. An invalid one counts 0. So F depends on the order of the fitnesses alone, and nothing
    changes where the same is added to all of them.

    F is the mean over an operator's candidates and one more that is as good as the average of the generation: a
    single bad draw says little of an operator.
    """

    def merits(self, results: Results, population: Sequence[float | None]) -> dict[Operator, float]:
        """Return F of every operator that was drawn."""
        drawn = {o: [_valid(f) for f in results[o]] for o in OPERATORS if results.get(o)}
        before = [f for f in map(_valid, population) if f is not None]
        rivals = [f for values in drawn.values() for f in values] + before
        shares = {o: [_share(f, rivals) for f in values] for o, values in drawn.items()}
        everyone = [share for values in shares.values() for share in values]
        average = math.fsum(everyone) / max(1, len(everyone))
        return {o: (math.fsum(values) + average) / (len(values) + 1) for o, values in shares.items()}


@dataclass(frozen=True)
class Dpo:
    """Preference learning as the name says (arXiv 2305.18290, Eq. 7, over operators instead of texts).

    Every pair of candidates of a generation with different operators and different fitness is a preference of the one
    operator over the other. The loss is the mean over the pairs of -log sigmoid(beta * (theta_w - theta_l)): the
    normalization of p = softmax(theta) cancels in the difference, and so does the uniform reference policy.

    Attributes
    ----------
    theta : tuple of float
    beta : float
        Inverse temperature, > 0.
    rate : float
        Length of a step of the gradient descent over 2 / beta^2. No curvature of the loss exceeds beta^2 / 2
        (sigmoid' <= 1/4, |e_w - e_l|^2 = 2), so that every step with a rate in (0, 1] lowers it.
    steps : int
        Steps per generation.
    floor : float
    """

    theta: tuple[float, ...] = (0.0, 0.0, 0.0)
    beta: float = 1.0
    rate: float = 0.1
    steps: int = 10
    floor: float = FLOOR

    def probabilities(self) -> dict[Operator, float]:
        """Return the softmax of theta, with the floor."""
        largest = max(self.theta)
        return floored([math.exp(t - largest) for t in self.theta], self.floor)

    def pairs(self, results: Results) -> list[tuple[int, int]]:
        """Return (preferred, other) indices into `OPERATORS`; an invalid candidate is worse than any valid one."""
        entries = [
            (i, -math.inf if valid is None else valid)
            for i, o in enumerate(OPERATORS)
            for valid in map(_valid, results.get(o, ()))
        ]
        return [
            (a, b) if fa > fb else (b, a)
            for (a, fa), (b, fb) in itertools.combinations(entries, 2)
            if a != b and fa != fb
        ]

    def loss(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Return the mean of -log sigmoid(beta * (theta_w - theta_l)); 0 without pairs."""
        margins = [self.beta * (self.theta[w] - self.theta[x]) for w, x in pairs]
        return math.fsum(math.log1p(math.exp(-abs(m))) + max(0.0, -m) for m in margins) / max(1, len(margins))

    def update(self, results: Results, population: Sequence[float | None] = ()) -> "Dpo":
        """Return the controller after gradient descent on the generation's pairs."""
        pairs = self.pairs(results)
        step = self.rate * 2 / self.beta**2
        current = self
        for _ in range(self.steps if pairs else 0):
            gradient = current.gradient(pairs)
            theta = tuple(t - step * g for t, g in zip(current.theta, gradient, strict=True))
            current = replace(current, theta=theta)
        return current

    def gradient(self, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Return the derivative of `loss` by theta."""
        gradient = [0.0] * len(OPERATORS)
        for w, x in pairs:
            margin = self.beta * (self.theta[w] - self.theta[x])
            slope = self.beta * (1.0 - math.tanh(margin / 2)) / 2 / len(pairs)  # 1 - sigmoid, without overflow
            gradient[w] -= slope
            gradient[x] += slope
        return gradient

    def state(self) -> dict[str, Any]:
        """Return theta."""
        return {"theta": list(self.theta)}


@dataclass(frozen=True)
class Ucb:
    """UCB1 (Auer, Cesa-Bianchi, Fischer 2002): the operator with the largest mean + sqrt(2 ln n / n_o).

    It expects fitness in [0, 1]; a negative one counts 0. The chosen operator, the first of equal ones, has all
    probability but the floors, for a whole generation. Operators without a candidate come first, equally likely.

    Attributes
    ----------
    sums, counts : tuple
        Of every operator's fitness so far; an invalid candidate counts 0.
    floor : float
    """

    sums: tuple[float, ...] = (0.0, 0.0, 0.0)
    counts: tuple[int, ...] = (0, 0, 0)
    floor: float = FLOOR

    def probabilities(self) -> dict[Operator, float]:
        """Return the floor for all but the chosen operator."""
        total = sum(self.counts)
        values = [
            math.inf if n == 0 else s / n + math.sqrt(2 * math.log(total) / n)
            for s, n in zip(self.sums, self.counts, strict=True)
        ]
        untried = [i for i, n in enumerate(self.counts) if n == 0]
        best = set(untried) or {values.index(max(values))}
        return floored([1.0 if i in best else 0.0 for i in range(len(values))], self.floor)

    def update(self, results: Results, population: Sequence[float | None] = ()) -> "Ucb":
        """Return the controller with a generation's results counted."""
        fresh = [[max(0.0, _valid(f) or 0.0) for f in results.get(o, ())] for o in OPERATORS]
        sums = tuple(s + math.fsum(f) for s, f in zip(self.sums, fresh, strict=True))
        return replace(self, sums=sums, counts=tuple(n + len(f) for n, f in zip(self.counts, fresh, strict=True)))

    def state(self) -> dict[str, Any]:
        """Return sums and counts."""
        return {"sums": list(self.sums), "counts": list(self.counts)}


@dataclass(frozen=True)
class Uniform:
    """Every operator is as likely as the others, for ever."""

    def probabilities(self) -> dict[Operator, float]:
        """Return a third each."""
        return {o: 1.0 / len(OPERATORS) for o in OPERATORS}

    def update(self, results: Results, population: Sequence[float | None] = ()) -> "Uniform":
        """Return itself."""
        return self

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


def _valid(fitness: float | None) -> float | None:
    return fitness if fitness is not None and math.isfinite(fitness) else None


def _share(fitness: float | None, rivals: Sequence[float | None]) -> float:
    """Return the share of rivals, of which a candidate is one itself, that it beats; ties count half."""
    if fitness is None:
        return 0.0
    worse = sum(rival is None or rival < fitness for rival in rivals)
    ties = sum(rival == fitness for rival in rivals) - 1  # without itself
    return (worse + ties / 2) / (len(rivals) - 1) if len(rivals) > 1 else 1.0


def _mean(fitness: Sequence[float | None]) -> float:
    """Return the mean, at least 0; an invalid candidate counts 0."""
    return max(0.0, math.fsum(_valid(f) or 0.0 for f in fitness) / len(fitness))


_KINDS: dict[str, Any] = {"tap": Tap, "eq7": Eq7, "dpo": Dpo, "ucb": Ucb, "uniform": Uniform}
CONTROLLERS: tuple[str, ...] = tuple(_KINDS)


def controller(name: str, state: Mapping[str, Any] | None = None) -> Controller:
    """Return a controller in its first state, or in one that `Controller.state` gave.

    Parameters
    ----------
    name : str
        One of `CONTROLLERS`.
    state : mapping, optional
        Its lists may come from JSON.

    Raises
    ------
    UsageError
        No controller of that name, or a state of another one.
    """
    if name not in _KINDS:
        raise UsageError(f"unknown controller {name!r}; choose one of {', '.join(CONTROLLERS)}")
    first: Controller = _KINDS[name]()
    given = first.state() if state is None else state
    if given.keys() != first.state().keys() or any(len(values) != len(OPERATORS) for values in given.values()):
        raise UsageError(f"this is no state of the controller {name!r}: {dict(given)}; start the search anew")
    restored: Controller = _KINDS[name](**{key: tuple(values) for key, values in given.items()})
    return restored
