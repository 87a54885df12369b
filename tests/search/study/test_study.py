"""Studies: killed at any time they end with the same bytes; their figures are those of the searches' logs."""

import json
import multiprocessing
import statistics
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tapc.base.cache import Store
from tapc.base.errors import BudgetError, UsageError
from tapc.cli import main
from tapc.search.study import read_study, run_study
from tapc.search.study import run as module
from tapc.search.study.report import NAMES

# Processes that have tapc loaded, and nothing of this one's state.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload([__name__])

TEXT = """
schema = 1
name = "tiny | one"
seeds = 2
[options]
networks = ["resnet8"]
llm = "offline"
beta = 0
generations = 1
population = 2
[[grid]]
name = "controllers"
axes = { controller = ["uniform"] }
"""
MORE = """
[[grid]]
name = "weights"
options = { controller = "uniform" }
seeds = [0]
axes = { alpha = [0.1, 0.5] }
"""


def written(folder: Path, more: str = "") -> Path:
    path = folder / "study.toml"
    path.write_text(TEXT + more)
    return path


def run(path: Path, folder: Path, store: Path) -> None:
    file, planned = read_study(path)
    run_study(file, planned, folder, store=Store(store))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return the file of a study, its folder and what it measured."""
    folder = tmp_path_factory.mktemp("study")
    path = written(folder)
    run(path, folder / "out", folder / "store")
    return path, folder / "out", folder / "store"


def best_of(folder: Path, key: str) -> float:
    lines = map(json.loads, (folder / "cells" / key / "events.jsonl").read_text().splitlines())
    judged = [line["data"]["fitness"] for line in lines if line["kind"] == "judged"]
    return max(fitness["phi"] for fitness in judged if fitness is not None)


def test_figures_are_those_of_the_logs(done: tuple[Path, Path, Path]) -> None:
    values = json.loads((done[1] / "study.json").read_text())
    (grid,) = values["grids"]
    by_controller: dict[str, list[float]] = {}
    for item in grid["searches"]:
        by_controller.setdefault(item["settings"]["controller"], []).append(best_of(done[1], item["key"]))
    assert {name: len(found) for name, found in by_controller.items()} == {"uniform": 2}
    whole = values["tables"][0]
    for (controller,), figures in whole["rows"]:
        found = figures[whole["columns"].index("fitness")]
        assert found["values"] == by_controller[controller]
        assert found["mean"] == pytest.approx(sum(by_controller[controller]) / 2)
        assert found["deviation"] == pytest.approx(statistics.stdev(by_controller[controller]))
        assert (
            f"| {controller} | {found['mean']:.4f} ± {found['deviation']:.4f} |" in (done[1] / "study.md").read_text()
        )
    assert "tiny | one" in (done[1] / "study.html").read_text()
    assert (done[1] / "study.html").read_text().count("data:image/png") >= 2


def test_a_killed_study_ends_like_an_uninterrupted_one(done: tuple[Path, Path, Path], tmp_path: Path) -> None:
    process = FRESH.Process(target=run, args=(done[0], tmp_path, done[2]))
    process.start()
    end = time.monotonic() + 60
    # In its second search.
    while time.monotonic() < end and len(list(tmp_path.glob("cells/*/events.jsonl"))) < 2:
        time.sleep(0.002)
    process.kill()
    process.join()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/result.json")}
    assert len(finished) == 1
    assert not (tmp_path / NAMES[0]).exists()
    run(done[0], tmp_path, done[2])
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (done[1] / name).read_bytes()


def test_a_changed_file_runs_what_is_new(done: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(done[0].parent, MORE)
    asked: list[float] = []
    search = module.search
    monkeypatch.setattr(module, "search", lambda r, *a, **k: asked.append(r.options.alpha) or search(r, *a, **k))
    found = CliRunner().invoke(main, ["study", str(path), "-o", str(done[1]), "--json", "-q"])
    assert found.exit_code == 0
    # The search with the default weight and controller is one of another grid.
    assert asked == [0.1]
    tables = json.loads(found.stdout)["tables"]
    assert [table["number"] for table in tables] == [None, 12, None, 8, 12]
    assert json.loads(found.stdout) == json.loads((done[1] / "study.json").read_text())


def test_draws_and_times_are_taken_once(done: tuple[Path, Path, Path]) -> None:
    more = 'timing = 2\n[draws]\nnetwork = "nets/small.onnx"\ndata = "small.npz"\n[options]'
    path = written(done[0].parent)
    path.write_text(path.read_text().replace("[options]", more))
    file, planned = read_study(path)
    asked: list[Path] = []

    def drawn(proxy: Path) -> list[float]:
        asked.append(proxy)
        return [0.5, 0.6] if len(asked) == 1 else [0.9, 0.6]

    tables = run_study(file, planned, done[1], drawn=drawn, timed=lambda proxy: [(0.25, 0.5), (0.75, 0.5)]).tables
    again = run_study(file, planned, done[1], drawn=drawn, timed=lambda proxy: []).tables
    assert again == tables
    assert len(asked) == 2
    assert all(proxy.name == "proxy.toml" and proxy.is_file() for proxy in asked)
    by_number = {table.number: table for table in tables}
    ((labels, figures),) = by_number[10].rows
    assert labels == ("small", "uniform")
    assert [item.mean for item in figures] == pytest.approx([70, 60, 100 * (0.0707107 + 0.2121320) / 2])
    assert [item.mean for item in by_number[7].rows[0][1]] == [0.25, 0.75, 0.5]


def test_a_search_that_finds_nothing_is_a_result(
    done: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, planned = read_study(written(done[0].parent))

    def search(request: object, folder: Path, **given: object) -> None:
        folder.mkdir()
        source = done[1] / "cells" / folder.name / "events.jsonl"
        (folder / "events.jsonl").write_bytes(b"".join(source.read_bytes().splitlines(keepends=True)[:1]))
        raise BudgetError("none of 4 candidates")

    monkeypatch.setattr(module, "search", search)
    told: list[str] = []
    found = run_study(file, planned, tmp_path, tell=told.append)
    assert [result.problem for result in found.results.values()] == ["none of 4 candidates"] * 2
    assert "2 of 2 searches found no proxy" in told[0]
    assert "none of 4 candidates" in (tmp_path / "study.html").read_text()
    monkeypatch.setattr(module, "search", None)
    assert run_study(file, planned, tmp_path).fresh == 0


def test_another_failure_names_the_search_and_keeps_the_rest(
    done: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, planned = read_study(written(done[0].parent))

    def search(*given: object, **more: object) -> None:
        raise UsageError("nobody answers")

    monkeypatch.setattr(module, "search", search)
    with pytest.raises(UsageError, match=r"controller uniform, seed 0: nobody answers\n.*run the study again"):
        run_study(file, planned, tmp_path)
