"""tapc boards calibrate: what boards measured predicts the time of later compilations."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner

import tapc
from flow.test_pages import changed, measure
from graph_builder import residual
from tapc.base.errors import DataError, UsageError
from tapc.cli import main
from tapc.cost.calibrated import calibration_file, load_calibration
from tapc.cost.model import load_coefficients
from tapc.flow.calibrating import calibrate_board
from tapc.flow.pages import report_of
from tapc.hardware.target import load_target

RATES = {"conv": 1.4, "pool": 2.2, "dense": 1.1}
CLOCK = {"hz": 125_000_000, "rated_hz": 125_000_000, "counter": "systick"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def build(pico_build: Path, tmp_path: Path) -> Path:
    copied = Path(shutil.copytree(pico_build, tmp_path / "b"))
    measure(copied, layers=layers(copied), timing=CLOCK)
    return copied


def layers(build: Path, times: float = 1.0) -> list[dict[str, Any]]:
    """Measure what a board would whose cycles follow the predicted instructions."""
    return [
        {"name": x.name, "cycles": round(times * RATES.get(x.op.partition("+")[0], 1.5) * x.predicted_instructions)}
        for x in report_of(build).layers
    ]


def test_later_compilations_predict_time(build: Path, tmp_path: Path) -> None:
    made, path = calibrate_board([build])
    assert path == calibration_file("pico")
    assert made.fit.factors.kinds["conv"] == pytest.approx(1.4, rel=0.05)
    assert made.fit.before.layers > 0.2
    assert made.fit.after.layers < 0.02
    assert (made.hz, made.counter, made.doubts) == (125_000_000, "systick", ())
    onnx.save(residual().onnx, tmp_path / "net.onnx")
    options = tapc.Options(wbits=(4,), calibration=8, eval=1, simulate=False, rounding="nearest", equalize=False)
    report = tapc.compile(
        tmp_path / "net.onnx", board="pico", data="random", output=tmp_path / "c", options=options
    ).report
    time = report.predicted_time
    assert time is not None
    assert time.silicon
    assert time.cycles == sum(layer.predicted_cycles or 0 for layer in report.layers)
    wanted = sum(RATES.get(x.op.partition("+")[0], 1.5) * x.predicted_instructions for x in report.layers)
    assert time.cycles == pytest.approx(wanted, rel=0.1)
    assert time.milliseconds == pytest.approx(1e3 * time.cycles / 125e6)
    assert report.provenance["predicted time"].startswith("calibrated(net): ")
    assert " ms" in (tmp_path / "c" / "report.html").read_text()
    path.write_text(path.read_text().replace('"model": "', '"model": "0'))
    none, why = load_calibration("pico", load_coefficients(load_target("cortex-m0plus").cost))
    assert none is None
    assert "is of another board or cost model and is not used" in why


def test_the_command(build: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(build, tmp_path / "b2"))
    measure(other, layers=layers(other, 1.1), timing=CLOCK)
    shown = CliRunner().invoke(main, ["boards", "calibrate", str(build), str(other)])
    assert shown.exit_code == 0, shown.output
    assert "error before, with a cycle for each instruction: " in shown.output
    assert "(one build at a time)" in shown.output
    assert "warning" not in shown.output
    found = json.loads(CliRunner().invoke(main, ["boards", "show", "pico", "--json"]).stdout)["calibration"]
    assert found["fit"]["kept_back"] == "build"
    assert found["fit"]["held_out"]["networks"] == pytest.approx(0.1, abs=0.02)
    assert "cycles calibrated(net, net): " in CliRunner().invoke(main, ["boards", "show", "pico"]).output
    kept = json.loads(CliRunner().invoke(main, ["boards", "calibrate", str(build), "--json"]).stdout)
    assert kept["file"] == str(calibration_file("pico"))
    reset = ["boards", "calibrate", "--reset", "--board", "pico", "--json"]
    assert json.loads(CliRunner().invoke(main, reset).stdout) == {"removed": kept["file"]}
    assert json.loads(CliRunner().invoke(main, reset).stdout) == {"removed": None}
    for wrong in (["--reset"], [str(build), "--reset", "--board", "pico"], [str(build), "--board", "pico"], []):
        assert CliRunner().invoke(main, ["boards", "calibrate", *wrong]).exit_code == 2


@pytest.mark.parametrize(("cycles", "spread", "doubt"), [
    (0.01, {}, r"0\.0\d cycles per instruction are fewer"),
    (1.0, {"least": 1000, "median": 4000, "most": 5000}, "1,000 to 5,000 cycles for the same network"),
])  # fmt: skip
def test_cycles_of_an_emulator(build: Path, cycles: float, spread: dict[str, Any], doubt: str) -> None:
    measure(build, layers=layers(build, cycles), timing=CLOCK, **spread)
    made, _ = calibrate_board([build])
    assert made.doubts
    assert "emulated: " in made.provenance
    shown = CliRunner().invoke(main, ["boards", "calibrate", str(build)])
    assert "its time means nothing" in " ".join(shown.output.split())
    assert any(re.search(doubt, text) for text in made.doubts)


def test_counters_that_stand_still_or_count_instructions(build: Path) -> None:
    still = [layer | {"cycles": 0} if index == 0 else layer for index, layer in enumerate(layers(build))]
    measure(build, layers=still, timing=CLOCK)
    assert calibrate_board([build])[0].doubts[0].startswith("emulated: the counter stood still in 1 of ")
    rows = json.loads((build / "report.json").read_text())["layers"]
    changed(
        build,
        layers=[row | {"instructions": cycles["cycles"]} for row, cycles in zip(rows, layers(build), strict=True)],
    )
    measure(build, layers=layers(build), timing=CLOCK)
    assert calibrate_board([build])[0].doubts == ("emulated: every layer's cycles equal its instructions",)


def test_what_cannot_calibrate(build: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name the builds"):
        calibrate_board([])
    with pytest.raises(UsageError, match="named twice"):
        calibrate_board([build, build])
    other = Path(shutil.copytree(build, tmp_path / "b2"))
    changed(other, board="pico2")
    with pytest.raises(UsageError, match="of one board, and these builds are for pico, pico2"):
        calibrate_board([build, other])
    changed(other, board="pico")
    measure(other, layers=layers(other), timing=CLOCK | {"hz": 6_000_000})
    with pytest.raises(DataError, match=r"measured at 6 MHz and 125 MHz: a calibration is of one clock"):
        calibrate_board([build, other])
    (other / "measured.json").unlink()
    with pytest.raises(DataError, match=r"there is no measured\.json: tapc measure "):
        calibrate_board([other])
    changed(build, provenance={"predicted": "model: an older one"})
    with pytest.raises(DataError, match="was predicted by another cost model of cortex-m0plus"):
        calibrate_board([build])
