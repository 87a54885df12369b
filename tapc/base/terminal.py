"""What tapc prints: tables that lose nothing at any width, progress, messages. Rich is imported when it is needed."""

import json
import os
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from tapc.base.progress import Advance, Stages

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

QUIET = "tapc.quiet"
_TELL = 10.0
"""Seconds between two lines about a stage that goes on, where there is no terminal to draw a bar on."""
_GAP = 2
_LEAST_PROSE = 16


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    right : bool
        Its cells are numbers.
    prose : bool
        Its cells may be wrapped between words; all others stay whole.
    starts : bool
        Where a row takes several lines, one starts here.
    """

    name: str
    right: bool = False
    prose: bool = False
    starts: bool = False


@dataclass
class Table:
    """Rows of text; nothing in them is markup.

    Attributes
    ----------
    title : str
    columns : sequence of Column
    rows : list
        Cells and a style for each row (a style of rich, "" for none); None is a rule.
    """

    title: str
    columns: Sequence[Column]
    rows: list[tuple[tuple[str, ...], str] | None] = field(default_factory=list)

    def add(self, *cells: object, style: str = "") -> None:
        """Add a row; None is shown as a dash."""
        self.rows.append(
            (tuple("-" if cell is None else visible(str(cell)).replace("\n", " ") for cell in cells), style)
        )

    def rule(self) -> None:
        """Add a rule."""
        self.rows.append(None)

    def lines(self, width: int | None) -> "list[Text]":
        """Lay the table out.

        Parameters
        ----------
        width : int or None
            Columns that there are; None: as many as it needs.

        Returns
        -------
        list of Text
            A boxed table where its cells fit, prose wrapped between words; else rows of several lines. No cell is ever
            cut, and only prose is broken: what is wider than the terminal stays a line that is too long.
        """
        natural = self._widths(prose=True)
        frame = 3 * len(natural) + 1
        if width is None or sum(natural) + frame <= width:
            return self._boxed(natural)
        least = self._widths(prose=False)
        while sum(natural) + frame > width:
            wide = [i for i, column in enumerate(self.columns)
                    if column.prose and natural[i] > max(least[i], _LEAST_PROSE)]  # fmt: skip
            if not wide:
                return self._stacked(width)
            natural[max(wide, key=natural.__getitem__)] -= 1
        return self._boxed(natural)

    def _widths(self, *, prose: bool) -> list[int]:
        """Return each column's width: of its longest cell, or of its longest word where it is prose."""
        from rich.cells import cell_len

        def longest(column: Column, text: str) -> int:
            return cell_len(text) if prose or not column.prose else max(map(cell_len, text.split()), default=0)

        cells = [[column.name for column in self.columns], *(row[0] for row in self.rows if row is not None)]
        return [max(longest(column, row[i]) for row in cells) for i, column in enumerate(self.columns)]

    def _boxed(self, widths: Sequence[int]) -> "list[Text]":
        from rich.console import Console
        from rich.table import Table as Boxed
        from rich.text import Text

        boxed = Boxed()
        for column, width in zip(self.columns, widths, strict=True):
            boxed.add_column(
                Text(column.name), justify="right" if column.right else "left", width=width, no_wrap=not column.prose
            )
        for row in self.rows:
            if row is None:
                boxed.add_section()
            else:
                boxed.add_row(*map(Text, row[0]), style=row[1] or None)
        console = Console(file=sys.stdout, width=sum(widths) + 3 * len(widths) + 1)
        lines = console.render_lines(boxed, pad=False)
        return [Text.assemble(*((part.text, part.style or "") for part in line)) for line in lines]

    def _stacked(self, width: int) -> "list[Text]":
        from rich.text import Text

        groups, widths = self._groups(width), self._widths(prose=True)
        rule = Text("-" * width, "dim")
        lines = [*self._row(tuple(column.name for column in self.columns), groups, widths, width, "bold"), rule]
        for row in self.rows:
            lines += [rule] if row is None else self._row(row[0], groups, widths, width, row[1])
        return lines

    def _groups(self, width: int) -> list[list[int]]:
        """Return the columns of each line of a row: prose has a line of its own."""
        widths, groups = self._widths(prose=True), [[]]  # type: tuple[list[int], list[list[int]]]
        used = 0
        starts = any(column.starts for column in self.columns)
        for i, column in enumerate(self.columns):
            more = _GAP + widths[i]
            if groups[-1] and (column.prose or (column.starts and starts) or used + more > width):
                groups.append([])
                used = _GAP
            groups[-1].append(i)
            used += more if len(groups[-1]) > 1 else widths[i]
        return groups

    def _row(
        self, cells: tuple[str, ...], groups: list[list[int]], widths: list[int], width: int, style: str
    ) -> "list[Text]":
        from rich.cells import cell_len
        from rich.text import Text

        lines = []
        for number, group in enumerate(groups):
            indent = " " * (_GAP if number else 0)
            if self.columns[group[0]].prose:
                room = max(width - len(indent), _LEAST_PROSE)
                lines += [Text(indent + part, style) for part in wrapped(cells[group[0]], room)]
                continue
            padded = []
            for i in group:
                space = " " * (widths[i] - cell_len(cells[i]))
                padded.append(space + cells[i] if self.columns[i].right else cells[i] + space)
            text = (indent + (" " * _GAP).join(padded)).rstrip()
            if text:
                lines.append(Text(text, style))
        return lines


def visible(text: str) -> str:
    r"""Return text whose control characters are shown (\x1b), so that it cannot steer the terminal."""
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs") else
        character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )  # fmt: skip


def columns(*names: str, right: Sequence[str] = (), prose: Sequence[str] = ()) -> tuple[Column, ...]:
    """Return columns by their names."""
    return tuple(Column(name, right=name in right, prose=name in prose) for name in names)


def wrapped(text: str, width: int | None) -> list[str]:
    """Return a text in lines that are broken between words only."""
    if width is None:
        return text.splitlines() or [""]
    return [
        part
        for line in text.splitlines() or [""]
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    ]


def output_width() -> int | None:
    """Return the columns of standard output: COLUMNS, or the terminal's; None (no limit) for pipes and files."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(table: Table) -> None:
    """Print a table to standard output."""
    from rich.text import Text

    say(table.title)
    _console().print(Text("\n").join(table.lines(output_width())), soft_wrap=True)


def say(text: str, style: str = "", *, label: str = "", err: bool = False) -> None:
    """Print text, wrapped between words where there is a terminal; nothing in it is markup.

    Parameters
    ----------
    text : str
    style : str
        Of rich, for the label or, without one, for all of the text.
    label : str
        Stands in front.
    err : bool
        Print to standard error.
    """
    from rich.text import Text

    width = (shutil.get_terminal_size().columns if sys.stderr.isatty() else None) if err else output_width()
    lines = wrapped(visible(f"{label}{text}"), width)
    shown = Text("\n".join(lines), "" if label else style)
    if label:
        shown.stylize(style, 0, len(label))
    _console(err=err).print(shown, soft_wrap=True)


def _console(*, err: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=err, highlight=False, markup=False, emoji=False)


def print_json(data: Any) -> None:
    """Print JSON to standard output."""
    click.echo(json.dumps(data, indent=1, default=str))


class Bars(Stages):
    """Shows each stage with a spinner, a bar where its length is known, and its time."""

    @contextmanager
    def show(self, name: str) -> Iterator[Advance]:
        """Display a running stage."""
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        names = TextColumn("{task.description:<16}", markup=False)
        with Progress(SpinnerColumn(), names, BarColumn(), TimeElapsedColumn(), console=_console(err=True)) as progress:
            task = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
            progress.update(task, completed=1, total=1)


class Lines(Stages):
    """Writes a line per stage when it ends, and one now and then while a long one goes on: for logs."""

    @contextmanager
    def show(self, name: str) -> Iterator[Advance]:
        """Tell of a stage."""
        start = told = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told >= _TELL:
                told = time.monotonic()
                click.echo(f"{name}: {100 * done // max(total, 1)} %", err=True)

        yield advance
        click.echo(f"{name}: {time.monotonic() - start:.1f} s", err=True)


def progress() -> Stages:
    """Return what shows the stages of the running command: bars on a terminal, else lines; nothing with --quiet."""
    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get(QUIET):
        return Stages()
    return Bars() if sys.stderr.isatty() else Lines()
