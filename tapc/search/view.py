"""A running search on the terminal: stages, a bar over the candidates, and the fittest so far."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tapc.base.progress import Advance, Stages
from tapc.base.terminal import QUIET, Lines, say, visible
from tapc.search.log import Event

_SHOWN = 8


class SearchView(Stages):
    """Shows a search while it runs; on anything but a terminal, a line per stage and generation.

    Parameters
    ----------
    candidates : int
        How many there will be.
    """

    def __init__(self, candidates: int) -> None:
        super().__init__()
        context = click.get_current_context(silent=True)
        self._quiet = context is not None and bool(context.meta.get(QUIET))
        console = Console(stderr=True)
        self._lines = None if console.is_terminal else Lines()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = self._progress.add_task("candidates", total=candidates, visible=False)
        self._rows: dict[str, dict[str, object]] = {}
        self._fitness: dict[str, float] = {}
        self._invalid: dict[str, str] = {}
        shown = Group(self._progress, self._table())
        self._live = None if self._lines or self._quiet else Live(shown, console=console, refresh_per_second=4)

    def __enter__(self) -> "SearchView":
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    @contextmanager
    def show(self, name: str) -> Iterator[Advance]:
        """Display a running stage."""
        if self._quiet:
            yield lambda done, total: None
        elif self._lines is not None:
            with self._lines.show(name) as advance:
                yield advance
        else:
            task = self._progress.add_task(name, total=None)
            yield lambda done, total: self._progress.update(task, completed=done, total=total)
            self._progress.update(task, completed=1, total=1)

    def tell(self, text: str) -> None:
        """Print a message above the display."""
        if self._live is None:
            say(text, err=True)
        else:
            self._live.console.print(visible(text), highlight=False, markup=False)

    def observe(self, event: Event) -> None:
        """Take note of an event of the log."""
        if event.kind == "candidate":
            self._progress.update(self._bar, visible=True)
            self._rows[event.key] = {"operator": event.data["operator"], "name": event.data["name"] or event.key}
            if not event.data["code"]:
                self._done(event.key, event.data["problem"])
        elif event.kind == "scored" and event.data["status"] != "ok":
            twin = event.data["message"]
            reason = f"like {twin}" if event.data["status"] == "duplicate" else f"{event.data['kind']}: {twin}"
            self._done(event.key, reason)
        elif event.kind == "judged":
            fitness = event.data["fitness"]
            if fitness is None:
                self._done(event.key, f"{event.data['kind']}: {event.data['message']}")
            else:
                self._rows[event.key] |= {
                    "rho": fitness["rho"],
                    "accuracy": fitness["accuracy"],
                    "cost": fitness["cost"],
                }
                self._fitness[event.key] = fitness["phi"]
                self._done(event.key, "")
        elif event.kind == "selection" and self._lines is not None and not self._quiet:
            best = max(self._fitness.values(), default=float("nan"))
            valid, done = len(self._fitness), len(self._rows)
            say(f"{event.key}: {done} candidates, {valid} judged, best fitness {best:.4f}", err=True)
        if self._live is not None:
            self._live.update(Group(self._progress, self._table()))

    def _done(self, key: str, problem: str) -> None:
        self._progress.advance(self._bar)
        if problem:
            self._invalid[key] = problem.splitlines()[0]

    def _table(self) -> Table:
        table = Table(title="fittest so far", title_justify="left")
        for name in ("proxy", "operator"):
            table.add_column(name, no_wrap=True)
        for name in ("fitness", "rho", "accuracy", "cost"):
            table.add_column(name, justify="right", no_wrap=True)
        for key in sorted(self._fitness, key=lambda k: -self._fitness[k])[:_SHOWN]:
            row = self._rows[key]
            figures = (f"{row[name]:.3f}" for name in ("rho", "accuracy", "cost"))
            label = Text(visible(f"{key} {row['name']}")[:40])
            table.add_row(label, str(row["operator"]), f"{self._fitness[key]:.4f}", *figures)
        if self._invalid:
            key = list(self._invalid)[-1]
            table.caption = Text(
                visible(f"{len(self._invalid)} without a fitness; the last, {key}: {self._invalid[key]}")[:100]
            )
        return table
