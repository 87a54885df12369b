"""Proxies that `tapc search` found and that come with tapc.

Their code was read before it was taken over, so it runs in this process, without the sandbox.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tapc.base.errors import DataError
from tapc.proxy.base import ProxyContext, Scores, normalize
from tapc.proxy.columns import Row
from tapc.proxy.found import tapc_1
from tapc.proxy.program import Origin, load_program


@dataclass(frozen=True)
class FoundProxy:
    """A function of the statistics table.

    Attributes
    ----------
    name, summary : str
    columns : tuple of str
        Of `tapc.proxy.columns`, that it reads.
    function : callable
        Rows of `tapc.proxy.columns` -> raw scores.
    file : Path
        The program as it was found.
    """

    name: str
    summary: str
    columns: tuple[str, ...]
    function: Callable[[Sequence[Row]], list[float]]
    file: Path

    @cached_property
    def origin(self) -> Origin:
        """By what it was found, and on which networks."""
        return load_program(self.file).origin

    def knows(self, table: Sequence[Row]) -> bool:
        """Whether a table, perhaps of an earlier version, has all columns that it reads."""
        return all(column in row for row in table for column in self.columns)

    def score_table(self, table: Sequence[Row]) -> list[float]:
        """Return the raw scores of a statistics table's layers."""
        return self.function(table)

    def score(self, context: ProxyContext) -> Scores:
        """Return normalized scores.

        Raises
        ------
        DataError
            The context has no statistics; and those of `normalize`.
        """
        if context.statistics is None:
            raise DataError(f"proxy {self.name!r} needs the statistics of the network; give calibration data")
        names = [layer.name for layer in context.network.layers]
        raw = self.function(context.statistics())
        return normalize(self.name, dict(zip(names, raw, strict=True)), context.network)


FOUND: Mapping[str, FoundProxy] = {
    "tapc-1": FoundProxy("tapc-1", tapc_1.SUMMARY, tapc_1.COLUMNS, tapc_1.score, tapc_1.PROGRAM),
}
