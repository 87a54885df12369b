"""Recurrent layers: gates against float64, sources against onnxruntime, long sequences, and what is refused.

Random instances of every cell, in torch, integers and C: `test_every_operator.py`.
"""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph_builder import Model
from tapc.base.arithmetic.gates import sigmoid16, tanh16
from tapc.base.errors import UnsupportedError
from tapc.data import Samples
from tapc.finetune import Training, finetune
from tapc.frontend.canonical import canonical_form
from tapc.frontend.verify import arranged, onnx_runner, source_error
from tapc.graph.analysis import Graph, analyse
from tapc.kernels.layout import Plane
from tapc.kernels.recurrent import RecurrentSpec
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.lower.reference import execute
from tapc.operators.recurrent import Recurrent
from tapc.quantize import calibrate, evaluate, layer_distortion, quantize, uniform_bits
from tapc.quantize.alone import measured_losses
from tapc.quantize.sensitivity import proxy_context

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    op: str, steps: int = 5, inputs: int = 4, units: int = 6, output: int = 0, extra: dict[int, Any] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """Return a network of one node over (T, 1, inputs), or (1, T, inputs) with layout 1; `output` is what is used."""
    rng, rows = np.random.default_rng(3), GATES[op] * units
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    parts: dict[int, Any] = {
        place: rng.uniform(-1, 1, (directions, *shape)).astype(np.float32) / np.float32(np.sqrt(units) / 1.5)
        for place, shape in enumerate(((rows, inputs), (rows, units), (2 * rows,)), 1)
    } | (extra or {})
    names = [f"c{place}" if place in parts else "" for place in range(1, max(parts) + 1)]
    results = [f"r{place}" if place == output else "" for place in range(output + 1)]
    node = helper.make_node(op, ["x", *names], results, name="layer", hidden_size=units, **attributes)
    first = bool(attributes.get("layout"))
    own = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, steps, inputs) if first else (steps, 1, inputs))
    result = helper.make_tensor_value_info(results[output], TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(np.asarray(value), f"c{place}") for place, value in parts.items()]
    graph = helper.make_graph([node], "net", [own], [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_gates_are_near_what_they_stand_for() -> None:
    x = np.arange(-32768, 32768)
    assert np.abs(sigmoid16(x) / 2**15 - 1 / (1 + np.exp(-x / 2**12))).max() < 3.11e-5
    assert np.abs(tanh16(x) / 2**15 - np.tanh(x / 2**12)).max() < 4.6e-5
    assert np.abs(tanh16(x, 1) / 2**15 - np.tanh(x / 2**11)).max() < 4.6e-5
    assert np.abs(tanh16(x, -2) / 2**15 - np.tanh(x / 2**14)).max() < 1.2e-4
    assert (np.diff(sigmoid16(x)) >= 0).all()
    assert (np.diff(tanh16(x)) >= 0).all()


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "more"), [
    ("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {}),
    ("RNN", {"activations": ["Relu"]}),
])  # fmt: skip
def test_sources_equal_onnxruntime(op: str, more: dict[str, Any], direction: str) -> None:
    if "activations" in more and direction == "bidirectional":
        more = {"activations": ["Relu", "Tanh"]}
    for output in (0, 1):
        model = recurrent(op, output=output, direction=direction, **more)
        found = canonical_form(model)
        run = arranged(found.inputs, found.outputs, onnx_runner(model, 5))
        assert run is not None
        assert source_error(found.onnx, run, None, 0) < 1e-5


def test_batch_first_is_another_arrangement_alone() -> None:
    # onnxruntime runs no such layout.
    rows = [canonical_form(recurrent("GRU", layout=layout)).onnx for layout in (0, 1)]
    x = np.random.default_rng(0).normal(size=(2, 4, 1, 5)).astype(np.float32)
    first, second = (evaluate(model, x, optimized=False) for model in rows)
    assert np.array_equal(first.reshape(2, -1), second.reshape(2, -1))


@pytest.mark.parametrize(("op", "extra", "more", "message"), [
    ("LSTM", {7: np.ones((1, 18), np.float32)}, {}, "peepholes"),
    ("LSTM", {}, {"clip": 3.0}, "clips its gates to 3"),
    ("LSTM", {}, {"input_forget": 1}, "coupled to the forget gate"),
    ("LSTM", {5: np.full((1, 1, 6), 0.5, np.float32)}, {}, "initial hidden state .* is not zero"),
    ("GRU", {4: np.array([3], np.int32)}, {}, "sequences of different lengths"),
    ("GRU", {}, {"activations": ["HardSigmoid", "Tanh"]}, "activations HardSigmoid, Tanh; .* has Sigmoid, Tanh"),
    ("RNN", {}, {"activations": ["Softsign"]}, "has activations Softsign"),
])  # fmt: skip
def test_refused(op: str, extra: dict[int, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        canonical_form(recurrent(op, extra=extra, **more))
    with pytest.raises(UnsupportedError, match="its cell state 'r2' is read"):
        canonical_form(recurrent("LSTM", output=2))


def test_zeros_and_whole_lengths_say_nothing() -> None:
    plain = canonical_form(recurrent("LSTM")).onnx
    zeros = {4: np.array([5], np.int32), 5: np.zeros((1, 1, 6), np.float32), 6: np.zeros((1, 1, 6), np.float32)}
    assert canonical_form(recurrent("LSTM", extra=zeros | {7: np.zeros((1, 18), np.float32)})).onnx == plain


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(("op", "more"), [
    ("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {"activations": ["Relu"]}),
])  # fmt: skip
def test_one_step_from_states_that_are_given(op: str, more: dict[str, Any], direction: str) -> None:
    count, directions = (2 if op == "LSTM" else 1), 2 if direction == "bidirectional" else 1
    more = {key: value * directions if isinstance(value, list) else value for key, value in more.items()}
    model = recurrent(op, steps=1, output=count, direction=direction, **more)
    node = model.graph.node[0]
    node.input.extend(["", *["h", "c"][:count]])
    node.output[:] = ["r0", "r1", "r2"][: count + 1]
    for name in ("h", "c")[:count]:
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, (directions, 1, 6)))
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output)
    found = canonical_form(model)
    assert op not in {node.op_type for node in found.onnx.graph.node}
    run = arranged(found.inputs, found.outputs, onnx_runner(model))
    assert run is not None
    assert source_error(found.onnx, run, None, 0) < 1e-5
    longer = recurrent(op, steps=3)
    longer.graph.node[0].input.extend(["", "h"])
    longer.graph.input.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, (1, 1, 6)))
    with pytest.raises(UnsupportedError, match="computed, and it has 3 steps; export it for one step"):
        canonical_form(longer)


def _sequences(count: int, channels: int, steps: int) -> np.ndarray:
    x = np.random.default_rng(1).normal(0, 1, (count, channels, 1, steps))
    for t in range(1, steps):
        x[..., t] = 0.8 * x[..., t - 1] + 0.6 * x[..., t]
    return x.astype(np.float32)


@pytest.mark.parametrize(("op", "more"), [("LSTM", {}), ("GRU", {"linear_before_reset": 1}), ("GRU", {})])
def test_a_hundred_steps_do_not_drift(op: str, more: dict[str, Any]) -> None:
    steps, units = 100, 16
    model = Model(canonical_form(recurrent(op, steps, 6, units, **more)).onnx)
    network, x = analyse(model.onnx, "net"), _sequences(40, 6, steps)
    assert [(layer.name, layer.weight_shape, layer.macs) for layer in network.layers] == [
        ("layer.input", (GATES[op] * units, 6, 1, 1), GATES[op] * units * 6 * steps),
        ("layer", (GATES[op] * units, units), GATES[op] * units * units * steps),
    ]
    calibration = calibrate(model, x[:32], seed=0)
    exact = evaluate(model.onnx, x[32:], optimized=False).transpose(0, 2, 3, 1)
    for bits, least in ((8, 30), (4, 18)):
        made = quantize(model, network, uniform_bits(network, bits, 8), calibration, x=x[:32], rounding="nearest")
        program = lower(made.onnx, "net", "float", "dsp").reference
        y = program.tensors[program.output]
        codes = execute(program, input_codes(program, x[32:])).reshape(exact.shape)
        error = np.square((codes - y.zero) * y.scale - exact)
        parts = [slice(None), slice(None, 10), slice(-10, None)]
        whole, first, last = (
            10 * np.log10(np.square(exact[:, :, part]).sum() / error[:, :, part].sum()) for part in parts
        )
        assert whole > least
        assert last > first - 3


def test_every_stage_sees_the_recurrent_weights() -> None:
    model = Model(canonical_form(recurrent("GRU", linear_before_reset=1)).onnx)
    network, x = analyse(model.onnx, "net"), _sequences(24, 4, 5)
    calibration, distortion = (
        calibrate(model, x, seed=0),
        layer_distortion(model, network, calibrate(model, x, seed=0), x),
    )
    assert distortion["layer"][2, 8] > distortion["layer"][4, 8] > distortion["layer"][8, 8] > 0
    losses = measured_losses(model, network, x, (2, 4, 8), "nearest")
    assert losses["layer"][2] > losses["layer"][4] > losses["layer"][8] > 0
    context = proxy_context(model, network, calibration, x, distortion, 2)
    row = context.statistics()[1]
    assert (row["name"], row["in_channels"], row["out_channels"], row["output_width"]) == ("layer", 6, 18, 5)
    lengths = {len(value) for value in row.values() if isinstance(value, list)}
    assert lengths == {18}
    made = quantize(model, network, uniform_bits(network, 4, 8), calibration, x=x, rounding="gptq")
    assert made.rounding == {"layer.input": "gptq", "layer": "nearest"}
    op = next(op for op in lower(made.onnx, "net", "fixed", "scalar").reference.ops if isinstance(op, Recurrent))
    assert (op.weight_bits, op.cell, op.bias is None) == (4, "gru", False)
    assert len(Graph(model.onnx).nodes) == 5


def test_code_does_not_grow_with_steps() -> None:
    short, long = (
        RecurrentSpec("lstm", Plane(1, steps, 32, 8), Plane(1, steps, 8, 8), 4, False, False, "float").kernel("k")
        for steps in (3, 300)
    )
    assert long.source == short.source.replace("< 3;", "< 300;")


def test_training_knows_the_loop() -> None:
    model = Model(canonical_form(recurrent("LSTM")).onnx)
    network, x = analyse(model.onnx, "net"), _sequences(40, 4, 5)
    made = quantize(model, network, uniform_bits(network, 4, 8), calibrate(model, x, seed=0), x=x, rounding="nearest")
    trained = finetune(model, made, Samples(x, None, "d"), Training(epochs=1))[0]
    assert set(trained.layers) == {"layer.input", "layer"}
    assert evaluate(trained.onnx, x, optimized=False).shape == evaluate(model.onnx, x, optimized=False).shape
