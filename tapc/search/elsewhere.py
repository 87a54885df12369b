"""How proxies do on networks that were not searched: the one that is held out decides, the others only tell."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tapc.flow.losses.ranking import spearman
from tapc.proxy.contract import ContractError, scored
from tapc.proxy.sandbox import Sandbox
from tapc.search.candidate import Candidate
from tapc.search.fitness import Fitness, Judge
from tapc.search.log import EventLog
from tapc.search.networks import SearchNetwork
from tapc.search.options import SearchOptions
from tapc.search.report.summary import LEAST_AGREEING


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation, over a search's candidates, of their fitness with what they are elsewhere.

    Attributes
    ----------
    candidates : int
        With a fitness, and not doubles of others.
    rho, accuracy : float or None
        Of the fitness with the means of the other networks; None for fewer than four candidates.
    networks : dict of str to float
        With rho on each network.
    """

    candidates: int
    rho: float | None
    accuracy: float | None
    networks: dict[str, float] = field(default_factory=dict)


class Elsewhere:
    """Judges proxies on other networks than the search's, by the same fitness without a cost.

    Parameters
    ----------
    held_out : SearchNetwork or None
    unseen : sequence of SearchNetwork
    options : SearchOptions
    """

    def __init__(self, held_out: SearchNetwork | None, unseen: Sequence[SearchNetwork], options: SearchOptions) -> None:
        plain = {"beta": 0.0, "flash": None, "ram": None, "latency": None, "bops": None}
        self._options = options.model_copy(update=plain)
        self.held_out = held_out
        self.unseen = tuple(unseen)
        self._judges = [
            Judge([network], self._options) for network in (*([] if held_out is None else [held_out]), *unseen)
        ]

    def program(self, candidate: Candidate, sandbox: Sandbox, log: EventLog) -> dict[str, Fitness]:
        """Return a candidate's fitness by network; empty where it breaks the contract there."""
        return self._recorded(log, candidate.key, partial(self._scored, candidate, sandbox))

    def builtin(self, name: str, log: EventLog) -> dict[str, Fitness]:
        """Return a built-in proxy's fitness by network; empty where a table lacks it."""

        def make() -> dict[str, Any]:
            tables = [judge.networks[0].losses for judge in self._judges]
            if not all(name in table.scores for table in tables):
                return {"problem": "not in all tables", "networks": {}}
            return self._judged([table.scores[name] for table in tables])

        return self._recorded(log, f"built-in {name}", make)

    def _recorded(self, log: EventLog, key: str, make: Any) -> dict[str, Fitness]:
        if not self._judges:
            return {}
        data = log.record("elsewhere", key, make)
        return {name: Fitness.from_dict(values) for name, values in data["networks"].items()}

    def _scored(self, candidate: Candidate, sandbox: Sandbox) -> dict[str, Any]:
        assert candidate.program is not None
        tables = [judge.networks[0].table for judge in self._judges]
        try:
            return self._judged(scored(sandbox, candidate.program.code, tables, self._options.inputs))
        except ContractError as error:
            return {"problem": str(error)[:2000], "networks": {}}

    def _judged(self, scores: Sequence[Sequence[float]]) -> dict[str, Any]:
        pairs = zip(self._judges, scores, strict=True)
        return {
            "problem": "",
            "networks": {judge.networks[0].name: judge.judge([own]).to_dict() for judge, own in pairs},
        }

    def winner(self, finalists: Sequence[Candidate], found: Mapping[str, Mapping[str, Fitness]]) -> Candidate:
        """Return the finalist that is best on the network that is held out, the fittest first among equals."""
        name = None if self.held_out is None else self.held_out.name
        if name is None:
            return finalists[0]
        able = [candidate for candidate in finalists if name in found[candidate.key]]
        return max(able, key=lambda candidate: found[candidate.key][name].phi, default=finalists[0])

    def on_unseen(self, found: Mapping[str, Fitness]) -> Fitness | None:
        """Return the fitness over the networks that had no say in anything; None where there is none."""
        names = [network.name for network in self.unseen]
        if not names or not all(name in found for name in names):
            return None
        return Judge(self.unseen, self._options).combine([found[name].networks[0] for name in names])


def agreement(candidates: Sequence[Candidate], found: Mapping[str, Mapping[str, Fitness]]) -> Agreement | None:
    """Return how the fitness of candidates agrees with what they are elsewhere; None where nothing was judged."""
    known = [c for c in candidates if c.status == "ok" and c.fitness is not None and found.get(c.key)]
    if not known:
        return None
    if len(known) < LEAST_AGREEING:
        return Agreement(len(known), None, None)
    phi = np.array([c.fitness for c in known], float)

    def against(of: str, names: Sequence[str]) -> float:
        values = [[getattr(found[c.key][name], of) for name in names] for c in known]
        return spearman(phi, np.mean(values, axis=1))

    names = list(found[known[0].key])
    return Agreement(
        len(known), against("rho", names), against("accuracy", names), {n: against("rho", [n]) for n in names}
    )


def to_json(found: Mapping[str, Mapping[str, Fitness]]) -> dict[str, dict[str, Any]]:
    """Return what was found elsewhere as JSON values, by proxy and network."""
    return {key: {name: asdict(fitness) for name, fitness in own.items()} for key, own in found.items()}
