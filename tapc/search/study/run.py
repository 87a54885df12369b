"""Runs a study: each search in a folder of its own, what is finished never again, the tables at the end."""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapc.base.cache import Store, digest
from tapc.base.errors import BudgetError, DataError, OutputError, TapcError, UsageError
from tapc.base.files import write_whole
from tapc.base.progress import Stages
from tapc.flow.losses.partial import in_processes
from tapc.search.log import NAME as LOG
from tapc.search.log import read_events
from tapc.search.run import BEST, Request, search, stored_request
from tapc.search.study.report import write_tables
from tapc.search.study.results import Result, result_of
from tapc.search.study.schema import Cell, Draws, Planned, StudyFile
from tapc.search.study.tables import StudyTable, drawn_table, tables_of, timed_table

CELLS = "cells"
RESULT = "result.json"
_PATIENCE = 15.0

Drawn = Callable[[Path], list[float]]
"""Takes a proxy file; returns what its bits keep, by draw of the calibration samples."""
Timed = Callable[[Path], list[tuple[float, float]]]
"""Takes a proxy file; returns seconds of scoring and of allocating, by run."""


@dataclass(frozen=True)
class Study:
    """How a study ended.

    Attributes
    ----------
    folder : Path
    file : StudyFile
    results : dict of str to Result
        By the cells' keys, those of this file alone.
    tables : tuple of StudyTable
    fresh : int
        Searches of this session; the others were finished before.
    """

    folder: Path
    file: StudyFile
    results: dict[str, Result]
    tables: tuple[StudyTable, ...]
    fresh: int


def run_study(
    file: StudyFile,
    planned: Sequence[Planned],
    folder: Path,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    store: Store | None = None,
    drawn: Drawn | None = None,
    timed: Timed | None = None,
    stages: Stages | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Study:
    """Run what is missing of a study and write its tables.

    Parameters
    ----------
    file : StudyFile
    planned : sequence of Planned
        Its grids.
    folder : Path
        Made when missing; another study in it is told by its searches, and stays.
    jobs : int
        Searches at once, each in a process.
    scheduler : str, optional
        Address of a dask scheduler that the searches' measurements run on.
    store : Store, optional
        Measurements; by default tapc's cache folder. Only with one job.
    drawn, timed : callable, optional
        Measure Tables 10 and 7.
    stages : Stages, optional
        Shows progress.
    tell : callable
        Takes messages for the user.

    Raises
    ------
    TapcError
        A search failed for another reason than that it found nothing; the others are kept.
    """
    stages = stages or Stages()
    cells = {cell.key: cell for grid in planned for cell in grid.cells}
    with _alone(folder):
        known = {key: found for key in cells if (found := _known(folder, key)) is not None}
        missing = [cell for key, cell in cells.items() if key not in known]
        with stages.stage("searches") as advance:
            advance(len(known), len(cells))
            for values in _searched(missing, folder, jobs, scheduler, store, tell):
                known[values["key"]] = Result.from_dict(values)
                advance(len(known), len(cells))
        results = {key: known[key] for key in cells}
        if none := [cell.label for key, cell in cells.items() if results[key].problem]:
            tell(f"{len(none)} of {len(cells)} searches found no proxy: {none[0]}{' ...' if len(none) > 1 else ''}")
        tables = tables_of(planned, results)
        if drawn is not None and file.draws is not None:
            tables += [_drawn(grid, file.draws, folder, results, drawn, stages) for grid in planned]
        if timed is not None:
            tables.append(_timed(planned, folder, results, timed, f"times-{file.timing}.json"))
        write_tables(file, planned, results, tables, folder)
    return Study(folder, file, results, tuple(tables), len(missing))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from running a study in the folder."""
    try:
        (folder / CELLS).mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; choose another with -o") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{folder}: another process runs a study there") from None
        yield


def _known(folder: Path, key: str) -> Result | None:
    try:
        return Result.from_dict(json.loads((folder / CELLS / key / RESULT).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _searched(
    missing: Sequence[Cell],
    folder: Path,
    jobs: int,
    scheduler: str | None,
    store: Store | None,
    tell: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Yield the results of searches, each as soon as it is known."""
    if jobs == 1 or len(missing) < 2:
        told: set[str] = set()

        def once(text: str) -> None:
            if text not in told:
                told.add(text)
                tell(text)

        for cell in missing:
            yield run_cell(cell.key, cell.label, cell.request, folder / CELLS / cell.key, scheduler, store, once)
        return
    tasks = ((c.key, c.label, c.request, folder / CELLS / c.key, scheduler) for c in missing)
    yield from in_processes(min(jobs, len(missing)), run_cell, tasks)


def run_cell(
    key: str,
    label: str,
    request: Request,
    folder: Path,
    scheduler: str | None = None,
    store: Store | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Search, or go on with a search, and keep its result in the folder.

    Raises
    ------
    TapcError
        The search failed for another reason than that it found nothing.
    """
    problem = ""
    try:
        resume = _resumable(folder, request)
        try:
            search(request, folder, resume=resume, jobs=1, scheduler=scheduler, store=store, tell=tell)
        except BudgetError as error:
            problem = str(error)[:2000]
        result = result_of(key, folder, problem)
    except TapcError as error:
        raise type(error)(f"{label}: {error}\n(in {folder}; what is finished is kept: run the study again)") from error
    write_whole(folder / RESULT, json.dumps(result.to_dict(), indent=1) + "\n")
    return result.to_dict()


def _resumable(folder: Path, request: Request) -> bool:
    """Whether a search lies in the folder; a log without a whole line is removed."""
    log = folder / LOG
    if not log.is_file():
        return False
    _wait_for(log)
    if not read_events(log)[0]:
        log.unlink()
        return False
    if stored_request(folder) != request:
        raise DataError(f"{folder} holds another search; remove that folder")
    return True


def _wait_for(log: Path) -> None:
    """Wait until the process of a study that was killed has ended, too: it notices within a second or two."""
    end = time.monotonic() + _PATIENCE
    with log.open("ab") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > end:
                    return  # the search says who writes it
                time.sleep(0.05)


def _kept(path: Path, measure: Callable[[], list[Any]]) -> list[Any]:
    """Return a list from a file, or measure it and write the file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, list):
            return found
    except (OSError, ValueError):
        pass
    values = measure()
    write_whole(path, json.dumps(values) + "\n")
    return values


def _drawn(
    grid: Planned, draws: Draws, folder: Path, results: Mapping[str, Result], drawn: Drawn, stages: Stages
) -> StudyTable:
    """Measure the winners of a grid with several draws of calibration samples."""
    values: dict[str, list[float]] = {}
    name = f"draws-{digest(draws.model_dump(mode='json'))[:8]}.json"
    winners = [cell.key for cell in grid.cells if not results[cell.key].problem]
    with stages.stage(f"draws, {grid.grid.name}") as advance:
        for done, key in enumerate(winners):
            advance(done, len(winners))
            own = folder / CELLS / key
            values[key] = _kept(own / name, lambda own=own: drawn(own / BEST))  # type: ignore[misc]
        advance(len(winners), len(winners))
    return drawn_table(grid, values, Path(draws.network).stem)


def _timed(
    planned: Sequence[Planned], folder: Path, results: Mapping[str, Result], timed: Timed, name: str
) -> StudyTable:
    """Time the first winner."""
    keys = [cell.key for grid in planned for cell in grid.cells if not results[cell.key].problem]
    if not keys:
        raise BudgetError("no search found a proxy whose time could be taken")
    own = folder / CELLS / keys[0]
    return timed_table([(a, b) for a, b in _kept(own / name, lambda: timed(own / BEST))])
