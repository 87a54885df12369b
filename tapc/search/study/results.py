"""What a study keeps of each search: the figures that its tables are made of, from the search's own log."""

import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tapc.search.report import Summary, summarize

FITNESS = "fitness"
UNSEEN = "unseen"
LATER = "later"
MARGIN = "over built-ins"
BROKEN = "not executable"


@dataclass(frozen=True)
class Result:
    """A search that has ended.

    Attributes
    ----------
    key : str
        Of its cell.
    problem : str
        Why it has no winner; empty where it has one.
    figures : dict of str to float
        ``fitness`` and its parts, of the winner; ``over built-ins``: its fitness less that of the best built-in proxy;
        ``later``: mean fitness of the candidates behind the initial generation; ``unseen``: mean of the winner's
        fitness on networks that had no say; ``not executable``: share of the candidates.
    networks : dict of str to float
        The winner's accuracy on each network, searched or not.
    curve : tuple of float
        The best fitness so far, by generation.
    broken : dict of str to float
        Range of candidates -> share that did not execute (Table 12).
    winner : dict
        Key, name and code; empty without one.
    digest : str
        Of the search's log.
    """

    key: str
    problem: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    networks: dict[str, float] = field(default_factory=dict)
    curve: tuple[float, ...] = ()
    broken: dict[str, float] = field(default_factory=dict)
    winner: dict[str, str] = field(default_factory=dict)
    digest: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Result":
        """Return the result that `to_dict` gave."""
        return Result(**(values | {"curve": tuple(values["curve"])}))


def result_of(key: str, folder: Path, problem: str = "") -> Result:
    """Read a search's log.

    Parameters
    ----------
    key : str
    folder : Path
        Of the run.
    problem : str
        Why it found nothing.

    Raises
    ------
    DataError
        The folder holds no usable log.
    """
    summary = summarize(folder)
    broken = {name: share for name, share, _ in summary.broken_shares}
    count = len(summary.candidates)
    figures = {BROKEN: sum(not line.executable for line in summary.candidates) / count} if count else {}
    winner = summary.winner
    if problem or winner is None or winner.fitness is None:
        return Result(key, problem or "no candidate had a fitness", figures, broken=broken, digest=summary.digest)
    own = {name: float(value) for name, value in winner.fitness.items() if _number(value)}
    figures = {FITNESS: own.pop("phi"), **own, **figures}
    if summary.rival is not None:
        figures[MARGIN] = figures[FITNESS] - float(summary.rival[1]["phi"])
    later = [line.phi for line in summary.candidates if line.phi is not None and line.generation > 0]
    if later:
        figures[LATER] = statistics.fmean(later)
    elsewhere = _elsewhere(summary, winner.key)
    if elsewhere:
        figures[UNSEEN] = statistics.fmean(float(f["phi"]) for f in elsewhere.values())
    networks = {str(n["network"]): float(n["accuracy"]) for n in winner.fitness["networks"]}
    networks |= {name: float(f["accuracy"]) for name, f in elsewhere.items()}
    curve = tuple(best for _, best, _ in summary.best_and_median)
    about = {"key": winner.key, "name": winner.name, "code": winner.code}
    return Result(key, "", figures, networks, curve, broken, about, summary.digest)


def _elsewhere(summary: Summary, winner: str) -> dict[str, dict[str, Any]]:
    held = summary.start["held_out"]
    had_a_say = None if held is None else held["name"]
    return {name: f for name, f in summary.elsewhere.get(winner, {}).items() if name != had_a_say}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
