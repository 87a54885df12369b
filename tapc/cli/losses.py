"""`tapc bench proxies` on loss tables."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tapc.base.errors import UsageError
from tapc.base.terminal import Table, columns, print_json, print_table, progress, say

if TYPE_CHECKING:
    from tapc.bench.compare import LossFigure
    from tapc.flow.losses import LossTable
    from tapc.flow.losses.table import RoundingName


def bench_losses(
    files: Sequence[Path], networks: Sequence[str], tables: Sequence[Path], rounding: "RoundingName", seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Compare proxies on loss tables: those that come with tapc, or files.

    Raises
    ------
    UsageError
        There are no such tables, or two of one network.
    """
    from tapc.bench.compare import compare
    from tapc.flow.losses import load_losses, loss_names
    from tapc.flow.losses.ranking import builtin_scores, found_scores, program_scores

    loaded = [load_losses(path) for path in dict.fromkeys(tables)]
    if not loaded:
        loaded = [load_losses(name) for name in dict.fromkeys(networks) or loss_names()]
    elif networks:
        known = [table.network for table in loaded]
        if missing := [name for name in networks if name not in known]:
            raise UsageError(f"--network {missing[0]}: the tables are of {', '.join(known)}")
        loaded = [table for table in loaded if table.network in networks]
    if not loaded:
        raise UsageError("no loss tables come with this tapc; name files with --table")
    names = [table.network for table in loaded]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--table: two tables are of {twice}; name one")
    scores = builtin_scores(loaded) | found_scores(loaded)
    for file in dict.fromkeys(files):
        scores[file.stem if file.stem not in scores else str(file)] = dict(program_scores(file, loaded))
    with progress().stage("compare proxies") as advance:
        figures = compare(loaded, scores, seed, rounding=rounding, advance=advance)
    if as_json:
        values = [asdict(figure) | {"regret": figure.regret} for figure in figures]
        print_json({"seed": seed, "rounding": rounding, "proxies": values})
        return
    print_losses(figures, loaded, rounding)


def print_losses(figures: "Sequence[LossFigure]", tables: "Sequence[LossTable]", rounding: str) -> None:
    """Print a table per network, and the means of several; at most 80 columns wide."""
    from tapc.bench.compare import BASELINES
    from tapc.flow.losses.ranking import MEASURED

    numbers = ("Spearman", "Kendall", *(f"- {base}" for base in BASELINES), "regret")
    for table in tables:
        own = [figure for figure in figures if figure.network == table.network]
        first, p = own[0], table.provenance
        title = f"{table.network}: {first.configurations} configurations in {first.groups} groups of one size"
        shown = Table(title, columns("proxy", *numbers, right=numbers))
        for f in own:
            differences = [_sure(f, base) for base in BASELINES]
            shown.add(f.proxy, f"{f.spearman.value:.3f}", f"{f.kendall.value:.3f}", *differences, f"{f.regret:.3f}")
        print_table(shown)
        for f in own:
            if f.best and f.best in f.over and f.proxy not in (*table.scores, MEASURED):
                gain = f.over[f.best]
                interval = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
                say(f"{f.proxy} less {f.best}, the best made by hand: {interval}")
        say(f"{p.model} on {p.test_samples} samples of {p.data}; float {p.metric} {p.float_metric:.3f}.")
    if len(tables) > 1:
        shown = Table(f"mean of {len(tables)} networks", columns("proxy", "Spearman", "least", "regret", right=numbers))
        by_proxy: dict[str, list[LossFigure]] = {}
        for figure in figures:
            by_proxy.setdefault(figure.proxy, []).append(figure)
        ranked = sorted(by_proxy.items(), key=lambda item: -_mean(item[1]))
        for proxy, of in ranked:
            least = min(figure.spearman.value for figure in of)
            regret = float(np.mean([figure.regret for figure in of]))
            shown.add(proxy, f"{_mean(of):.3f}", f"{least:.3f}", f"{regret:.3f}")
        print_table(shown)
    say(
        f"Predicted against measured loss ({rounding}; squared error of the logits over their variance): rank "
        "correlation within a size and kind of activations, mean of the groups; - NAME: Spearman less that of NAME, * "
        "where the 95 % paired bootstrap interval leaves out 0; regret: loss of the bits that the proxy leads to "
        "beyond the least measured, mean of the budgets 2.25 to 3 bits with 4-bit activations."
    )


def _mean(figures: "Sequence[LossFigure]") -> float:
    return float(np.mean([figure.spearman.value for figure in figures]))


def _sure(figure: "LossFigure", base: str) -> str:
    interval = figure.over.get(base)
    if interval is None:
        return ""
    return f"{interval.value:+.3f}{'*' if interval.low > 0 or interval.high < 0 else ' '}"
