"""A network that keeps something between calls, from an ONNX file to firmware that runs sequences."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import stateful
import tapc
from device.emulated import EmulatedBoard
from e2e.settings import few
from tapc.base.errors import MismatchError, UnsupportedError
from tapc.base.progress import Stages
from tapc.device import DeviceRun
from tapc.device.verify import run_sequences, sequences, verify
from tapc.flow.evaluation import evaluate_build
from tapc.flow.export import export
from tapc.flow.measuring import measure_build
from tapc.flow.npu import compile_for_npu
from tapc.flow.rerun import Build, open_build, rerun
from tapc.flow.showing import describe
from tapc.hardware.board import load_board
from tapc.lower.codes import random_codes

BOARD = "netduinoplus2"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, rng = tmp_path_factory.mktemp("data") / "d.npz", np.random.default_rng(0)
    x = np.cumsum(rng.normal(0, 0.5, (12, 6, 6)), axis=1).astype(np.float32)
    np.savez(path, x=x, y=(x[:, :, 0].sum(axis=1) > 0).astype(np.int64))
    return path


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tapc.Result:
    folder = tmp_path_factory.mktemp("build")
    path = stateful.cell(folder / "gate.onnx", lead=(2, 1), kept=3)
    options = few(tapc.Options(), BOARD, calibration=36, eval=24)
    return tapc.compile(path, board=BOARD, data=data, state=["h_in=h_out"], output=folder / "b", options=options)


@pytest.fixture(scope="module")
def build(result: tapc.Result) -> Build:
    return open_build(result.output)


def test_every_layer_of_several_steps_is_proved(result: tapc.Result) -> None:
    report = result.report
    assert report.exact
    assert report.exact_samples == 8
    assert report.accuracy.samples == 24
    assert [(own.name, own.bytes) for own in report.states] == [("h_in", 12)]
    assert report.memory.arena.measured == report.memory.arena.predicted
    assert "12 B of the arena between calls" in (result.output / "report.html").read_text()
    plan = describe(result.output, "plan")
    assert "state: 12 B of the arena between calls (h_in 12); gate_reset() begins anew" in plan
    assert "keeps 'h_in' between calls" in report.without_tflite
    assert "accuracy" in report.accuracy.scores["device"] or "top1" in report.accuracy.scores["device"]


def test_accuracy_is_that_of_the_ends_of_sequences(result: tapc.Result, data: Path) -> None:
    found = evaluate_build(result.output, data, samples=None, everything=True, seed=None, stages=Stages())
    assert found.samples == 72
    assert found.exact
    exact = {executor.name: executor.top1 for executor in found.executors}
    assert exact["float"] is not None
    assert min(abs(exact["float"] * 12 / 100 - n) for n in range(13)) < 1e-6  # of twelve sequences


@pytest.mark.parametrize("device", ["qemu", "unicorn"])
def test_sequences_of_any_length_on_the_device(build: Build, device: str) -> None:
    if device == "unicorn":
        pytest.importorskip("unicorn")
    network = build.lowered()
    codes = random_codes(network.program, 12, 3)
    outputs = []
    for steps in (12, 4):
        run, proved = build.prove(network, codes, 6, Stages(), device, steps)
        assert proved.exact
        assert len(run.outputs) == 12
        outputs.append(run.outputs)
    np.testing.assert_array_equal(outputs[0][:4], outputs[1][:4])
    assert (outputs[0][4:] != outputs[1][4:]).any()


class Stuck:
    """A device that ignores resets after the first: it goes on with the state of the last step."""

    def __init__(self, run: DeviceRun, ever: np.ndarray) -> None:
        self._run, self._ever = run, ever

    def run(self, inputs: np.ndarray, *, layers: int, progress: object, period: int) -> DeviceRun:
        assert period == len(inputs) - 1
        return replace(self._run, outputs=self._ever[: len(inputs)])


def test_a_device_that_forgets_or_never_begins_anew_is_found(build: Build) -> None:
    network = build.lowered()
    codes = random_codes(network.program, 9, 3)
    codes[8] = codes[0]
    whole, expected = sequences(network, codes, 9)
    run = build.run(network, codes, 8, steps=9)
    assert verify(network, run, whole, expected=expected).exact
    forgets = build.run(network, codes, 0, steps=1)
    assert not verify(network, forgets, whole, expected=expected).exact
    with pytest.raises(MismatchError, match=r"after gate_reset\(\) the first step gives other outputs"):
        run_sequences(Stuck(run, run.outputs), network, codes[:8], 8, layers=0)  # type: ignore[arg-type]


def test_runs_again(result: tapc.Result) -> None:
    again = rerun(result.output, data=None, samples=9, seed=0, all_layers=True, stages=Stages())
    assert all(step.exact for step in again.layers)


def test_an_npu_takes_none(result: tapc.Result) -> None:
    with pytest.raises(UnsupportedError, match="keeps 'h_in' between calls"):
        compile_for_npu(result.output, load_board("mps3-an547"))


def test_a_board_that_is_measured_goes_on_from_inference_to_inference(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with EmulatedBoard(BOARD, tmp_path) as board:
        board.flash(build.folder / "firmware.elf")
        for source in (None, "random"):  # sequences of six steps, and one of twelve
            made = measure_build(build.folder, board.port, data=source, samples=12, repeats=2)
            assert (made.samples, made.runs) == (12, 14)
            assert all(layer.exact for layer in made.layers)


def test_a_package_begins_anew_before_it_checks_itself(result: tapc.Result, tmp_path: Path) -> None:
    (package,) = export(result.output, "single-file")
    text = (package.folder / "example" / "gate_check.h").read_text()
    assert text.index("gate_reset();") < text.index("gate_run();")
    assert "call `gate_reset()` before the first" in (package.folder / "README.md").read_text()
    sources = [str(path) for path in sorted(package.folder.rglob("*.c"))]
    flags = ("-ffp-contract=off", "-fno-strict-aliasing", f"-I{package.folder}")
    subprocess.run(["gcc", *flags, *sources, "-o", str(tmp_path / "check"), "-lm"], check=True)
    done = subprocess.run([str(tmp_path / "check")], capture_output=True, text=True, check=True)
    assert done.stdout == "gate: exact\n"
