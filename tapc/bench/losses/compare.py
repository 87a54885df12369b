"""How well proxies rank configurations of equal size by loss, and what the bits lose that they lead to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from tapc.base.errors import DataError
from tapc.base.progress import Advance
from tapc.bench.losses.draw import BUDGETS, SIZES, TOLERANCE
from tapc.bench.losses.table import LossRow, LossTable, RoundingName
from tapc.bench.proxies import (
    RESAMPLES,
    Interval,
    interval,
    kendall_rows,
    predicted_loss,
    spearman,
    spearman_rows,
)
from tapc.graph.network import WEIGHT_BITS

Doubles = NDArray[np.float64]

BASELINES = ("uniform", "sqnr", "hawq_v2")
"""Proxies that the others are compared with."""

MEASURED = "(layers alone)"
"""Reference that is no proxy: the measured losses of the layers, each alone, added."""

_LEAST = 5  # configurations of a group, below which ranks mean nothing
_SLACK = 1e-5  # averages are kept with six digits


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


@dataclass(frozen=True)
class LossFigure:
    """How well one proxy predicts one network's losses.

    Attributes
    ----------
    network, proxy : str
    groups, configurations : int
        Groups of equal size and equal kind of activations, and configurations in them.
    spearman, kendall : Interval
        Rank correlation of predicted and measured loss within a group, mean of the groups, -1 to 1.
    over : dict of str to Interval
        Baseline -> this proxy's `spearman` less that of the baseline, over the same resamples.
    regrets : tuple of Regret
        By budget.
    """

    network: str
    proxy: str
    groups: int
    configurations: int
    spearman: Interval
    kendall: Interval
    over: dict[str, Interval]
    regrets: tuple[Regret, ...]

    @property
    def regret(self) -> float:
        """Mean over the budgets of the loss beyond the least that was measured."""
        return float(np.mean([item.loss - item.best for item in self.regrets]))


def groups_of(table: LossTable) -> list[NDArray[np.intp]]:
    """Return the rows of one size and one kind of activations (8 bits, 4 wherever possible, a mixture), by index."""
    found: dict[tuple[float, str], list[int]] = {}
    for i, row in enumerate(table.rows):
        for size in SIZES:
            if size * (1 - TOLERANCE) - _SLACK <= row.average_bits <= size + _SLACK:
                found.setdefault((size, _activations(table, row)), []).append(i)
    return [np.array(rows) for _, rows in sorted(found.items()) if len(rows) >= _LEAST]


def _activations(table: LossTable, row: LossRow) -> str:
    free = {bits for i, bits in enumerate(row.activations) if i not in table.interface}
    return "mixed" if len(free) > 1 else "".join(free)


def compare(
    tables: Sequence[LossTable],
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    seed: int,
    *,
    rounding: RoundingName = "gptq",
    resamples: int = RESAMPLES,
    advance: Advance = lambda done, total: None,
) -> list[LossFigure]:
    """Compare predicted with measured losses.

    Parameters
    ----------
    tables : sequence of LossTable
    scores : mapping of str to mapping of str to sequence of float
        Proxy -> network -> score per layer.
    seed : int
        Of the bootstrap over the configurations of each group. All proxies see the same resamples.
    rounding : {"nearest", "gptq"}
    resamples : int
    advance : callable
        Told (done, total) pairs of proxy and network.

    Returns
    -------
    list of LossFigure
        By network in the order of `tables`, the best Spearman first.

    Raises
    ------
    DataError
        Scores that are missing or make no sense, or no group that is large enough.
    """
    figures: list[LossFigure] = []
    done, total = 0, len(tables) * len(scores)
    advance(done, total)
    for table in tables:
        groups = groups_of(table)
        if not groups:
            raise DataError(f"{table.network}: no {_LEAST} configurations have one size; measure more of them")
        rng = np.random.default_rng(seed)
        picks = [rng.integers(0, len(group), (resamples, len(group))) for group in groups]
        measured = np.array([row.by(rounding).loss for row in table.rows])
        drawn: dict[str, Doubles] = {}
        values: dict[str, float] = {}
        own: dict[str, LossFigure] = {}
        predictions = {MEASURED: alone_loss(table, rounding)} if rounding in table.alone else {}
        for proxy, by_network in scores.items():
            if table.network not in by_network:
                raise DataError(f"proxy {proxy!r} has no scores for {table.network!r}")
            try:
                predictions[proxy] = predicted_loss(table.layers, by_network[table.network], table.rows)
            except DataError as error:
                raise DataError(f"proxy {proxy!r} on {table.network}: {error}") from None
        for proxy, predicted in predictions.items():
            # Sums of the same terms in another order differ in their last digits, which must not rank them.
            predicted = (predicted / (float(predicted.max()) or 1.0)).round(10)
            pairs = [(predicted[group], measured[group]) for group in groups]
            values[proxy] = float(np.mean([spearman(p, m) for p, m in pairs]))
            drawn[proxy] = np.mean(
                [spearman_rows(p[pick], m[pick]) for (p, m), pick in zip(pairs, picks, strict=True)], axis=0
            )
            tau = float(np.mean([_kendall(p, m) for p, m in pairs]))
            taus = np.mean([kendall_rows(p, m, pick) for (p, m), pick in zip(pairs, picks, strict=True)], axis=0)
            own[proxy] = LossFigure(
                table.network, proxy, len(groups), sum(map(len, groups)), interval(values[proxy], drawn[proxy]),
                interval(tau, taus), {}, regrets(table, predicted, measured),
            )  # fmt: skip
            done += proxy != MEASURED
            advance(done, total)
        for proxy, figure in own.items():
            for base in BASELINES:
                if base in own and base != proxy:
                    figure.over[base] = interval(values[proxy] - values[base], drawn[proxy] - drawn[base])
        figures += sorted(own.values(), key=lambda figure: -figure.spearman.value)
    return figures


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
    narrow = "".join("8" if i in table.interface else "4" for i in range(len(table.rows[0].activations)))
    for budget in BUDGETS:
        fitting = [
            i for i, row in enumerate(table.rows) if row.activations == narrow and row.average_bits <= budget + _SLACK
        ]
        if fitting:
            pick = min(fitting, key=lambda i: float(predicted[i]))
            best = min(float(measured[i]) for i in fitting)
            result.append(Regret(budget, table.rows[pick].key, float(measured[pick]), best))
    return tuple(result)


def _kendall(x: Doubles, y: Doubles) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(kendalltau(x, y).statistic)
