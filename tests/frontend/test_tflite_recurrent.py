"""TFLite's fused LSTM, against LiteRT's reference kernels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from frontend.canonical_form import assert_canonical
from frontend.tflite_builder import TfliteBuilder, check_steps
from tapc.base.errors import UnsupportedError
from tapc.frontend import load
from tapc.quantize.runtime import carried

STEPS, INPUTS, UNITS = 6, 5, 7


def lstm(
    file: Path, *, steps: int = STEPS, missing: tuple[int, ...] = (), extra: tuple[int, ...] = (), **options: Any
) -> str:
    """Write a network of one LSTM; return the file's name."""
    b = TfliteBuilder(1, steps, INPUTS)
    inputs = [b.input, *(b.weights(UNITS, INPUTS) for _ in range(4)), *(b.weights(UNITS, UNITS) for _ in range(4))]
    inputs += [-1] * 3 + [b.weights(UNITS) for _ in range(4)] + [-1] * 2
    for name in ("h", "c"):
        inputs.append(b.tensor((1, UNITS), name))
        b.graph.tensors[inputs[-1]].isVariable = True
    inputs += [-1] * 4
    for position in extra:
        inputs[position] = b.weights(UNITS)
    for position in missing:
        inputs[position] = -1
    given = {"fusedActivationFunction": 4, "cellClip": 10.0} | options
    shape = (1, steps, UNITS)
    made = b.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, shape, "UnidirectionalSequenceLSTMOptions", **given)
    file.write_bytes(b.finish(b.operator("TANH", [made], shape)))
    return str(file)


def test_a_fused_lstm_equals_litert(tmp_path: Path) -> None:
    loaded = load(lstm(tmp_path / "net.tflite"))
    assert_canonical(loaded.onnx)
    assert "checked against LiteRT" in loaded.provenance
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-5
    assert [node.op_type for node in loaded.onnx.graph.node] == [
        "Conv", "Reshape", "Transpose", "LSTM", "Transpose", "Tanh",
    ]  # fmt: skip


def test_one_step_of_each_call_keeps_its_states(tmp_path: Path) -> None:
    path = lstm(tmp_path / "net.tflite", steps=1)
    loaded = load(path)
    assert "LiteRT's LSTM keeps them to itself" in loaded.provenance
    assert [state.input for state in loaded.states] == ["lstm_0.hidden", "lstm_0.cell"]
    x = np.random.default_rng(0).normal(size=(8, INPUTS)).astype(np.float32)
    _, found = carried(loaded.onnx, x, len(x), optimized=False)
    interpreter = Interpreter(model_path=path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for step, own in zip(x, found, strict=True):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], step.reshape(1, 1, INPUTS))
        interpreter.invoke()
        expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).reshape(-1)
        np.testing.assert_allclose(own[:UNITS], expected, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2])
def test_an_svdf_keeps_its_steps(rank: int, tmp_path: Path) -> None:
    b, path, filters, memory = TfliteBuilder(1, INPUTS), tmp_path / "net.tflite", 3 * rank, 4
    inputs = [b.input, b.weights(filters, INPUTS), b.weights(filters, memory), b.weights(3)]
    inputs.append(b.tensor((1, filters * memory), "s"))
    b.graph.tensors[inputs[-1]].isVariable = True
    path.write_bytes(b.finish(b.operator("SVDF", inputs, (1, 3), "SVDFOptions", rank=rank, fusedActivationFunction=1)))
    loaded = load(str(path))
    assert [state.input for state in loaded.states] == ["svdf_0.steps"]
    x = np.random.default_rng(0).normal(size=(8, INPUTS)).astype(np.float32)
    check_steps(loaded.onnx, path, x[:, None], 3)


@pytest.mark.parametrize(("given", "message"), [
    ({"extra": (9,)}, "peepholes"),
    ({"extra": (16,)}, "a projection"),
    ({"extra": (21,)}, "layer normalization"),
    ({"missing": (1,)}, "coupled to the forget gate"),
    ({"cellClip": 3.0}, "clips its cell state to 3"),
    ({"fusedActivationFunction": 1}, "none of Tanh"),
])  # fmt: skip
def test_what_no_loop_computes_is_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=message):
        load(lstm(tmp_path / "net.tflite", **given))
