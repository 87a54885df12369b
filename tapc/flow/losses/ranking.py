"""Predicted and measured losses of configurations: ranks within a size, and what the bits lose that are led to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from tapc.base.errors import DataError, UsageError
from tapc.flow.losses.draw import BUDGETS, SIZES, TOLERANCE
from tapc.flow.losses.facts import LayerFacts, StatisticsRow
from tapc.flow.losses.table import LossRow, LossTable, RoundingName
from tapc.graph.network import WEIGHT_BITS
from tapc.proxy import FOUND, get_proxy

Doubles = NDArray[np.float64]

RankName = Literal["spearman", "kendall"]

MEASURED = "(layers alone)"
"""Reference that is no proxy: the measured losses of the layers, each alone, added."""

REFERENCES = ("error", MEASURED)
"""Measurements of each layer alone, in place of a prediction: no rivals."""

LEAST = 5
"""Configurations of a group, below which ranks mean nothing."""

_SLACK = 1e-5  # averages are kept with six digits


class HasBits(Protocol):
    """A configuration: a digit per layer, and one per activation group."""

    @property
    def weights(self) -> str: ...  # noqa: D102
    @property
    def activations(self) -> str: ...  # noqa: D102


class HasScores(Protocol):
    """A table, old or new, as far as proxies are concerned."""

    @property
    def network(self) -> str: ...  # noqa: D102
    @property
    def statistics(self) -> Sequence[StatisticsRow] | None: ...  # noqa: D102
    @property
    def scores(self) -> Mapping[str, Sequence[float]]: ...  # noqa: D102


@dataclass(frozen=True)
class Regret:
    """What the bits lose that a proxy leads to.

    Attributes
    ----------
    budget : float
        Average weight bits.
    key : str
        The configuration that the proxy predicts to lose least, of those measured with 4-bit activations that fit. That
        is the allocator's choice for built-in proxies; for others, where their choice was measured.
    loss : float
        Measured.
    best : float
        The least loss that was measured of those that fit.
    """

    budget: float
    key: str
    loss: float
    best: float


def predicted_loss(layers: Sequence[LayerFacts], scores: Sequence[float], rows: Sequence[HasBits]) -> Doubles:
    """Return Eq. 3 of arXiv 2512.07419: the sum over layers of score x distortion / distortion at 2 bits.

    Parameters
    ----------
    layers : sequence of LayerFacts
    scores : sequence of float
        One per layer.
    rows : sequence of HasBits

    Returns
    -------
    float64 (rows,)

    Raises
    ------
    DataError
        Another number of scores than layers, or one that is negative or not finite.
    """
    if len(scores) != len(layers):
        raise DataError(f"{len(scores)} scores for {len(layers)} layers; a proxy gives every layer one")
    for layer, score in zip(layers, scores, strict=True):
        if not math.isfinite(score) or score < 0:
            raise DataError(f"layer {layer.name!r} has the score {score}; it must be finite and not negative")
    total = np.zeros(len(rows))
    for i, (layer, score) in enumerate(zip(layers, scores, strict=True)):
        lowest = layer.distortion["w2a8"]
        if lowest > 0:  # else the layer is dead, and no bits change anything
            pairs = [f"w{row.weights[i]}a{row.activations[layer.input_group]}" for row in rows]
            total += score / lowest * np.array([layer.distortion[pair] for pair in pairs])
    return total


def builtin_scores(tables: Sequence[HasScores]) -> dict[str, dict[str, Sequence[float]]]:
    """Return the shipped scores, proxy -> network -> per layer, of the proxies that all tables have."""
    shared = set.intersection(*(set(table.scores) for table in tables)) if tables else set()
    return {name: {table.network: table.scores[name] for table in tables} for name in sorted(shared)}


def found_scores(tables: Sequence[HasScores]) -> dict[str, dict[str, Sequence[float]]]:
    """Return proxy -> network -> scores of the proxies that a search found and that come with tapc.

    One that reads a column which some table lacks is left out.
    """
    rows = {table.network: [dict(row) for row in table.statistics or ()] for table in tables}
    return {
        name: {network: found.score_table(own) for network, own in rows.items()}
        for name, found in FOUND.items()
        if rows and all(own and found.knows(own) for own in rows.values())
    }


def program_scores(path: Path, tables: Sequence[HasScores]) -> dict[str, Sequence[float]]:
    """Score the tables' layers with a proxy program; returns network -> score per layer.

    Raises
    ------
    UsageError
        It is not a proxy program.
    DataError
        The program breaks the contract, or a table has no statistics.
    """
    # Only programs have it: the other proxies need the network.
    score_table = getattr(get_proxy(str(path)), "score_table", None)
    if score_table is None:
        raise UsageError(f"--proxy {path}: not a proxy program; built-in proxies are compared anyway")
    result: dict[str, Sequence[float]] = {}
    for table in tables:
        if table.statistics is None:
            raise DataError(
                f"the table of {table.network} has no statistics; add them with examples/make_tapc_bench.py "
                f"{table.network} --refresh-layers"
            )
        result[table.network] = score_table([dict(row) for row in table.statistics])
    return result


def steady(predicted: Doubles) -> Doubles:
    """Return predictions in units of the largest one, rounded.

    Sums of the same terms in another order differ in their last digits, which must not rank them.
    """
    result: Doubles = (predicted / (float(predicted.max()) or 1.0)).round(10)
    return result


def groups_of(table: LossTable) -> list[NDArray[np.intp]]:
    """Return the rows of one size and one kind of activations (8 bits, 4 wherever possible, a mixture), by index."""
    found: dict[tuple[float, str], list[int]] = {}
    for i, row in enumerate(table.rows):
        for size in SIZES:
            if size * (1 - TOLERANCE) - _SLACK <= row.average_bits <= size + _SLACK:
                found.setdefault((size, _activations(table, row)), []).append(i)
    return [np.array(rows) for _, rows in sorted(found.items()) if len(rows) >= LEAST]


def _activations(table: LossTable, row: LossRow) -> str:
    free = {bits for i, bits in enumerate(row.activations) if i not in table.interface}
    return "mixed" if len(free) > 1 else "".join(free)


def narrow_activations(table: LossTable) -> str:
    """Return the digits of 4-bit activations wherever they are possible."""
    return "".join("8" if i in table.interface else "4" for i in range(len(table.rows[0].activations)))


def alone_loss(table: LossTable, rounding: RoundingName) -> Doubles:
    """Return the sum of the layers' measured losses at each row's bits, as `tapc compile --proxy error` adds them.

    What 4-bit activations add is known relative to the loss at the lowest weight bits.
    """
    total = np.zeros(len(table.rows))
    for i, (layer, losses) in enumerate(zip(table.layers, table.alone[rounding], strict=True)):
        own = dict(zip(map(str, WEIGHT_BITS), losses, strict=True))
        d, lowest = layer.distortion, layer.distortion["w2a8"]
        extra = {w: max(0.0, d[f"w{w}a4"] - d[f"w{w}a8"]) / lowest * losses[0] if lowest > 0 else 0.0 for w in own}
        narrow = [row.activations[layer.input_group] == "4" for row in table.rows]
        total += [own[row.weights[i]] + extra[row.weights[i]] * n for row, n in zip(table.rows, narrow, strict=True)]
    return total


def regrets(table: LossTable, predicted: Doubles, measured: Doubles) -> tuple[Regret, ...]:
    """Return what the proxy's bits lose at each budget that some configuration with 4-bit activations fits."""
    result = []
    narrow = narrow_activations(table)
    for budget in BUDGETS:
        fitting = [
            i for i, row in enumerate(table.rows) if row.activations == narrow and row.average_bits <= budget + _SLACK
        ]
        if fitting:
            pick = min(fitting, key=lambda i: float(predicted[i]))
            best = min(float(measured[i]) for i in fitting)
            result.append(Regret(budget, table.rows[pick].key, float(measured[pick]), best))
    return tuple(result)


def spearman(x: Doubles, y: Doubles) -> float:
    """Return Spearman's correlation; 0 where a side is constant and so ranks nothing."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(spearmanr(x, y).statistic)


def kendall(x: Doubles, y: Doubles) -> float:
    """Return Kendall's tau-b; 0 where a side is constant and so ranks nothing."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(kendalltau(x, y).statistic)


class Ranking:
    """A table's configurations, ready to be compared with the predictions of many proxies.

    Parameters
    ----------
    table : LossTable
    rounding : {"nearest", "gptq"}
        Whose losses are compared.

    Attributes
    ----------
    table : LossTable
    measured : float64 (rows,)
    groups : list of arrays
        See `groups_of`.

    Raises
    ------
    DataError
        No configurations have one size.
    """

    def __init__(self, table: LossTable, rounding: RoundingName) -> None:
        self.table = table
        self.rounding: RoundingName = rounding
        self.measured: Doubles = np.array([row.by(rounding).loss for row in table.rows])
        self.groups = groups_of(table)
        if not self.groups:
            raise DataError(f"{table.network}: no {LEAST} configurations have one size; measure more of them")
        if not self.regrets(self.measured):
            raise DataError(f"{table.network}: no configuration has 4-bit activations and at most {BUDGETS[-1]:g} bits")

    def predicted(self, scores: Sequence[float]) -> Doubles:
        """Return the losses (rows,) that scores predict, in units of the largest; see `predicted_loss`."""
        return steady(predicted_loss(self.table.layers, scores, self.table.rows))

    def alone(self) -> Doubles:
        """Return what the measured losses of the layers, each alone, predict."""
        return steady(alone_loss(self.table, self.rounding))

    def correlation(self, predicted: Doubles, rank: RankName) -> float:
        """Return the rank correlation with the measured losses within a group, mean of the groups (Eq. 3)."""
        of = spearman if rank == "spearman" else kendall
        return float(np.mean([of(predicted[group], self.measured[group]) for group in self.groups]))

    def regrets(self, predicted: Doubles) -> tuple[Regret, ...]:
        """Return what the bits lose at each budget; see `regrets`."""
        return regrets(self.table, predicted, self.measured)
