"""Integer SVDFs of TFLite files, kept as they are: every byte that TFLite-Micro gives, with states of 8 and 16 bits."""

from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from kernels.twin import run_twin
from quantize.test_keep_lstm import kept, rows
from tapc.base.errors import UnsupportedError
from tapc.device.verify import device_inputs, sequences, verify
from tapc.frontend import load
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tflite_micro_files import Int8Builder, Quantization

STEPS, INPUTS = 30, 6
INT16, INT32 = 7, 2


class Builder(Int8Builder):
    """Networks with inputs and results of 16 bits, and SVDFs."""

    def __init__(self, batch: int = 1, seed: int = 0) -> None:
        super().__init__(batch, INPUTS, quantization=Quantization(0.001, 0), seed=seed)
        self.graph.tensors[self.input].type = INT16

    def changed(self, x: int, shape: tuple[int, ...], q: Quantization, kind: int, op: str = "QUANTIZE") -> int:
        table, options = ("SoftmaxOptions", {"beta": 1.0}) if op == "SOFTMAX" else ("QuantizeOptions", {})
        index = self.node(op, [x], shape, q, table, **options)
        self.graph.tensors[index].type = kind
        return index

    def svdf(self, x: int, units: int, rank: int, memory: int, state: tuple[Quantization, bool], y: Quantization,
             *, picked: bool = False) -> int:  # fmt: skip
        """Add an SVDF; `picked`: each filter gives what it gave in one of the last steps, code for code."""
        q, wide = state
        batch, inputs = self.graph.tensors[x].shape
        features = self.constant(self.rng.integers(-127, 128, (units * rank, inputs)).astype(np.int8))
        self.quantize(features, np.array([0.0061], np.float32), 0)
        most = 32767 if wide else 127
        drawn = self.rng.integers(-most, most + 1, (units * rank, memory))
        if picked:
            drawn = np.eye(memory, dtype=np.int64)[np.arange(units * rank) % memory] * most
            scale = y.scale / q.scale / most
        else:
            scale = 60 * y.scale / (q.scale * most * np.sqrt(memory * rank) * (5000 if wide else 12))
        filters = self.constant(drawn.astype(np.int16 if wide else np.int8))
        self.quantize(filters, np.array([scale], np.float32), 0)
        unit = np.float32(q.scale) * np.float32(scale)
        bias = self.rng.integers(-10, 10, units) * float(0 if picked else y.scale / unit)
        biases = self.constant(bias.astype(np.int32))
        self.quantize(biases, np.array([unit], np.float32), 0)
        shape, name = (batch, units * rank * memory), f"s{len(self.graph.tensors)}"
        kept_state = self.tensor(shape, name, "int16" if wide else "int8")
        self.scaled(kept_state, q)
        self.graph.tensors[kept_state].isVariable = True
        operands = [x, features, filters, biases, kept_state]
        return self.node("SVDF", operands, (batch, units), y, "SVDFOptions", rank=rank, fusedActivationFunction=1)


def network(file: Path, wide: bool, rank: int = 1, batch: int = 1, seed: int = 0) -> Path:
    """Write two SVDFs behind each other, a dense layer and a softmax; outputs are what lies between, too."""
    b = Builder(batch, seed)
    x = b.changed(b.input, (batch, INPUTS), Quantization(0.03, -20), 9)
    state = Quantization(0.0006, 0) if wide else Quantization(0.2, 17)
    first = b.svdf(x, 5, rank, 7, (state, wide), Quantization(0.05, -4))
    second = b.svdf(first, 4, 1, 9, (state, wide), Quantization(0.04, -128))
    weights = b.rng.integers(-127, 128, (3, 4)).astype(np.int8)
    dense = b.layer("FULLY_CONNECTED", second, weights, np.array([0.004], np.float32), 0, (batch, 3),
                    Quantization(0.03, 5), table="FullyConnectedOptions")  # fmt: skip
    shares = b.changed(dense, (batch, 3), Quantization(1 / 65535, -32768), INT16, "SOFTMAX")
    last = b.changed(shares, (batch, 3), Quantization(1 / 32768, 0), INT32)
    short = b.changed(dense, (batch, 3), Quantization(0.0002, 11), INT16)
    file.write_bytes(b.finish(last, first, second, dense, short))
    return file


def inputs(steps: int = STEPS, width: int = INPUTS, largest: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(1)
    x = rng.integers(-largest, largest, (steps, width))
    x[steps // 2] = rng.choice([-32768, 32767], width)
    return x.astype(np.int16)


def micro(blob: bytes, x: np.ndarray) -> np.ndarray:
    """Return the values of all outputs of all steps."""
    module = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro")
    count = schema.Model.GetRootAs(blob, 0).Subgraphs(0).OutputsLength()
    interpreter, found = module.Interpreter.from_bytes(blob, arena_size=1 << 20), []
    for step in x:
        interpreter.set_input(step.reshape(interpreter.get_input_details(0)["shape"]), 0)
        interpreter.invoke()
        parts = [np.array(interpreter.get_output(index)).reshape(-1) for index in range(count)]
        found.append(np.concatenate(parts).astype(np.int64))
    return np.array(found)


@pytest.mark.parametrize(("wide", "rank"), [(True, 1), (True, 2), (False, 1), (False, 3)])
def test_every_byte_equals_tflite_micro(wide: bool, rank: int, tmp_path: Path) -> None:
    path, x = network(tmp_path / "net.tflite", wide, rank), inputs()
    expected = micro(path.read_bytes(), x)
    assert min(len(np.unique(part)) for part in (expected[:, :3], expected[:, 3:8], expected[:, 8:12])) > 20
    model, lowered = kept(path)
    _, found = sequences(lowered, rows(model, x), len(x))
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)
    program = lowered.program
    assert [state.name for state in program.states] == ["svdf_1.steps", "svdf_2.steps"]
    assert [program.tensors[state.before].bits for state in program.states] == [16 if wide else 8] * 2
    assert [program.tensors[name].bits for name in (program.given[0], program.results[0])] == [16, 32]


@pytest.mark.parametrize("wide", [True, False])
def test_every_code_of_a_state_equals_tflite_micro(wide: bool, tmp_path: Path) -> None:
    b, x = Builder(), inputs(largest=2000)
    codes = b.changed(b.input, (1, INPUTS), Quantization(0.03, -20), 9)
    state = Quantization(0.011, 0) if wide else Quantization(0.1, 9)
    y = b.svdf(codes, 12, 1, 4, (state, wide), Quantization(state.scale, 0), picked=True)
    path = tmp_path / "net.tflite"
    path.write_bytes(b.finish(y))
    expected = micro(path.read_bytes(), x)
    model, lowered = kept(path)
    _, found = sequences(lowered, rows(model, x), len(x))
    outputs, states = found[:, :12], found[:, 12:].reshape(len(x), 4, 12) - state.zero
    np.testing.assert_array_equal(outputs, expected)
    own = np.stack([states[:, filter_ % 4, filter_] for filter_ in range(12)], axis=1)
    np.testing.assert_array_equal(np.clip(own, -128, 127), expected)
    assert len(np.unique(expected)) > (100 if wide else 30)


@pytest.mark.parametrize("name", ["tflm__keyword_scrambled.tflite", "tflm__keyword_scrambled_8bit.tflite"])
def test_keyword_networks_equal_tflite_micro(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "networks" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    # Its softmax is all but constant: what lies between is compared, too.
    graph.outputs = [*graph.outputs, *(op.outputs[0] for op in graph.operators[:-2])]
    packer = flatbuffers.Builder(1 << 16)
    packer.Finish(model.Pack(packer), b"TFL3")
    whole = tmp_path / "whole.tflite"
    whole.write_bytes(bytes(packer.Output()))
    x = inputs(24, 96, 30000)
    expected = micro(whole.read_bytes(), x)
    loaded, lowered = kept(whole)
    _, found = sequences(lowered, rows(loaded, x), len(x))
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)


@pytest.mark.parametrize(
    ("board_name", "mode", "wide"), [("nrf52840dk", "tflite", True), ("pico", "", True), ("pico", "tflite", False)]
)
def test_firmware_is_exact(board_name: str, mode: str, wide: bool, tmp_path: Path) -> None:
    board = load_board(board_name)
    target = load_target(board.core)
    model, lowered = kept(network(tmp_path / "net.tflite", wide, 2), mode or target.requantize, target.isa)
    x = inputs(10)
    codes, expected = sequences(lowered, rows(model, x), len(x))
    run = run_twin(lowered, board, device_inputs(lowered, codes), layers=len(x))
    found = verify(lowered, run, codes, expected=expected)
    assert found.mismatch is None, found.mismatch
    kinds = {s.op.kind(s.spec) for s in lowered.steps}
    assert {"requantize16", "softmax", *({"dense16", "filter16"} if wide else {"depthwise"})} <= kinds, kinds


def test_several_steps_of_a_call_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="only one step of each call"):
        load(network(tmp_path / "net.tflite", True, batch=2))
