"""`tapc study`."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tapc.base.errors import DataError
from tapc.base.terminal import Table, columns, print_json, print_table, progress, say
from tapc.cli.options import JSON

if TYPE_CHECKING:
    from tapc.search.study import Draws, StudyTable
    from tapc.search.study.run import Drawn, Timed
    from tapc.search.study.schema import Planned


def register(main: click.Group) -> None:
    """Add the command."""

    @main.command()
    @click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
    @click.option("-o", "--output", type=click.Path(path_type=Path), default=None,
                  help="Folder of the study, default build/study/FILE's name.")  # fmt: skip
    @click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Searches at once.")
    @click.option("--scheduler", "--dask", default=None, metavar="tcp://HOST:PORT",
                  help="A dask scheduler on which the searches measure.")  # fmt: skip
    @click.option("--plan", is_flag=True, help="Only list the searches.")
    @JSON
    def study(file: Path, output: Path | None, jobs: int, scheduler: str | None, plan: bool, as_json: bool) -> None:
        """Search over a grid of options and seeds, and write tables with mean and deviation.

        FILE is TOML: options of `tapc search` by their names, axes along which they vary, and seeds.

        \b
          schema = 1
          name = "controllers"
          seeds = 5
          [options]
          networks = ["resnet8"]
          llm = "offline"
          [[grid]]
          name = "controllers"
          axes = { controller = ["tap", "eq7", "dpo", "ucb", "uniform"] }

        A killed study goes on where it was when it is started again. Searches that are finished are never run again: a
        changed file runs what is new.

        \b
        Examples:
          tapc study examples/controllers.toml
          tapc study examples/controllers.toml --jobs 2 --json
        """
        from tapc.search.study import read_study, run_study
        from tapc.search.study.report import NAMES

        described, planned = read_study(file)
        if plan:
            _print_plan(planned, as_json)
            return
        folder = output or Path("build/study") / file.stem
        drawn = None if described.draws is None else _drawn(described.draws, folder)
        timed = _timed(described.timing) if described.timing else None
        try:
            done = run_study(
                described, planned, folder, jobs=jobs, scheduler=scheduler, drawn=drawn, timed=timed,
                stages=progress(), tell=lambda text: say(text, err=True),
            )  # fmt: skip
        except KeyboardInterrupt:
            say(f"stopped; nothing is lost: start it again (tapc study {file})", err=True)
            raise click.exceptions.Exit(130) from None
        if as_json:
            click.echo((folder / NAMES[0]).read_text(encoding="utf-8").rstrip())
            return
        for table in done.tables:
            print_study_table(table)
        say(f"{len(done.results)} searches, {done.fresh} of them now; {', '.join(str(folder / n) for n in NAMES)}")


def print_study_table(table: "StudyTable") -> None:
    """Print one table."""
    from tapc.search.study.report import title_of

    shown = Table(title_of(table), columns(*table.head, *table.columns, right=table.columns))
    for labels, cells in table.rows:
        shown.add(*labels, *map(table.shown, cells))
    print_table(shown)
    if table.note:
        say(table.note)


def _print_plan(planned: "Sequence[Planned]", as_json: bool) -> None:
    if as_json:
        print_json([
            {"grid": grid.grid.name, "key": cell.key, "seed": cell.seed, "settings": cell.settings}
            for grid in planned for cell in grid.cells
        ])  # fmt: skip
        return
    for grid in planned:
        shown = Table(f"{grid.grid.name}: {len(grid.cells)} searches", columns(*grid.grid.axes, "seeds"))
        for labels, cells in grid.rows.items():
            shown.add(*labels, ", ".join(str(cell.seed) for cell in cells))
        print_table(shown)


def _drawn(draws: "Draws", folder: Path) -> "Drawn":
    """Return what measures a winner's bits with several draws of calibration samples."""
    from tapc.bench.deployed import deploy
    from tapc.flow.losses.measure import Setup, Source, prepare

    weights = None if draws.weights is None else Path(draws.weights)

    @cache
    def setup(seed: int) -> Setup:
        return prepare(
            Source(Path(draws.network).stem, draws.network, Path(draws.data), draws.calibration, draws.seen, draws.test,
                   weights, seed)
        )  # fmt: skip

    def measure(proxy: Path) -> list[float]:
        values = []
        for seed in draws.seeds:
            kept = folder / "draws" / str(seed)
            budgets, a_bits = (draws.target_bits,), (draws.abits,)
            found = deploy(setup(seed), {"winner": proxy}, folder=kept, budgets=budgets, a_bits=a_bits)
            if not found.figures:
                raise DataError(f"draws: {draws.network} does not survive {draws.abits}-bit activations; choose others")
            values.append(found.figures[0].measured.metric)
        return values

    return measure


def _timed(runs: int) -> "Timed":
    """Return what times a proxy."""
    from tapc.proxy import load_program
    from tapc.search.timing import bench_search

    def measure(proxy: Path) -> list[tuple[float, float]]:
        program = load_program(proxy)
        times = [bench_search("stm32h7", program=program, repetitions=5) for _ in range(runs)]
        return [(item.score / 1e3, item.allocate / 1e3) for item in times]

    return measure
