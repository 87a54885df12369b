"""The file of a study, and its tables by hand."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tapc.base.errors import DataError
from tapc.cli import main
from tapc.search.options import SearchOptions
from tapc.search.study import read_study
from tapc.search.study.results import Result
from tapc.search.study.schema import option_names
from tapc.search.study.tables import drawn_table, figure, tables_of, timed_table

TEXT = """
schema = 1
name = "tiny | one"
seeds = 2
[options]
networks = ["resnet8"]
board = "stm32h7"
llm = "offline"
beta = 0
population = 2
[[grid]]
name = "controllers"
axes = {{ controller = ["tap", "uniform"] }}
"""
MORE = """
[[grid]]
name = "weights"
seeds = [0]
axes = {{ alpha = [0.1, 0.5] }}
"""


@pytest.mark.parametrize(("old", "new", "message"), [
    ("beta = 0", "betta = 0", r"\[options\]: tapc search has no option 'betta'; did you mean 'beta'"),
    ("beta = 0", "xyzzy = 0", "no option 'xyzzy'; there are: .*alpha"),
    ("beta = 0", "seed = 0", "seeds are given once"),
    ("beta = 0", 'beta = "much"', "grid 'controllers': beta: input should be a valid number.*, not 'much'"),
    ("population = 2", "population = 0", "population: input should be greater than or equal to 1, not 0"),
    ('["tap", "uniform"]', "[]", "axes.controller is empty; give at least one"),
    ('["tap", "uniform"]', '["tap", "tap"]', "axis controller has tap twice"),
    ('["tap", "uniform"]', '["tap", "chance"]', "controller: input should be .*not 'chance'"),
    ('axes = {{ controller = ["tap", "uniform"] }}', "", "axes is missing; add it"),
    ("seeds = 2", "seeds = 0", "seeds is empty"),
    ("seeds = 2", "", "seeds is missing"),
    ("schema = 1", "schema = 2", "schema: input should be 1"),
    ("[options]", "[setup]", "setup is unknown; options of tapc search belong below"),
    ('llm = "offline"', "", "llm is missing"),
    ("[[grid]]", "[[grid", "study.toml"),
])  # fmt: skip
def test_bad_files_say_what_to_do(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "study.toml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new).format())
    with pytest.raises(DataError, match=message):
        read_study(path)


def test_a_missing_file_and_a_plan(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["study", str(tmp_path / "no.toml")])
    assert missing.exit_code == 4
    path = tmp_path / "study.toml"
    path.write_text((TEXT + MORE).format())
    plan = CliRunner().invoke(main, ["study", str(path), "--plan"])
    assert plan.exit_code == 0
    assert "controllers: 4 searches" in plan.output
    assert not (tmp_path / "build").exists()


def test_every_option_of_a_search_may_be_an_axis(tmp_path: Path) -> None:
    assert set(SearchOptions.model_fields) - {"seed"} <= set(option_names())
    # What the command line takes, but for what is said of a study once, and how it is run.
    spelled = {option.lstrip("-").replace("-", "_") for p in main.commands["search"].params for option in p.opts}
    once = {"seed", "output", "o", "resume", "report", "jobs", "scheduler", "json", "quiet", "q", "no_cache"}
    assert spelled - once <= set(option_names())
    text = 'replay = "{{controller}}-{{seed}}.jsonl"\n[[grid]]'
    path = tmp_path / "study.toml"
    path.write_text(TEXT.replace("[[grid]]", text).replace("beta = 0", "target-bits = 2.5").format())
    _, (grid,) = read_study(path)
    names = [cell.request.generator.options.replay for cell in grid.cells]
    assert names == ["tap-0.jsonl", "tap-1.jsonl", "uniform-0.jsonl", "uniform-1.jsonl"]
    assert {cell.request.options.target_bits for cell in grid.cells} == {2.5}


def test_what_is_left_out_is_as_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    text = TEXT.replace('networks = ["resnet8"]\n', "").replace('board = "stm32h7"\n', "").replace("beta = 0\n", "")
    path.write_text(text.format())
    request = read_study(path)[1][0].cells[0].request
    assert request.models == ("bottlenecks", "plain", "sounds", "tokens")
    assert (request.board, request.options.beta, request.options.cost) == (None, 0.0, "bops")
    path.write_text(text.replace("[options]", '[options]\nboard = "pico"').format())
    assert read_study(path)[1][0].cells[0].request.options.beta == SearchOptions().beta > 0


def test_tables_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    axes = 'axes = {{ llm = ["offline", "openai/x"], population = [2, 5] }}'
    text = TEXT.replace('llm = "offline"\n', "").replace('axes = {{ controller = ["tap", "uniform"] }}', axes)
    path.write_text(text.format())
    _, planned = read_study(path)
    results = {
        cell.key: Result(cell.key, "", {"fitness": i / 10, "not executable": 0.25}, {"a": i / 10, "b": 0.5}, (0.1, 0.2),
                         {"1-10": 0.2, "11-12": i / 10})
        for i, cell in enumerate(planned[0].cells)
    }  # fmt: skip
    whole, generators, population, broken = tables_of(planned, results)
    assert (whole.number, generators.number, population.number, broken.number) == (None, 9, 11, 12)
    # Cells 0, 1: offline, 2; 2, 3: offline, 5; 4, 5: openai/x, 2; 6, 7: openai/x, 5.
    row = dict(whole.rows)["openai/x", "2"]
    assert [item.mean for item in row] == pytest.approx([0.45, 25, 0.4])
    assert row[0].deviation == pytest.approx(0.0707107)
    assert row[-1].deviation == pytest.approx(0)
    assert generators.columns == ("Run 1", "Run 2", "Average")
    assert [item.mean for item in dict(generators.rows)["offline", "5"]] == pytest.approx([35, 40, 37.5])
    assert population.columns == ("population=2", "population=5")
    assert [item.mean for item in dict(population.rows)["a", "openai/x"]] == pytest.approx([45, 65])
    assert [item.mean for item in dict(population.rows)["b", "offline"]] == pytest.approx([50, 50])
    assert [item.mean for item in dict(broken.rows)["offline", "2"]] == pytest.approx([20, 5])
    drawn = drawn_table(planned[0], {planned[0].cells[0].key: [0.5, 0.6], planned[0].cells[1].key: [0.7, 0.6]}, "n")
    assert [item.mean for item in drawn.rows[0][1]] == pytest.approx([60, 60, 7.0710678])
    assert timed_table([(0.1, 0.2), (0.3, 0.4)]).rows[1][1][-1].mean == pytest.approx(0.3)
    assert figure([]) == figure([float("nan")])
    assert whole.shown(figure([])) == "-"
