"""What comes back in the next call has 16 bits: LSTMs of one step a call, exact on devices and near the float ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import stateful
import tapc
from e2e.settings import few
from tapc.data import Samples
from tapc.flow.sequences import random_steps, with_states
from tapc.flow.widths import widened
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.lower import lower
from tapc.lower.codes import input_codes, values
from tapc.lower.states import carried
from tapc.quantize import calibrate, evaluate, quantize, uniform_bits

STATE = {"h": "hn", "c": "cn"}
STEPS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> FloatModel:
    return load(stateful.lstm(tmp_path_factory.mktemp("lstm") / "lstm.onnx"), state=STATE)


@pytest.fixture(scope="module")
def samples(model: FloatModel) -> Samples:
    drawn = random_steps(model.onnx, 4 * STEPS, 0, -2.0, 2.0)
    return with_states(replace(drawn, x=drawn.x[: 3 * STEPS], steps=STEPS), model.onnx)


def widths(model: FloatModel, samples: Samples, options: tapc.Options) -> dict[str, int]:
    calibration = calibrate(model, samples.x, seed=0)
    network = widened(model, analyse(model.onnx, "lstm"), calibration, samples.x, options).network
    return {tensor: group.bits for group in network.groups for tensor in group.tensors}


@pytest.mark.parametrize("board", ["stm32h7", "pico"])
def test_firmware_is_exact(board: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(0, 1, (6, 6, 5)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=(x.sum(axis=(1, 2)) > 0).astype(np.int64))
    path = stateful.lstm(tmp_path / "lstm.onnx")
    options = few(tapc.Options(), board, calibration=24, eval=12)
    pairs = [f"{name}={after}" for name, after in STATE.items()]
    report = tapc.compile(
        path, board=board, data=tmp_path / "d.npz", state=pairs, output=tmp_path / "b", options=options
    ).report
    assert report.exact
    assert [(own.name, own.bytes) for own in report.states] == [("h", 12), ("c", 12)]
    assert any(note.startswith("16-bit activations, which come back") for note in report.warnings)
    assert {"dense16", "sigmoid16", "tanh16", "multiply16", "add16"} <= {layer.op for layer in report.layers}


def test_states_gates_and_what_they_make_have_16_bits(model: FloatModel, samples: Samples, tmp_path: Path) -> None:
    found = widths(model, samples, tapc.Options())
    assert {"h", "c", "hn", "cn"} <= {name for name, bits in found.items() if bits == 16}
    assert {found[name] for name in ("x", "y")} == {8}
    (tmp_path / "bits.toml").write_text('[activations]\n"c" = 8\n')
    named = widths(model, samples, tapc.Options(overrides=tmp_path / "bits.toml"))
    assert named["c"] == named["cn"] == 8
    assert {name for name in found if named[name] != found[name]} >= {"c", "cn"}
    assert set(widths(model, samples, tapc.Options(granularity="channel")).values()) == {8}


def test_an_input_that_is_joined_with_a_state_stays_narrow(tmp_path: Path) -> None:
    path = stateful.joined(tmp_path / "joined.onnx")
    model = load(path, state={"h": "h_out"})
    found = {name: group.bits for group in analyse(model.onnx, "n").groups for name in group.tensors}
    assert (found["x"], found["h"], found["h_out"], found["y"]) == (8, 16, 16, 8)
    samples = with_states(random_steps(model.onnx, STEPS, 0, -2.0, 2.0), model.onnx)
    np.savez(tmp_path / "d.npz", x=samples.x[:40, :5].reshape(2, 20, 5), y=np.array([0, 1]))
    options = few(tapc.Options(), "pico", calibration=20, eval=12)
    report = tapc.compile(
        path, board="pico", data=tmp_path / "d.npz", state=["h=h_out"], output=tmp_path / "b", options=options
    ).report
    assert report.exact
    assert "requantize16" in {layer.op for layer in report.layers}


def test_nothing_drifts_away_over_many_steps(model: FloatModel, samples: Samples) -> None:
    calibration, network = calibrate(model, samples.x, seed=0), analyse(model.onnx, "lstm")
    made = quantize(model, network, uniform_bits(network, 8, 8), calibration, x=samples.x)
    program = lower(made.onnx, "lstm", "float", "dsp").reference
    found = values(program, carried(program, input_codes(program, samples.x), STEPS)[1])
    exact = evaluate(model.onnx, samples, optimized=False)
    error = np.square(found - exact[:, : found.shape[1]]).reshape(-1, STEPS, found.shape[1])
    power = np.square(exact).mean()
    last, first = (10 * np.log10(power / error[:, part].mean()) for part in (slice(-10, None), slice(None, 10)))
    assert min(first, last) > 30
    assert last > first - 3
