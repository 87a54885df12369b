"""tapc measure and --device serial:PORT, with boards that QEMU plays behind pseudo-terminals."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

import tapc
from device.emulated import PROBE, EmulatedBoard
from graph_builder import residual
from search.tiny import tiny_setup, tiny_table
from tapc.base.errors import DataError, ToolError
from tapc.cli import main
from tapc.flow.losses import save_losses
from tapc.flow.measuring import MEASURED, measure_build
from tapc.hardware.board import shipped

BOARD = "mps3-an547"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    onnx.save(residual().onnx, folder / "net.onnx")
    options = tapc.Options(wbits=(8,), calibration=8, eval=2, rounding="nearest", equalize=False)
    tapc.compile(folder / "net.onnx", board=BOARD, data="random", output=folder / "b", options=options)
    return folder / "b"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedBoard]:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with EmulatedBoard(BOARD, tmp_path) as played:
        yield played


def test_a_build_on_its_board(build: Path, board: EmulatedBoard) -> None:
    board.flash(build / "firmware.elf")
    made = measure_build(build, board.port, samples=3, repeats=4)
    report = json.loads((build / "report.json").read_text())
    assert (made.samples, made.runs, made.provenance) == (3, 7, "measured(serial)")
    assert [layer.name for layer in made.layers] == [layer["name"] for layer in report["layers"]]
    assert [layer.instructions for layer in made.layers] == [layer["instructions"] for layer in report["layers"]]
    assert all(layer.exact for layer in made.layers)
    assert sum(layer.cycles for layer in made.layers) > 0  # QEMU's SysTick stands still where its timer is served late
    assert 0 <= made.least <= made.median <= made.most
    assert made.milliseconds == pytest.approx(1e3 * made.median / 32_000_000)
    kept = json.loads((build / MEASURED).read_text())
    assert kept["timing"]["counter"] == "systick"
    shown = CliRunner().invoke(main, ["measure", str(build), "--port", board.port, "--samples", "1", "--json"])
    assert json.loads(shown.stdout)["samples"] == 1
    ran = CliRunner().invoke(main, ["run", str(build), "--device", f"serial:{board.port}", "--samples", "2"])
    assert "2 samples bit-exact" in ran.output
    assert "ms at 32 MHz" in ran.output


def test_another_image(build: Path, board: EmulatedBoard, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(build, other)
    board.flash(build / "firmware.elf")
    with (other / "firmware.bin").open("r+b") as image:
        image.seek(-100, 2)
        image.write(b"x")
    with pytest.raises(DataError, match=r"the board's flash \(image\) differs from firmware\.bin: CRC-32 [0-9a-f]{8}"):
        measure_build(other, board.port, samples=1)


def test_nothing_is_plugged_in(build: Path, board: EmulatedBoard) -> None:
    with pytest.raises(ToolError, match="port /dev/nowhere cannot be opened"):
        measure_build(build, "/dev/nowhere")
    with pytest.raises(ToolError, match="no board answers: nothing came"):
        measure_build(build, board.port)


def test_a_search_on_a_board_that_is_unplugged(
    board: EmulatedBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every configuration is flashed and measured; without the board the search ends with a reason, and goes on."""
    text = (shipped("boards") / f"{BOARD}.toml").read_text().replace("\n[[memory]]", PROBE + "\n[[memory]]", 1)
    (tmp_path / "played.toml").write_text(text)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # nothing was measured before
    setup = tiny_setup(tmp_path)
    model, data = tmp_path / "tiny.onnx", tmp_path / "tiny.npz"
    table = tmp_path / "tiny.json.gz"
    save_losses(tiny_table(setup), table)
    run = tmp_path / "run"
    arguments = [
        "search", str(model), "--board", str(tmp_path / "played.toml"), "--data", str(data), "--llm", "offline",
        "--generations", "0", "--population", "1", "--wbits", "8", "--target-bits", "8", "--calibration", "64",
        "--table", str(table), "-o", str(run), "--device", f"serial:{board.port}",
    ]  # fmt: skip
    refused = CliRunner().invoke(main, [*arguments, "--jobs", "2"])
    assert "a board runs one image at a time" in refused.output
    board.lifetime = 300
    failed = CliRunner().invoke(main, arguments)
    assert failed.exit_code == 6
    assert "no board answers" in failed.output
    board.lifetime = None
    ended = CliRunner().invoke(main, ["search", "--resume", str(run), "--json"])
    assert ended.exit_code == 0, ended.output
    measured = json.loads(ended.stdout)
    assert measured["measured"] > 0
    assert board.flashed >= measured["measured"]
