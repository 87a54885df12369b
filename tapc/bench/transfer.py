"""How a found proxy does on networks that it was not searched on."""

from collections.abc import Collection
from pathlib import Path

from tapc.base.progress import Advance
from tapc.bench.configurations import BenchTable, load_table, table_names
from tapc.bench.proxies import ProxyFigure, evaluate_proxies
from tapc.flow.losses.ranking import builtin_scores, program_scores


def transfer(
    proxy: Path, searched: Collection[str], *, seed: int = 0, advance: Advance = lambda done, total: None
) -> tuple[list[ProxyFigure], list[BenchTable]]:
    """Compare a proxy file with every built-in on the networks of tapc-bench that were not searched.

    Parameters
    ----------
    proxy : Path
    searched : collection of str
        Networks to leave out.
    seed : int
        Of the bootstrap.
    advance : callable
        Told (done, total) comparisons.

    Returns
    -------
    figures, tables
        Both empty where every network of the benchmark was searched.

    Raises
    ------
    DataError
        The proxy breaks its contract there.
    """
    tables = [load_table(name) for name in table_names() if name not in searched]
    if not tables:
        return [], []
    scores = {proxy.stem: dict(program_scores(proxy, tables)), **builtin_scores(tables)}
    return evaluate_proxies(tables, scores, seed, advance=advance), tables
