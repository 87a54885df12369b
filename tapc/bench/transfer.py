"""How a found proxy does on networks that it was not searched on."""

from pathlib import Path

from tapc.base.progress import Advance
from tapc.bench.configurations import BenchTable, load_table, table_names
from tapc.bench.proxies import ProxyFigure, evaluate_proxies
from tapc.flow.losses.identities import identities
from tapc.flow.losses.ranking import builtin_scores, program_scores
from tapc.proxy import load_program
from tapc.proxy.program import Origin


def searched(origin: Origin, network: str, model: str = "") -> bool:
    """Return whether a proxy was searched on a network of the benchmark.

    Parameters
    ----------
    origin : Origin
        Where the proxy comes from. One of before digests were kept is known by names alone.
    network : str
        Name in the benchmark.
    model : str
        File that the benchmark measured, for such a proxy.
    """
    if origin.digests:
        return identities().get(network) in origin.digests
    return not {network, model}.isdisjoint({name for path in origin.networks for name in (path, Path(path).name)})


def transfer(
    proxy: Path, *, seed: int = 0, advance: Advance = lambda done, total: None
) -> tuple[list[ProxyFigure], list[BenchTable]]:
    """Compare a proxy file with every built-in on the networks of tapc-bench that it was not searched on.

    Parameters
    ----------
    proxy : Path
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
    origin = load_program(proxy).origin
    loaded = [load_table(name) for name in table_names()]
    tables = [table for table in loaded if not searched(origin, table.network, table.provenance.model)]
    if not tables:
        return [], []
    scores = {proxy.stem: dict(program_scores(proxy, tables)), **builtin_scores(tables)}
    return evaluate_proxies(tables, scores, seed, advance=advance), tables
