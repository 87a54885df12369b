"""A network over time, from an ONNX file to firmware that takes frame after frame."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import tapc
import temporal
from e2e.settings import few
from tapc.base.errors import UsageError
from tapc.base.progress import Stages
from tapc.flow.evaluation import evaluate_build
from tapc.flow.rerun import open_build
from tapc.report.streaming import stream_lines

BOARD = "microbit"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, rng = tmp_path_factory.mktemp("data") / "d.npz", np.random.default_rng(0)
    x = np.cumsum(rng.normal(0, 0.5, (20, 10, 10)), axis=1).astype(np.float32)
    np.savez(path, x=x, y=np.arange(20) % 6)
    return path


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tapc.Result:
    folder = tmp_path_factory.mktemp("build")
    onnx.save(temporal.ds_cnn(10), folder / "net.onnx")
    options = few(tapc.Options(wbits=(8,), stream="auto"), BOARD, eval=30)
    return tapc.compile(folder / "net.onnx", board=BOARD, data=data, output=folder / "b", options=options)


def test_a_step_is_built_proved_and_reported(result: tapc.Result) -> None:
    report = result.report
    assert report.exact
    own = report.stream
    assert own is not None
    assert (own.frames, own.hop, own.steps, own.warm_up, own.compared) == (10, 1, 10, 9, 3)
    assert own.macs * 2 < own.whole_macs
    assert report.macs == own.macs
    rings = {tensor.name: tensor.bytes for tensor in report.memory.tensors}
    assert own.ring_bytes == sum(ring.bytes for ring in own.rings)
    assert {ring.bytes for ring in own.rings} <= set(rings.values())
    assert report.memory.arena.measured == report.memory.arena.predicted
    assert "times as many" in stream_lines(own)[0]
    assert "rings" in (result.output / "report.html").read_text()
    assert report.accuracy.sqnr_db is not None
    assert report.accuracy.sqnr_db > 10


def test_evaluation_takes_windows_and_long_sequences(result: tapc.Result, data: Path, tmp_path: Path) -> None:
    found = evaluate_build(result.output, data, samples=None, everything=True, seed=None, stages=Stages())
    assert found.samples == 200
    assert found.exact
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(0, 1, (2, 30, 10)).astype(np.float32))
    samples = open_build(result.output).samples(tmp_path / "x.npy", None, "all", 0)
    assert (samples.steps, len(samples.x)) == (30, 60)


def test_options_for_whole_networks_are_refused(result: tapc.Result, data: Path, tmp_path: Path) -> None:
    onnx.save(temporal.ds_cnn(10), tmp_path / "net.onnx")
    given = {"board": BOARD, "data": data, "output": tmp_path / "b", "stream": "auto"}
    with pytest.raises(UsageError, match="--abits"):
        tapc.compile(tmp_path / "net.onnx", abits=(4, 8), **given)
    with pytest.raises(UsageError, match="keeps states"):
        tapc.compile(result.output / "float.onnx", state=_pairs(result), **given)
    with pytest.raises(UsageError, match="train the network as a whole"):
        tapc.compile(tmp_path / "net.onnx", train=(data,), **given)


def _pairs(result: tapc.Result) -> dict[str, str]:
    return {own.input: own.output for own in result.model.states}
