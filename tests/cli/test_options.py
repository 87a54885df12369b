"""Commands that read data take the same options, and mean the same by them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from graph_builder import residual
from tapc.base.errors import DataError, UsageError
from tapc.base.options import Source
from tapc.cli import main
from tapc.data import PixelUnits
from tapc.flow.accuracy import evidence_of, parse_setting, trials, with_bits
from tapc.flow.rerun import Build
from tapc.frontend import load
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.search.options import SearchOptions
from tapc.search.run import GeneratorOptions, Request

UNITS = {"--data", "--pixel-scale", "--mean", "--std", "--seed", "--json", "--quiet"}
MODEL = UNITS | {"--weights", "--input-shape", "--calibration"}
TESTED = MODEL | {"--test-data"}


def options_of(words: str) -> set[str]:
    command = main
    for word in words.split():
        command = command.commands[word]  # type: ignore[attr-defined,assignment]
    return {text for parameter in command.params for text in parameter.opts}


@pytest.mark.parametrize(("command", "expected"), [
    ("compile", TESTED), ("finetune", TESTED), ("bench accuracy", TESTED | {"--pin", "--overrides"}),
    ("pareto", TESTED | {"--pin", "--overrides"}), ("search", MODEL), ("proxies score", MODEL), ("run", UNITS),
    ("eval", UNITS),
])  # fmt: skip
def test_commands_that_read_data_take_the_same_options(command: str, expected: set[str]) -> None:
    assert expected <= options_of(command)


@pytest.mark.parametrize("command", [
    "compile x.onnx --board pico", "bench accuracy x.onnx", "pareto x.onnx --board pico",
    "proxies score sqnr --model x.onnx", "run b", "eval b",
])  # fmt: skip
def test_their_values_are_checked_alike(command: str) -> None:
    for option, value in (("--pixel-scale", "0"), ("--mean", "a"), ("--std", "nan")):
        result = CliRunner().invoke(main, [*command.split(), option, value])
        assert result.exit_code == 2
        assert option in result.stderr


def test_input_shapes_are_checked() -> None:
    for value in ("1,3,x", "", "1,0,3", "1,-3"):
        result = CliRunner().invoke(main, ["compile", "x.onnx", "--board", "pico", "--input-shape", value])
        assert result.exit_code == 2
        assert "1,3,32,32" in result.stderr


def build(report: dict) -> Build:
    return Build(Path("b"), {"seed": 3, "pixel_scale": 1.0} | report, residual().onnx)


def test_a_build_knows_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "t.npz"):
        np.savez(tmp_path / name, x=np.zeros((2, 3, 12, 12), np.uint8))
    assert build({"samples": {"data": "a.npz", "test_data": None, "dataset": ""}}).default_data() == (
        Path("a.npz"),
        False,
    )
    assert build({"samples": {"data": "a.npz", "test_data": "t.npz"}}).default_data() == (Path("t.npz"), True)
    found, whole = build({"samples": {"data": None, "test_data": None, "dataset": "cifar10"}}).default_data()
    assert found.name == "cifar10-sample.zip"
    assert not whole
    with pytest.raises(DataError, match=r"gone.npz, which is not there; give samples with --data"):
        build({"samples": {"data": "gone.npz"}}).default_data()
    with pytest.raises(DataError, match="give samples with --data"):
        build({}).default_data()


def test_units_of_a_build_can_be_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((2, 3, 12, 12), 100, np.uint8))
    made = build({"units_given": True})
    other = made.with_units(Source(pixel_scale=0.5, mean=(10.0,), std=(4.0,)))
    assert made.samples(tmp_path / "a.npz", None, "all", 0).x.max() == 100
    assert other.samples(tmp_path / "a.npz", None, "all", 0).x.max() == 10
    assert made.with_units(Source()) is made
    with pytest.raises(UsageError, match=r"--std -1\.0: deviations must be positive"):
        made.with_units(Source(std=(-1.0,))).samples(tmp_path / "a.npz", None, "all", 0)


def test_pins_and_overrides_hold_for_settings(tmp_path: Path) -> None:
    onnx.save(residual().onnx, tmp_path / "net.onnx")
    model = load(tmp_path / "net.onnx")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).random((40, *model.input_shape[1:])).astype(np.float32),
             y=np.arange(40) % 4)  # fmt: skip
    board = load_board("stm32h7")
    target = load_target(board.core)
    trial = next(trials(model, tmp_path / "d.npz", seeds=1, first=5, calibration=12, equalize=False))
    assert trial.seed == 5
    names = [layer.name for layer in trial.network.layers]
    _, pinned = with_bits(trial, evidence_of(trial, "uniform", "nearest", "both"), parse_setting("w4a8"), board, target)
    assert [pinned.weights[name] for name in names] == [8, *[4] * (len(names) - 2), 8]
    (tmp_path / "o.toml").write_text(f'[weights]\n"{names[1]}" = 2\n')
    _, manual = with_bits(
        trial,
        evidence_of(trial, "uniform", "nearest", "none", tmp_path / "o.toml"),
        parse_setting("w4a8"),
        board,
        target,
    )
    assert [manual.weights[name] for name in names] == [4, 2, *[4] * (len(names) - 2)]


def test_a_search_reads_networks_as_it_is_told() -> None:
    request = Request(
        models=("a", "b"), board="pico", weights=("w.pt",), pixel_scale=0.5, mean=(1.0,), std=(2.0,),
        generator=GeneratorOptions(llm="offline"), options=SearchOptions(),
    )  # fmt: skip
    assert request.source(0) == Source(Path("w.pt"), None, 0.5, (1.0,), (2.0,))
    assert request.source(1).weights is None
    assert PixelUnits(0.5, (1.0,), (2.0,)).apply(np.full((1, 1), 10.0)) == 2.0
