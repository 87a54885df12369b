"""TFLite files with variables, kept as they are: every byte that TFLite-Micro gives, of outputs and states."""

from pathlib import Path

import numpy as np
import pytest

from tapc.base.errors import UnsupportedError
from tapc.device.verify import sequences
from tapc.frontend import FloatModel, load
from tapc.frontend.tflite_reader import parse
from tapc.frontend.tflite_variables import without_variables
from tapc.graph.analysis import analyse
from tapc.lower import Lowered, lower
from tapc.quantize.keep import keep
from tflite_micro_files import Int8Builder, Quantization
from tflite_variables import VariablesBuilder, streaming
from thorough import thorough

STEPS = 24


def kept(path: Path) -> tuple[FloatModel, Lowered]:
    model = load(path)
    assert model.given is not None
    made = keep(model, analyse(model.onnx, model.name), model.given)
    return model, lower(made.onnx, "live", "tflite", "dsp")


def micro(blob: bytes, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what TFLite-Micro gives and what it assigns, step by step."""
    module = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro")
    everything = module.InterpreterConfig.kPreserveAllTensors
    interpreter = module.Interpreter.from_bytes(blob, arena_size=1 << 20, intrepreter_config=everything)
    graph = without_variables(parse(blob, ""), {})
    outputs, states = [], []
    for step in x:
        interpreter.set_input(step.reshape(interpreter.get_input_details(0)["shape"]), 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0)).reshape(-1).astype(np.int64))
        values = [interpreter.GetTensor(own.after, 0) for own in graph.variables]
        values = [np.array(value["tensor_data"] if isinstance(value, dict) else value) for value in values]
        states.append(np.concatenate([value.reshape(-1) for value in values]))
    return np.array(outputs), np.array(states)


def equal(path: Path, x: np.ndarray, offset: int = 0) -> None:
    model, network = kept(path)
    outputs, states = micro(path.read_bytes(), x)
    port = model.inputs[0]
    rows = port.canonical(x)
    rows = (rows.transpose(0, 2, 3, 1) if rows.ndim == 4 else rows).reshape(len(x), -1).astype(np.int64)
    size = sum(other.size for other in model.inputs[1:])
    _, found = sequences(network, np.concatenate([rows, np.zeros((len(x), size), np.int64)], axis=1), len(x))
    np.testing.assert_array_equal(found[:, : outputs.shape[1]] + offset, outputs)
    np.testing.assert_array_equal(found[:, outputs.shape[1] :], states)


@pytest.mark.parametrize("begun", [False, True])
def test_streaming_layers_equal_tflite_micro(begun: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "net.tflite").write_bytes(streaming(rng if begun else None))
    equal(tmp_path / "net.tflite", rng.integers(-128, 128, (STEPS, 4)).astype(np.int8))


def test_windows_need_no_copies(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(streaming())
    _, network = kept(tmp_path / "net.tflite")
    program, plan = network.program, network.plan
    assert len(program.states) == 2
    assert not [op for op in program.ops if type(op).__name__ == "Keep"]
    for own in program.states:
        assert plan.offsets[own.before] == plan.offsets[own.after]
    assert plan.size < 2 * sum(program.tensors[own.before].bytes for own in program.states) + 24


@pytest.mark.parametrize(
    "name",
    [
        "esphome__vad",
        thorough("esphome__alexa"),
        thorough("pypi_pymicro-wakeword__okay_nabu"),
        thorough("pypi_pymicro-wakeword__hey_jarvis"),
    ],
)
def test_microwakeword_equals_tflite_micro(name: str, shared_data: Path) -> None:
    path, rng = shared_data / "networks" / f"{name}.tflite", np.random.default_rng(0)
    if not path.exists():
        pytest.skip(f"{path} is not there")
    shape = load(path).inputs[0].source[1:]
    x = rng.integers(-128, 128, (STEPS, *shape)).astype(np.int8)
    x[:8] = rng.integers(-128, -110, x[:8].shape)
    equal(path, x, 128)


def fed(blob: bytes, x: np.ndarray, count: int, states: dict[int, tuple[int, np.ndarray]]) -> tuple[np.ndarray, ...]:
    """Return so many outputs of TFLite-Micro; some are inputs of the next call: input -> output, first value."""
    module = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro")
    interpreter = module.Interpreter.from_bytes(blob, arena_size=1 << 20)
    now, found = {index: first for index, (_, first) in states.items()}, []
    (given,) = set(range(len(states) + 1)) - set(states)
    for step in x:
        interpreter.set_input(step.reshape(interpreter.get_input_details(given)["shape"]), given)
        for index, value in now.items():
            interpreter.set_input(value.reshape(interpreter.get_input_details(index)["shape"]), index)
        interpreter.invoke()
        outputs = [np.array(interpreter.get_output(k)) for k in range(count)]
        now = {index: outputs[own] for index, (own, _) in states.items()}
        found.append([output.reshape(-1).astype(np.int64) for output in outputs])
    return tuple(np.stack(own) for own in zip(*found, strict=True))


def test_pairs_of_inputs_and_outputs_at_two_scales(tmp_path: Path) -> None:
    q, other = Quantization(0.05, 3), Quantization(0.08, -11)
    b = Int8Builder(1, 4, quantization=q)
    h = b.scaled(b.tensor((1, 4), name="h", dtype="int8"), other)
    b.graph.inputs = [h, b.input]
    total = b.node("ADD", [b.input, h], (1, 4), q, "AddOptions")
    y = b.node("ADD", [total, b.input], (1, 4), Quantization(0.1, 0), "AddOptions")
    path = tmp_path / "net.tflite"
    path.write_bytes(b.finish(total, y))
    name = b.graph.tensors[total].name.decode()
    model = load(path, state={"h": name})
    assert [port.name for port in model.inputs] == ["in", "h"]
    assert model.given is not None
    made = keep(model, analyse(model.onnx, model.name), model.given)
    network = lower(made.onnx, "live", "tflite", "dsp")
    x = np.random.default_rng(0).integers(-128, 128, (STEPS, 4)).astype(np.int8)
    _, found = sequences(network, np.concatenate([x.astype(np.int64), np.zeros((STEPS, 4), np.int64)], axis=1), STEPS)
    state = np.full(4, other.zero)
    for step, row in zip(x, found, strict=True):  # one call of TFLite-Micro for each: codes change their scale between
        outputs = fed(path.read_bytes(), step[None], 2, {0: (0, state.astype(np.int8))})
        np.testing.assert_array_equal(row[:4], outputs[1][0])
        real = (outputs[0][0] - q.zero) * q.scale
        assert np.abs(row[4:] - (real / other.scale + other.zero)).max() <= 0.5 + 1e-4
        state = row[4:]


def test_rnnoise_equals_tflite_micro(shared_data: Path) -> None:
    path = shared_data / "networks" / "mlonmcu__rnnoise_INT8.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    names = {"vad_gru": "Identity_3_int8", "noise_gru": "Identity_2_int8", "denoise_gru": "Identity_int8"}
    model = load(path, state={f"{gru}_prev_state_int8": output for gru, output in names.items()})
    assert model.given is not None
    rng = np.random.default_rng(0)
    ranges = rng.normal(size=(8, 42 + 168)).astype(np.float32)  # of what the file leaves as real values
    made = keep(model, analyse(model.onnx, model.name), model.given, ranges)
    network = lower(made.onnx, "live", "tflite", "dsp")
    x = rng.integers(-128, 128, (STEPS, 42)).astype(np.int8)
    first = {1: (3, np.full(24, -1, np.int8)), 2: (2, np.full(48, -128, np.int8)), 3: (0, np.full(96, -1, np.int8))}
    outputs = fed(path.read_bytes(), x, 5, first)
    _, found = sequences(network, np.concatenate([x.astype(np.int64), np.zeros((STEPS, 168), np.int64)], axis=1), STEPS)
    np.testing.assert_array_equal(found, np.concatenate([outputs[k] for k in (1, 4, 3, 2, 0)], axis=1))


def test_a_variable_that_never_changes_is_told(tmp_path: Path) -> None:
    q = Quantization(0.1, 0)
    b = VariablesBuilder(Int8Builder(1, 4, quantization=q))
    past = b.read(b.variable("v", np.zeros((1, 4), np.int8), q))
    (tmp_path / "net.tflite").write_bytes(b.finish(b.net.node("ADD", [b.net.input, past], (1, 4), q, "AddOptions")))
    with pytest.raises(UnsupportedError, match="variable 'v' is read and never assigned"):
        load(tmp_path / "net.tflite")
