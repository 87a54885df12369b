"""Loops of TFLite files, against LiteRT's reference kernels: recurrent layers, others step by step, or an error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import tapc
from frontend.canonical_form import assert_canonical
from frontend.tflite_builder import TfliteBuilder, check_refused, litert
from frontend.tflite_loops import (
    INPUTS,
    STEPS,
    UNITS,
    Cell,
    LoopBuilder,
    gru,
    gru_reset_before,
    layer,
    lstm,
    network,
    own,
    rnn,
    rnn_relu,
)  # fmt: skip
from tapc.frontend import FloatModel, load
from tflite_variables import VariablesBuilder

EXTREMES = (0.0, 1e-6, -1.0, 1e3, -1e3, 1e30)


def compare(blob: bytes, folder: Path) -> FloatModel:
    """Load a file and compare what it gives with LiteRT, on random inputs and on extreme ones."""
    path = folder / "net.tflite"
    path.write_bytes(blob)
    loaded = load(str(path))
    assert_canonical(loaded.onnx)
    assert "checked against LiteRT" in loaded.provenance
    session = ort.InferenceSession(loaded.onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    shape = (1, STEPS, INPUTS)
    given = [rng.normal(0, 1, shape), rng.normal(0, 30, shape), *(np.full(shape, value) for value in EXTREMES)]
    given.append(rng.choice([-1e4, 0, 1e4], shape))
    (inlet,) = loaded.inputs
    for x in (each.astype(np.float32) for each in given):
        moved = inlet.canonical(x) if inlet.loops else x.transpose(0, 2, 1).reshape(inlet.shape)
        (found,) = session.run(None, {inlet.name: moved})
        expected = litert(blob, x)
        if expected.ndim == 3:
            expected = expected.transpose(0, 2, 1)
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=2e-5)
    return loaded


def loops(loaded: FloatModel) -> list[str]:
    return [node.op_type for node in loaded.onnx.graph.node if node.op_type in ("LSTM", "GRU", "RNN")]


@pytest.mark.parametrize(("cell", "states", "options", "kind"), [
    (lstm, 2, {}, "LSTM"),
    (lstm, 2, {"sequence": True, "backwards": True}, "LSTM"),
    (gru, 1, {}, "GRU"),
    (gru, 1, {"sequence": True}, "GRU"),
    (gru_reset_before, 1, {"backwards": True}, "GRU"),
    (rnn, 1, {"sequence": True}, "RNN"),
    (rnn_relu, 1, {}, "RNN"),
])  # fmt: skip
def test_a_loop_is_a_layer(cell: Cell, states: int, options: dict[str, Any], kind: str, tmp_path: Path) -> None:
    loaded = compare(network(cell, states, **options), tmp_path)
    assert loops(loaded) == [kind]
    count = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    assert any(list(each.dims) == [1, count * UNITS, UNITS] for each in loaded.onnx.graph.initializer)


def test_layers_behind_each_other(tmp_path: Path) -> None:
    b = LoopBuilder(1, STEPS, INPUTS)
    y = layer(b, b.input, gru, sequence=True)
    assert loops(compare(b.finish(layer(b, y, lstm, 2)), tmp_path)) == ["GRU", "LSTM"]


def test_both_directions(tmp_path: Path) -> None:
    b = LoopBuilder(1, STEPS, INPUTS)
    both = [layer(b, b.input, rnn), layer(b, b.input, rnn, backwards=True)]
    y = b.operator("CONCATENATION", both, (1, 2 * UNITS), "ConcatenationOptions", axis=1)
    assert loops(compare(b.finish(y), tmp_path)) == ["RNN", "RNN"]


@pytest.mark.parametrize(("cell", "states", "options"), [
    (own, 1, {}),
    (own, 1, {"sequence": True, "backwards": True}),
    (gru, 1, {"initial": 0.25}),  # a state that does not begin with zeros
    (rnn, 1, {"sequence": True, "initial": -0.5}),
])  # fmt: skip
def test_other_loops_are_written_step_by_step(cell: Cell, states: int, options: dict[str, Any], tmp_path: Path) -> None:
    loaded = compare(network(cell, states, **options), tmp_path)
    assert not loops(loaded)
    tanh = [node for node in loaded.onnx.graph.node if node.op_type == "Tanh"]
    assert len(tanh) >= STEPS


def without_a_number() -> bytes:
    return network(own, limit=0.5)


def of_many_steps() -> bytes:
    return network(own, steps=3000)


def of_another_runtime() -> bytes:
    b = TfliteBuilder(1, 4)
    made = b.operator("CUSTOM", [b.input], (1, 4))
    b.model.operatorCodes[-1].customCode = b"FlexTensorListReserve"
    return b.finish(made)


def without_values() -> bytes:
    """Return what Keras 3 is converted to by `from_concrete_functions` of a function and a model."""
    b = VariablesBuilder(TfliteBuilder(1, 4))
    kernel = b.read(b.variable("dense/kernel", np.zeros((1, 4), np.float32)))
    return b.net.finish(b.net.operator("ADD", [b.net.input, kernel], (1, 4), "AddOptions"))


@pytest.mark.parametrize(("build", "message"), [
    (without_a_number, "its number of steps is computed from the network's input"),
    (of_many_steps, "its 3000 steps would be"),
    (of_another_runtime, "operator FlexTensorListReserve runs in TensorFlow alone"),
    (without_values, "variable 'dense/kernel' is read, but the file gives it no value"),
])  # fmt: skip
def test_what_no_loop_can_be_made_of_is_refused(build: Callable[[], bytes], message: str, tmp_path: Path) -> None:
    check_refused(build(), message, tmp_path)


def test_a_loop_compiles_exactly(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(network(gru, sequence=True))
    options = tapc.Options(wbits=(4,), calibration=8, eval=2, rounding="nearest", equalize=False)
    report = tapc.compile(path, board="stm32h7", data="random", output=tmp_path / "b", options=options).report
    assert report.exact
    assert "gru" in [layer.op for layer in report.layers]
