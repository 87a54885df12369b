"""The figures of a search's report, from its event log alone: a run that is not finished has them as well."""

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapc.base.errors import DataError
from tapc.flow.losses.ranking import REFERENCES, spearman
from tapc.search.fitness import VERSION
from tapc.search.log import NAME, read_events

_UNREADY: dict[str, Any] = {"generator": "", "prompts": {}, "networks": [], "held_out": None, "unseen": []}

LEAST_AGREEING = 4
"""Candidates, below which a correlation says nothing."""

SHARE_OF = 10
"""Candidates per group of Table 12 (arXiv 2512.07419)."""


@dataclass(frozen=True)
class Line:
    """A candidate in the report.

    Attributes
    ----------
    key, name, operator, reasoning, code, generator : str
    parents : tuple of str
    status : str
        "ok", "invalid", "duplicate", or "unfinished".
    kind, why : str
        What was wrong with it; whose twin it is.
    fitness : dict or None
        As in the log.
    usage : dict
        Requests, tokens and dollars.
    """

    key: str
    name: str
    operator: str
    parents: tuple[str, ...]
    reasoning: str
    code: str
    generator: str
    status: str
    kind: str
    why: str
    fitness: dict[str, Any] | None
    usage: dict[str, Any]

    @property
    def phi(self) -> float | None:
        """Its fitness."""
        return None if self.fitness is None else float(self.fitness["phi"])

    @property
    def generation(self) -> int:
        """The generation that it was born in."""
        return int(self.key[1 : self.key.index("s")])

    @property
    def executable(self) -> bool:
        """Whether its code ran and kept the contract (Table 12)."""
        return self.status in ("ok", "duplicate") or self.kind == "budget"


@dataclass(frozen=True)
class Summary:
    """Everything that the report shows.

    Attributes
    ----------
    start : dict
        Request, generator, versions.
    finished : bool
    candidates : tuple of Line
        In the order of birth.
    baselines : dict of str to dict or None
        Built-in proxy -> fitness.
    probabilities : tuple of dict
        Per generation: operator -> probability.
    elsewhere : dict of str to dict of str to dict
        Candidate's key, or "built-in NAME" -> network that was not searched -> fitness there.
    winner : Line or None
        Of a finished run the one that the held-out network chose; else the fittest so far, the newest among equals.
    digest : str
    """

    start: dict[str, Any]
    finished: bool
    candidates: tuple[Line, ...]
    baselines: dict[str, dict[str, Any] | None]
    probabilities: tuple[dict[str, float], ...]
    elsewhere: dict[str, dict[str, dict[str, Any]]]
    winner: Line | None
    digest: str

    @property
    def by_generation(self) -> list[tuple[int, list[float]]]:
        """Return (generation, fitness of its candidates) where there is any."""
        found: dict[int, list[float]] = {}
        for line in self.candidates:
            if line.phi is not None:
                found.setdefault(line.generation, []).append(line.phi)
        return sorted(found.items())

    @property
    def best_and_median(self) -> list[tuple[int, float, float]]:
        """Return (generation, best fitness so far, median of the generation)."""
        result, best = [], float("-inf")
        for generation, values in self.by_generation:
            best = max(best, *values)
            result.append((generation, best, statistics.median(values)))
        return result

    @property
    def broken_shares(self) -> list[tuple[str, float, dict[str, int]]]:
        """Return (which candidates, share that did not execute, kinds of failure) per ten candidates (Table 12)."""
        result = []
        for first in range(0, len(self.candidates), SHARE_OF):
            group = self.candidates[first : first + SHARE_OF]
            broken = [line for line in group if not line.executable]
            label = f"{first + 1}-{first + len(group)}"
            result.append((label, len(broken) / len(group), dict(Counter(line.kind for line in broken))))
        return result

    @property
    def usage(self) -> dict[str, Any]:
        """Return the sums of requests, tokens and known dollars."""
        names = ("requests", "prompt_tokens", "completion_tokens")
        sums: dict[str, Any] = {name: sum(line.usage.get(name, 0) for line in self.candidates) for name in names}
        costs = [line.usage["cost_usd"] for line in self.candidates if line.usage.get("cost_usd") is not None]
        return sums | {"cost_usd": sum(costs) if costs else None}

    @property
    def networks_of_winner(self) -> list[tuple[dict[str, Any], str]]:
        """Return the winner's figures on each network, with what the network was to the search."""
        if self.winner is None or self.winner.fitness is None:
            return []
        held = self.start["held_out"]
        roles = {name: "held out" if held is not None and held["name"] == name else "unseen"
                 for name in self.elsewhere.get(self.winner.key, {})}  # fmt: skip
        others = [(self.elsewhere[self.winner.key][name]["networks"][0], role) for name, role in roles.items()]
        return [(n, "searched") for n in self.winner.fitness["networks"]] + sorted(others, key=lambda pair: pair[1])

    @property
    def agreement(self) -> tuple[int, float] | None:
        """Return how many candidates were judged elsewhere, and how their fitness agrees with their mean rho there.

        Spearman's correlation; None for fewer than four.
        """
        pairs = [
            (line.phi, statistics.fmean(f["rho"] for f in others.values()))
            for line in self.candidates
            if line.phi is not None and (others := self.elsewhere.get(line.key))
        ]
        if len(pairs) < LEAST_AGREEING:
            return None
        phi, elsewhere = np.array(pairs).T
        return len(pairs), spearman(phi, elsewhere)

    @property
    def rival(self) -> tuple[str, dict[str, Any]] | None:
        """Return the fittest built-in proxy; the measurement itself is none."""
        rivals = [(name, f) for name, f in self.baselines.items() if f is not None and name not in REFERENCES]
        return max(rivals, key=lambda pair: pair[1]["phi"], default=None)

    @property
    def ranking(self) -> list[tuple[str, dict[str, Any] | None, str]]:
        """Return the winner and the built-in proxies by fitness: name, fitness, and "winner", "oracle" or nothing."""
        rows: list[tuple[str, dict[str, Any] | None, str]] = [
            (name, fitness, "oracle" if name in REFERENCES else "") for name, fitness in self.baselines.items()
        ]
        if self.winner is not None:
            rows.insert(0, (f"{self.winner.key} {self.winner.name}", self.winner.fitness, "winner"))
        return sorted(rows, key=lambda row: -(row[1]["phi"] if row[1] is not None else -math.inf))

    @property
    def verdict(self) -> str:
        """Say in words how the winner stands beside the built-in proxies."""
        if self.winner is None or self.winner.phi is None or self.rival is None:
            return ""
        name, fitness = self.rival
        if self.winner.phi > fitness["phi"]:
            return f"The winner is fitter than every built-in proxy where it was searched; the best of them is {name}."
        return (
            f"The winner is not better than the built-in proxy {name} ({fitness['phi']:.4f}): use that one "
            f"(--proxy {name}), or search longer."
        )

    @property
    def lineage(self) -> list[Line]:
        """Return the winner and its ancestors, the winner first, each once."""
        by_key = {line.key: line for line in self.candidates}
        result: list[Line] = []
        waiting = [] if self.winner is None else [self.winner.key]
        while waiting:
            line = by_key[waiting.pop(0)]
            if line not in result:
                result.append(line)
                waiting += [key for key in line.parents if key in by_key]
        return result


def summarize(folder: Path) -> Summary:
    """Read a run's log and return its figures.

    Raises
    ------
    DataError
        There is no log, or nothing in it.
    """
    events, _ = read_events(folder / NAME)
    if not events:
        raise DataError(f"{folder / NAME}: the log is empty")
    check_version(events[0].data, folder)
    by_kind: dict[str, dict[str, Any]] = {}
    for event in events:
        by_kind.setdefault(event.kind, {})[event.key] = event.data
    lines = _lines(by_kind)
    judged = [(line, i) for i, line in enumerate(lines) if line.phi is not None]
    winner = max(judged, key=lambda pair: (pair[0].phi, pair[1]))[0] if judged else None
    if (end := by_kind.get("end", {}).get("")) is not None:
        winner = next((line for line in lines if line.key == end["winner"]), winner)
    return Summary(
        start=_UNREADY | by_kind["start"][""] | by_kind.get("ready", {}).get("", {}),
        finished="end" in by_kind,
        candidates=tuple(lines),
        baselines={name: data["fitness"] for name, data in by_kind.get("baseline", {}).items()},
        probabilities=tuple(data["probabilities"] for data in by_kind.get("generation", {}).values()),
        elsewhere={key: data["networks"] for key, data in by_kind.get("elsewhere", {}).items()},
        winner=winner,
        digest=events[-1].digest,
    )


def check_version(start: Any, folder: Path) -> None:
    """Refuse a log whose fitness meant something else.

    Raises
    ------
    DataError
    """
    if not isinstance(start, dict) or start.get("fitness") != VERSION:
        raise DataError(
            f"{folder}: this search is of an older tapc, whose fitness ranked layers and not configurations; its "
            "proxy.toml and report.html stay good, and a new search needs another -o"
        )


def _lines(by_kind: dict[str, dict[str, Any]]) -> list[Line]:
    lines = []
    for key, data in by_kind.get("candidate", {}).items():
        scored = by_kind.get("scored", {}).get(key)
        judged = by_kind.get("judged", {}).get(key)
        status, kind, why = "unfinished", "", ""
        if not data["code"]:
            status, kind, why = "invalid", "draft", data["problem"]
        elif scored is not None:
            status, kind, why = scored["status"], scored["kind"], scored["message"]
            if judged is not None and judged["fitness"] is None:
                status, kind, why = "invalid", judged["kind"], judged["message"]
        lines.append(
            Line(
                key=key, name=data["name"] or key, operator=data["operator"], parents=tuple(data["parents"]),
                reasoning=data["reasoning"], code=data["code"], generator=data["generator"], status=status, kind=kind,
                why=why, fitness=None if judged is None else judged["fitness"], usage=data["usage"] or {},
            )
        )  # fmt: skip
    return lines
