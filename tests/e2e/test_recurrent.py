"""Recurrent layers from a source to firmware: both directions, one behind the other, exact with and without DSP."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph_builder import Model
from kernels.twin import run_twin
from tapc.device.verify import device_inputs, reference_outputs, verify
from tapc.frontend.canonical import canonical_form
from tapc.graph.analysis import analyse
from tapc.graph.network import Bits
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.quantize import calibrate, quantize
from tapc.quantize.model import QuantizedModel

STEPS = 6


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (12, 4, 1, STEPS)).astype(np.float32)


@pytest.fixture(scope="module")
def made(x: np.ndarray) -> QuantizedModel:
    """Return an LSTM of both directions, a GRU over what it gives, and an RNN, at 4, 8 and 2 bits."""
    rng, nodes, constants = np.random.default_rng(0), [], []

    def layer(op: str, source: str, inputs: int, units: int, gates: int, directions: int = 1, **more: object) -> str:
        shapes = (
            (directions, gates * units, inputs),
            (directions, gates * units, units),
            (directions, 2 * gates * units),
        )
        names = [f"{op}.{part}" for part in "WRB"]
        for name, shape in zip(names, shapes, strict=True):
            constants.append(numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name))
        nodes.append(helper.make_node(op, [source, *names], [f"{op}.y"], name=op, hidden_size=units, **more))
        nodes.append(helper.make_node("Transpose", [f"{op}.y"], [f"{op}.t"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"{op}.t", f"{op}.shape"], [f"{op}.z"]))
        constants.append(numpy_helper.from_array(np.array([STEPS, 1, directions * units]), f"{op}.shape"))
        return f"{op}.z"

    y = layer("LSTM", "x", 4, 5, 4, 2, direction="bidirectional")
    y = layer("GRU", y, 10, 6, 3, direction="reverse", linear_before_reset=1)
    y = layer("RNN", y, 6, 3, 1)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [info("x", TensorProto.FLOAT, (STEPS, 1, 4))], [info(y, TensorProto.FLOAT, None)], constants
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = Model(canonical_form(source).onnx)
    network = analyse(model.onnx, "net")
    widths = {layer.name: (4, 8, 2)[i % 3] for i, layer in enumerate(network.layers)}
    assert len(widths) == 8
    bits = Bits(widths, dict.fromkeys(range(len(network.groups)), 8))
    return quantize(model, network, bits, calibrate(model, x, seed=0), x=x, rounding="nearest")


@pytest.mark.parametrize("board_name", ["nrf52840dk", "pico"])
def test_every_step_is_exact(board_name: str, made: QuantizedModel, x: np.ndarray) -> None:
    board = load_board(board_name)
    target = load_target(board.core)
    network = lower(made.onnx, "net", target.requantize, target.isa)
    codes = input_codes(network.program, x[:3])
    expected = reference_outputs(network, codes)
    assert len(np.unique(expected)) > 10
    found = verify(network, run_twin(network, board, device_inputs(network, codes), layers=3), codes, expected=expected)
    assert found.mismatch is None, found.mismatch
    assert {"lstm", "gru", "rnn"} <= {step.op.kind(step.spec) for step in network.steps}
