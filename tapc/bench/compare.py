"""How well proxies rank configurations of equal size by loss, and what the bits lose that they lead to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.base.progress import Advance
from tapc.bench.proxies import RESAMPLES, Interval, interval, kendall_rows, spearman_rows
from tapc.flow.losses.ranking import (
    LEAST,
    MEASURED,
    REFERENCES,
    Regret,
    alone_loss,
    groups_of,
    kendall,
    predicted_loss,
    regrets,
    spearman,
    steady,
)
from tapc.flow.losses.table import LossTable, RoundingName

Doubles = NDArray[np.float64]

BASELINES = ("uniform", "sqnr", "hawq_v2")
"""Proxies that the others are compared with."""


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
        Baseline -> this proxy's `spearman` less that of the baseline, over the same resamples; a program's also less
        that of the best proxy made by hand, other than `error`.
    regrets : tuple of Regret
        By budget.
    best : str or None
        The best proxy made by hand on this network.
    """

    network: str
    proxy: str
    groups: int
    configurations: int
    spearman: Interval
    kendall: Interval
    over: dict[str, Interval]
    regrets: tuple[Regret, ...]
    best: str | None = None

    @property
    def regret(self) -> float:
        """Mean over the budgets of the loss beyond the least that was measured."""
        return float(np.mean([item.loss - item.best for item in self.regrets]))


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
            raise DataError(f"{table.network}: no {LEAST} configurations have one size; measure more of them")
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
            predicted = steady(predicted)
            pairs = [(predicted[group], measured[group]) for group in groups]
            values[proxy] = float(np.mean([spearman(p, m) for p, m in pairs]))
            drawn[proxy] = np.mean(
                [spearman_rows(p[pick], m[pick]) for (p, m), pick in zip(pairs, picks, strict=True)], axis=0
            )
            tau = float(np.mean([kendall(p, m) for p, m in pairs]))
            taus = np.mean([kendall_rows(p, m, pick) for (p, m), pick in zip(pairs, picks, strict=True)], axis=0)
            own[proxy] = LossFigure(
                table.network, proxy, len(groups), sum(map(len, groups)), interval(values[proxy], drawn[proxy]),
                interval(tau, taus), {}, regrets(table, predicted, measured),
            )  # fmt: skip
            done += proxy != MEASURED
            advance(done, total)
        by_hand = [name for name in table.scores if name in own and name not in REFERENCES]
        best = max(by_hand, key=lambda name: values[name]) if by_hand else None
        for proxy, figure in own.items():
            program = proxy not in (*table.scores, *REFERENCES)
            for base in dict.fromkeys((*BASELINES, best)) if program else BASELINES:
                if base is not None and base in own and base != proxy:
                    figure.over[base] = interval(values[proxy] - values[base], drawn[proxy] - drawn[base])
        ranked = sorted(own.values(), key=lambda figure: -figure.spearman.value)
        figures += [replace(figure, best=best) for figure in ranked]
    return figures
