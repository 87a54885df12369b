"""TFLite's RNN, and RNN and LSTM of both directions, against LiteRT."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import tapc
from frontend.canonical_form import assert_canonical
from frontend.tflite_builder import TfliteBuilder, check_steps, litert
from tapc.base.errors import UnsupportedError
from tapc.frontend import load

STEPS, INPUTS, UNITS = 6, 5, 7
TANH, RELU = 4, 1


def variable(b: TfliteBuilder) -> int:
    index = b.tensor((1, UNITS))
    b.graph.tensors[index].isVariable = True
    return index


def rnn(b: TfliteBuilder, inputs: int = INPUTS) -> list[int]:
    """Return weights, recurrent weights, bias and state of a direction."""
    return [b.weights(UNITS, inputs), b.weights(UNITS, UNITS), b.weights(UNITS), variable(b)]


def network(
    kind: str, *, steps: int = STEPS, extra: tuple[int, ...] = (), major: bool = False, **options: Any
) -> bytes:
    """Return a network of one such layer and a tanh; `extra` are inputs that no tapc layer has."""
    b = TfliteBuilder(1, steps, INPUTS)
    x = b.reshape(b.input, steps, 1, INPUTS) if major else b.input
    given = {"fusedActivationFunction": TANH, "timeMajor": major} | options
    if kind == "UNIDIRECTIONAL_SEQUENCE_RNN":
        inputs, table = [x, *rnn(b)], "SequenceRNNOptions"
    elif kind == "BIDIRECTIONAL_SEQUENCE_RNN":
        inputs, table = [x, *rnn(b), *rnn(b), *[-1] * 3], "BidirectionalSequenceRNNOptions"
    else:
        inputs, table = [x], "BidirectionalSequenceLSTMOptions"
        for _ in range(2):
            inputs += [b.weights(UNITS, width) for width in [INPUTS] * 4 + [UNITS] * 4]
            inputs += [-1] * 3 + [b.weights(UNITS) for _ in range(4)] + [-1] * 2
        inputs += [variable(b) for _ in range(4)] + [-1] * 9
    for position in extra:
        inputs[position] = b.weights(UNITS)
    both = kind.startswith("BI")
    width = UNITS * (2 if both and given.get("mergeOutputs") else 1)
    outcome = (steps, 1, width) if major else (1, steps, width)
    made = b.operator(kind, inputs, outcome, table, **given)
    results = [made]
    if both and not given.get("mergeOutputs"):
        results.append(b.tensor(outcome))
        b.graph.operators[-1].outputs = list(results)
    if len(results) == 2:
        made = b.operator("MUL", results, outcome, "MulOptions")
    made = b.reshape(made, 1, steps, width) if major else made
    return b.finish(b.operator("TANH", [made], (1, steps, width)))


@pytest.mark.parametrize(("kind", "options", "layers"), [
    ("UNIDIRECTIONAL_SEQUENCE_RNN", {}, ["RNN"]),
    ("UNIDIRECTIONAL_SEQUENCE_RNN", {"fusedActivationFunction": RELU, "major": True}, ["RNN"]),
    ("BIDIRECTIONAL_SEQUENCE_RNN", {"mergeOutputs": True}, ["RNN"] * 2),
    ("BIDIRECTIONAL_SEQUENCE_RNN", {"fusedActivationFunction": RELU}, ["RNN"] * 2),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", {"mergeOutputs": True, "cellClip": 10.0}, ["LSTM"] * 2),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", {"major": True}, ["LSTM"] * 2),
])  # fmt: skip
def test_equals_litert(kind: str, options: dict[str, Any], layers: list[str], tmp_path: Path) -> None:
    blob = network(kind, **options)
    (tmp_path / "net.tflite").write_bytes(blob)
    loaded = load(str(tmp_path / "net.tflite"))
    assert_canonical(loaded.onnx)
    assert [node.op_type for node in loaded.onnx.graph.node if node.op_type in ("LSTM", "RNN")] == layers
    session = ort.InferenceSession(loaded.onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    (inlet,), (outlet,) = loaded.inputs, loaded.outputs
    shape = (1, STEPS, INPUTS)
    rng = np.random.default_rng(1)
    for x in (rng.normal(0, 1, shape), rng.normal(0, 10, shape), np.zeros(shape), rng.choice([-1e4, 0, 1e4], shape)):
        expected = litert(blob, x.astype(np.float32))
        (found,) = session.run(None, {inlet.name: inlet.canonical(x.astype(np.float32))})
        np.testing.assert_allclose(outlet.restored(found).reshape(expected.shape), expected, rtol=1e-4, atol=2e-5)


def test_an_rnn_of_one_step_keeps_its_state(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(network("UNIDIRECTIONAL_SEQUENCE_RNN", steps=1))
    loaded = load(str(path))
    assert [state.input for state in loaded.states] == ["rnn_0.hidden"]
    x = np.random.default_rng(0).normal(size=(8, INPUTS)).astype(np.float32)
    check_steps(loaded.onnx, path, x[:, None, None], UNITS)


@pytest.mark.parametrize(("kind", "given", "message"), [
    ("BIDIRECTIONAL_SEQUENCE_LSTM", {"extra": (9,)}, "peepholes"),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", {"extra": (33,)}, "a projection"),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", {"extra": (39,)}, "a second input"),
    ("BIDIRECTIONAL_SEQUENCE_LSTM", {"cellClip": 3.0}, "clips its cell state to 3"),
    ("BIDIRECTIONAL_SEQUENCE_RNN", {"extra": (9,)}, "a second input"),
    ("UNIDIRECTIONAL_SEQUENCE_RNN", {"fusedActivationFunction": 3}, "none of Tanh and Relu"),
])  # fmt: skip
def test_what_no_loop_computes_is_refused(kind: str, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(network(kind, **given))
    with pytest.raises(UnsupportedError, match=message):
        load(tmp_path / "net.tflite")


def test_both_directions_compile_exactly(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(network("BIDIRECTIONAL_SEQUENCE_LSTM", mergeOutputs=True))
    options = tapc.Options(wbits=(8,), calibration=8, eval=2, rounding="nearest", equalize=False)
    report = tapc.compile(
        tmp_path / "net.tflite", board="stm32h7", data="random", output=tmp_path / "b", options=options
    ).report
    assert report.exact
    assert [layer.op for layer in report.layers].count("lstm") == 2
