"""How well proxies predict which configurations of tapc-bench are accurate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from tapc.base.errors import DataError
from tapc.base.progress import Advance
from tapc.bench.configurations.table import BenchTable, Row
from tapc.flow.losses.ranking import predicted_loss, spearman

Doubles = NDArray[np.float64]

SIZE = "(weight bytes)"
"""Reference without a score: the more bytes, the better."""

RESAMPLES = 1000
TOP = 0.1
STRATA = 5
_LEAST = 10  # configurations, below which ranks mean nothing


@dataclass(frozen=True)
class Interval:
    """A figure and the percentile bootstrap's 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ProxyFigure:
    """How well one proxy predicts one network's configurations. All figures: larger is better.

    Attributes
    ----------
    network, proxy : str
    configurations : int
        Configurations compared.
    spearman : Interval
        Rank correlation of predicted loss and measured top-1 error, -1 to 1.
    kendall : Interval
        Kendall's tau-b of the same.
    top : Interval
        Share of the tenth that the proxy predicts best that is in the tenth measured best, 0 to 1.
    within_size : Interval
        Spearman within quintiles of the weight bytes, mean of the quintiles.
    cross_entropy : Interval
        Spearman of predicted loss and measured cross-entropy.
    layers : float or None
        Spearman over layers of score and measured error of the layer alone at 2 bits; None where there is no score.
    """

    network: str
    proxy: str
    configurations: int
    spearman: Interval
    kendall: Interval
    top: Interval
    within_size: Interval
    cross_entropy: Interval
    layers: float | None


def evaluate_proxies(
    tables: Sequence[BenchTable],
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    seed: int,
    *,
    activations: bool = False,
    resamples: int = RESAMPLES,
    advance: Advance = lambda done, total: None,
) -> list[ProxyFigure]:
    """Compare predicted with measured rankings of configurations.

    Parameters
    ----------
    tables : sequence of BenchTable
    scores : mapping of str to mapping of str to sequence of float
        Proxy -> network -> score per layer. The size of the weights is added as a reference.
    seed : int
        Of the bootstrap over configurations. All proxies see the same resamples, so their intervals compare.
    activations : bool
        Compare configurations with 4-bit activations, too; else only those with 8 bits everywhere.
    resamples : int
    advance : callable
        Told (done, total) pairs of proxy and network.

    Returns
    -------
    list of ProxyFigure
        By network in the order of `tables`, the best Spearman within sizes first.

    Raises
    ------
    DataError
        Scores that are missing or make no sense, or too few configurations.
    """
    figures: list[ProxyFigure] = []
    done, total = 0, len(tables) * (len(scores) + 1)
    for table in tables:
        rows = [row for row in table.configurations if activations or set(row.activations) == {"8"}]
        if len(rows) < _LEAST:
            raise DataError(f"{table.network}: {len(rows)} configurations to compare; at least {_LEAST} are needed")
        sample = _Sample(rows, seed, resamples)
        errors = [layer.errors["2"] for layer in table.layers]
        found = []
        advance(done, total)
        for proxy, by_network in scores.items():
            own = by_network.get(table.network)
            if own is None:
                raise DataError(f"proxy {proxy!r} has no scores for {table.network!r}")
            try:
                loss = predicted_loss(table.layers, own, rows)
            except DataError as error:
                raise DataError(f"proxy {proxy!r} on {table.network}: {error}") from None
            found.append(sample.figure(table.network, proxy, loss, spearman(np.array(own), np.array(errors))))
            advance(done := done + 1, total)
        found.append(sample.figure(table.network, SIZE, -sample.size, None))
        advance(done := done + 1, total)
        figures += sorted(found, key=lambda figure: -figure.within_size.value)
    return figures


class _Sample:
    """One network's configurations and the resamples of them."""

    def __init__(self, rows: Sequence[Row], seed: int, resamples: int) -> None:
        rng = np.random.default_rng(seed)
        # Equal predictions must not be ranked by the table's order, which starts with the extremal configurations.
        self.order = rng.permutation(len(rows))
        self.size = np.array([row.weight_bytes for row in rows])
        self.error = -np.array([row.correct for row in rows], float)
        self.entropy = np.array([row.cross_entropy for row in rows])
        self.picks = rng.integers(0, len(rows), (resamples, len(rows)))
        edges = np.quantile(self.size, np.arange(1, STRATA) / STRATA)
        which = np.searchsorted(edges, self.size, side="left")
        # Two configurations have a correlation of 1 or -1, which says nothing.
        self.strata = [np.flatnonzero(which == s) for s in range(STRATA) if np.sum(which == s) > 2]
        if not self.strata:
            raise DataError(f"no quintile of sizes holds 3 of the {len(rows)} configurations; measure more of them")
        self.strata_picks = [s[rng.integers(0, len(s), (resamples, len(s)))] for s in self.strata]

    def figure(self, network: str, proxy: str, loss: Doubles, layers: float | None) -> ProxyFigure:
        """Return a proxy's figures for its predicted losses (n,)."""
        return ProxyFigure(
            network,
            proxy,
            len(loss),
            self._interval(spearman(loss, self.error), lambda p: spearman_rows(loss[p], self.error[p])),
            self._interval(float(kendalltau(loss, self.error).statistic), lambda p: kendall_rows(loss, self.error, p)),
            self._top(loss),
            self._within(loss),
            self._interval(spearman(loss, self.entropy), lambda p: spearman_rows(loss[p], self.entropy[p])),
            layers,
        )

    def _interval(self, value: float, of: Callable[[NDArray[np.intp]], Doubles]) -> Interval:
        return interval(value, of(self.picks))

    def _top(self, loss: Doubles) -> Interval:
        # Top-1 over some hundred samples has ties; the cross-entropy of the same outputs breaks them.
        measured = np.empty(len(loss))
        measured[np.lexsort((self.entropy, self.error))] = np.arange(len(loss))
        shuffled_loss, shuffled = loss[self.order], measured[self.order]
        value = top_rows(shuffled_loss[None], shuffled[None])[0]
        return interval(float(value), top_rows(shuffled_loss[self.picks], shuffled[self.picks]))

    def _within(self, loss: Doubles) -> Interval:
        value = float(np.mean([spearman(loss[s], self.error[s]) for s in self.strata]))
        drawn = np.mean([spearman_rows(loss[p], self.error[p]) for p in self.strata_picks], axis=0)
        return interval(value, drawn)


def interval(value: float, drawn: Doubles) -> Interval:
    """Return a figure with the interval of its resamples."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def spearman_rows(x: Doubles, y: Doubles) -> Doubles:
    """Return Spearman's correlation of every row of x with that of y, both (rows, n); 0 where one is constant."""
    a, b = (rankdata(values, axis=1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (a, b))
    scale = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    product = (a * b).sum(axis=1)
    result: Doubles = np.divide(product, scale, out=np.zeros(len(x)), where=scale > 0)
    return result


def kendall_rows(x: Doubles, y: Doubles, picks: NDArray[np.intp]) -> Doubles:
    """Return Kendall's tau-b of x[p] and y[p] for every row p of `picks`; 0 where a side is constant.

    A resample is a weight per configuration, and the sums over pairs are quadratic forms of the weights.
    """
    weights = np.stack([np.bincount(p, minlength=len(x)) for p in picks]).astype(np.float64)
    dx, dy = (np.sign(values[:, None] - values[None, :]) for values in (x, y))

    def pairs(matrix: Doubles) -> Doubles:
        result: Doubles = ((weights @ matrix) * weights).sum(axis=1)
        return result

    scale = np.sqrt(pairs(np.abs(dx)) * pairs(np.abs(dy)))
    result: Doubles = np.divide(pairs(dx * dy), scale, out=np.zeros(len(picks)), where=scale > 0)
    return result


def top_rows(loss: Doubles, measured: Doubles) -> Doubles:
    """Return, per row, the share of the tenth of smallest `loss` that is in the tenth of smallest `measured`.

    Both (rows, n); at least one element is the top, and the first of equal ones come first.
    """
    k = max(1, round(TOP * loss.shape[1]))
    predicted = np.argsort(loss, axis=1, kind="stable")[:, :k]
    real = np.argsort(measured, axis=1, kind="stable")[:, :k]
    member = np.zeros(loss.shape, bool)
    np.put_along_axis(member, real, True, axis=1)
    result: Doubles = np.take_along_axis(member, predicted, axis=1).mean(axis=1)
    return result
