"""tapc report and tapc compare."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from report.test_page import times
from tapc.base.errors import DataError, UsageError
from tapc.base.output import PAGE, check_replaceable
from tapc.cli import main
from tapc.flow.comparing import compare_builds
from tapc.flow.measuring import MEASURED
from tapc.flow.pages import renew_page


@pytest.fixture
def build(pico_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_build, tmp_path / "b"))


def changed(build: Path, **values: Any) -> None:
    report = json.loads((build / "report.json").read_text())
    (build / "report.json").write_text(json.dumps(report | values))


def measure(build: Path, **values: Any) -> None:
    """Keep what a board might have measured of a build."""
    names = tuple(row["name"] for row in json.loads((build / "report.json").read_text())["layers"])
    digest = hashlib.sha256((build / "firmware.bin").read_bytes()).hexdigest()
    made = times(names).model_dump(mode="json") | {"firmware": digest} | values
    (build / MEASURED).write_text(json.dumps(made))


def test_every_build_has_a_page_that_is_made_again(build: Path) -> None:
    first = (build / PAGE).read_text()
    report = json.loads((build / "report.json").read_text())
    flash = report["memory"]["regions"][0]
    assert flash["name"] == "flash"
    assert flash["parts"] == {
        "network": report["memory"]["flash"]["measured"], "support": report["memory"]["support"]
    }  # fmt: skip
    assert report["memory"]["arena"]["measured"] in [r["parts"].get("arena") for r in report["memory"]["regions"]]
    assert "net" in first
    assert renew_page(build).read_text() == first
    measure(build)
    result = CliRunner().invoke(main, ["report", str(build)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(build / PAGE)
    assert "2.000 ms" in (build / PAGE).read_text()
    check_replaceable(build)  # the next compilation takes it for its own
    assert json.loads(CliRunner().invoke(main, ["report", str(build), "--json"]).stdout) == {"page": str(build / PAGE)}


@pytest.mark.parametrize(("values", "note"), [
    ({"firmware": "0" * 64}, "measured.json is of another image"), ({"median": "?"}, "measured.json is damaged"),
    ({"timing": {"hz": 0, "rated_hz": 1, "counter": "dwt"}}, "measured.json is damaged"),
])  # fmt: skip
def test_measurements_of_something_else_are_not_shown(build: Path, values: dict[str, Any], note: str) -> None:
    measure(build, **values)
    text = renew_page(build).read_text()
    assert note in text
    assert "2.000 ms" not in text


def test_damaged_builds(build: Path, tmp_path: Path) -> None:
    changed(build, exact_samples="many", later=1)
    with pytest.raises(DataError, match=r"report\.json: exact_samples: .*compile the network again"):
        renew_page(build)
    with pytest.raises(DataError, match="holds no tapc build"):
        compare_builds(tmp_path / "none", build)
    with pytest.raises(UsageError, match="the same build"):
        compare_builds(build, build)


def test_numbers_that_no_float_holds(build: Path, pico_build: Path) -> None:
    changed(build, instructions=10**400)
    for arguments in (["report", str(build)], ["compare", str(pico_build), str(build)]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == DataError.exit_code
        assert "too large" in result.output


def test_two_builds_side_by_side(build: Path, pico_build: Path, tmp_path: Path) -> None:
    report = json.loads((build / "report.json").read_text())
    layers = report["layers"]
    layers[0] |= {"w_bits": 4, "predicted_instructions": 2 * layers[0]["predicted_instructions"]}
    layers[1]["name"] = "[bold]other\x1b"
    changed(build, layers=layers, predicted_instructions=3 * report["predicted_instructions"], average_weight_bits=4.0)
    measure(build)
    made = compare_builds(pico_build, build)
    figures = {figure.name: figure for figure in made.figures}
    assert figures["instructions (predicted)"].change == pytest.approx(200.0)
    assert figures["weight bits, average"].change == pytest.approx(-50.0)
    assert (figures["milliseconds (measured)"].first, figures["milliseconds (measured)"].second) == (None, 2.0)
    assert "instructions" not in figures  # nothing ran
    pairs = {pair.name: pair for pair in made.layers}
    changed_layer = pairs[layers[0]["name"]]
    assert changed_layer.first is not None
    assert changed_layer.second is not None
    assert (changed_layer.first.w_bits, changed_layer.second.w_bits) == (8, 4)
    assert changed_layer.change == pytest.approx(100.0)
    assert changed_layer.second.instructions == 2 * changed_layer.first.instructions
    assert pairs["[bold]other\x1b"].first is None
    assert (len(made.layers), made.same) == (3, len(layers) - 2)
    result = CliRunner().invoke(main, ["compare", str(pico_build), str(build)])
    assert result.exit_code == 0, result.output
    for shown in ("+200.0 %", "-50.0 %", "[bold]other\\x1b", "+100.0 %", "(predicted)", "milliseconds (measured)"):
        assert shown in result.output
    parsed = json.loads(CliRunner().invoke(main, ["compare", str(pico_build), str(build), "--json"]).stdout)
    assert [layer["name"] for layer in parsed["layers"]] == [pair.name for pair in made.layers]
    assert parsed["networks"] == ["net", "net"]
    changed(build, board="microbit")
    assert "of different boards: pico and microbit" in compare_builds(pico_build, build).notes[0]
