"""Integer LSTMs of TFLite files, kept as they are: every byte that TFLite-Micro gives, with states of 8 and 16 bits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels.twin import run_twin
from tapc.base.errors import UnsupportedError
from tapc.cost.sample import random_steps
from tapc.device.verify import device_inputs, sequences, verify
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.lower import Lowered, lower
from tapc.lower.plan import plan
from tapc.lower.reference import execute
from tapc.operators.lstm_loop import looped
from tapc.operators.lstm_steps import LstmSteps
from tapc.quantize.keep import keep
from tflite_micro_files import Int8Builder, Quantization

STEPS, INPUTS, UNITS = 24, 5, 7


def lstm(
    file: Path, steps: int = 1, cell: float = 2.0**-11, clip: float = 0.0, gain: float = 1.0, major: bool = False
) -> Path:
    """Write two integer LSTMs, one behind the other, and a dense layer."""
    rng = np.random.default_rng(0)
    b = Int8Builder(1, steps, INPUTS, quantization=Quantization(0.04, -10))

    def weights(rows: int, columns: int, scale: float) -> int:
        index = b.constant(rng.integers(-127, 128, (rows, columns)).astype(np.int8))
        b.quantize(index, np.array([scale * gain], np.float32), 0)
        return index

    def layer(x: int, inputs: int, q: Quantization) -> int:
        scales = rng.uniform(0.008, 0.03, 8)
        given = [weights(UNITS, inputs, scale) for scale in scales[:4]]
        state = [weights(UNITS, UNITS, scale) for scale in scales[4:]]
        biases = []
        for scale in scales[:4]:
            biases.append(b.constant(rng.integers(-900, 900, UNITS).astype(np.int32)))
            b.quantize(biases[-1], np.array([b.scale(x) * scale * gain], np.float32), 0)
        variables = [b.tensor((1, UNITS), f"v{len(b.graph.tensors)}", dtype) for dtype in ("int8", "int16")]
        b.scaled(variables[0], q)
        b.quantize(variables[1], np.array([cell], np.float32), 0)
        for index in variables:
            b.graph.tensors[index].isVariable = True
        operands = [x, *given, *state, *[-1] * 3, *biases, -1, -1, *variables, *[-1] * 4]
        options = {"fusedActivationFunction": 4, "cellClip": clip, "timeMajor": major}
        return b.node(
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            operands,
            (1, steps, UNITS),
            q,
            "UnidirectionalSequenceLSTMOptions",
            **options,
        )

    y = layer(layer(b.input, INPUTS, Quantization(1 / 128, -4)), UNITS, Quantization(0.0062, 3))
    dense, shape = rng.integers(-127, 128, (3, UNITS)).astype(np.int8), (steps, 3)
    options = {"table": "FullyConnectedOptions"}
    file.write_bytes(b.finish(b.layer("FULLY_CONNECTED", y, dense, np.array([0.02], np.float32), 0, shape,
                                      Quantization(0.02, 5), **options)))  # fmt: skip
    return file


def kept(path: Path, mode: str = "tflite", isa: str = "dsp") -> tuple[FloatModel, Lowered]:
    model = load(path)
    assert model.given is not None
    made = keep(model, analyse(model.onnx, model.name), model.given)
    return model, lower(made.onnx, "live", mode, isa)  # type: ignore[arg-type]


def rows(model: FloatModel, x: np.ndarray) -> np.ndarray:
    """Return inputs with room for the states."""
    size = sum(port.size for port in model.inputs[1:])
    return np.concatenate([x.reshape(len(x), -1).astype(np.int64), np.zeros((len(x), size), np.int64)], axis=1)


def micro(blob: bytes, x: np.ndarray) -> np.ndarray:
    module = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro")
    interpreter, found = module.Interpreter.from_bytes(blob, arena_size=1 << 21), []
    for step in x:
        interpreter.set_input(step.reshape(interpreter.get_input_details(0)["shape"]), 0)
        interpreter.invoke()
        found.append(np.array(interpreter.get_output(0)).reshape(-1).astype(np.int64))
    return np.array(found)


@pytest.mark.parametrize(("cell", "clip", "gain"), [(2.0**-11, 0.0, 1.0), (2.0**-12, 2.5, 3.0), (2.0**-14, 0.0, 1.0)])
def test_every_byte_equals_tflite_micro(cell: float, clip: float, gain: float, tmp_path: Path) -> None:
    path = lstm(tmp_path / "net.tflite", cell=cell, clip=clip, gain=gain)
    x = np.random.default_rng(1).integers(-128, 128, (STEPS, INPUTS)).astype(np.int8)
    model, network = kept(path)
    _, found = sequences(network, rows(model, x), len(x))
    expected = micro(path.read_bytes(), x)
    assert len(np.unique(expected)) > 20
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)
    assert [state.name.split(".")[1] for state in network.program.states] == ["hidden", "cell"] * 2
    assert [network.program.tensors[state.before].bits for state in network.program.states] == [8, 16] * 2


def test_noise_suppression_equals_tflite_micro(shared_data: Path) -> None:
    path = shared_data / "networks" / "tflm__dtln_noise_suppression.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    x = np.random.default_rng(0).integers(-128, 128, (STEPS, 257)).astype(np.int8)
    x[:8] = np.random.default_rng(1).integers(-128, -100, (8, 257))
    model, network = kept(path)
    _, found = sequences(network, rows(model, x), len(x))
    np.testing.assert_array_equal(found[:, :257], micro(path.read_bytes(), x))


@pytest.mark.parametrize(
    ("board_name", "mode", "steps"),
    [("nrf52840dk", "tflite", 1), ("pico", "", 1), ("nrf52840dk", "", 3), ("pico", "tflite", 3)],
)
def test_firmware_is_exact(board_name: str, mode: str, steps: int, tmp_path: Path) -> None:
    board = load_board(board_name)
    target = load_target(board.core)
    path = lstm(tmp_path / "net.tflite", steps, cell=2.0**-12, clip=2.5, gain=3.0)
    model, network = kept(path, mode or target.requantize, target.isa)
    x = np.random.default_rng(2).integers(-128, 128, (6, steps * INPUTS)).astype(np.int8)
    codes, expected = sequences(network, rows(model, x), len(x))
    run = run_twin(network, board, device_inputs(network, codes), layers=len(x))
    found = verify(network, run, codes, expected=expected)
    assert found.mismatch is None, found.mismatch
    kinds = {"dense16", "add16", "multiply16", "sigmoid16", "tanh16"} if steps == 1 else {"lstm16"}
    assert kinds <= {s.op.kind(s.spec) for s in network.steps}


@pytest.mark.parametrize(("cell", "clip", "gain"), [(2.0**-11, 0.0, 1.0), (2.0**-12, 2.5, 3.0)])
def test_several_steps_of_a_call_equal_tflite_micro(cell: float, clip: float, gain: float, tmp_path: Path) -> None:
    path = lstm(tmp_path / "net.tflite", 3, cell, clip, gain)
    x = np.random.default_rng(3).integers(-128, 128, (5, 3 * INPUTS)).astype(np.int8)
    model, network = kept(path)
    codes, found = sequences(network, rows(model, x), len(x))
    expected = micro(path.read_bytes(), x)
    assert len(np.unique(expected)) > 20
    np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)
    kinds = [step.op.kind(step.spec) for step in network.steps]
    assert kinds.count("lstm16") == 2  # weights are there once
    assert not {"dense16", "sigmoid16"} & set(kinds)
    # The loop, and the operators of each step that it stands for, with the states that other calls leave.
    assert len(network.reference.ops) > 50
    np.testing.assert_array_equal(execute(network.program, codes), found)


def test_random_loops_in_firmware() -> None:
    program, steps = random_steps(8, "tflite", "scalar", 5, group="lstm16", given=True)
    program = replace(program, outputs=tuple(op.output for op in program.ops))
    network = Lowered(program, steps, plan(program, steps, rounds=0), program)
    rng, inputs = np.random.default_rng(0), [program.tensors[name] for name in program.inputs]
    codes = np.concatenate([rng.integers(t.low, t.high + 1, (2, int(np.prod(t.shape)))) for t in inputs], axis=1)
    run = run_twin(network, load_board("pico"), device_inputs(network, codes), layers=2)
    found = verify(network, run, codes)
    assert found.mismatch is None, found.mismatch
    assert len({op.units for op in program.ops if isinstance(op, LstmSteps)}) > 4


def test_steps_that_another_one_reads_stay_operators(tmp_path: Path) -> None:
    _, network = kept(lstm(tmp_path / "net.tflite", 3))
    program = network.reference
    inner = next(op.output for op in program.ops if op.name.endswith("0.0.f"))
    found = looped(replace(program, outputs=(*program.outputs, inner)))
    assert [op.name for op in found.ops if isinstance(op, LstmSteps)] == ["lstm_1"]


def test_batches_of_sequences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="only sequences of a batch of one"):
        load(lstm(tmp_path / "net.tflite", steps=3, major=True))
