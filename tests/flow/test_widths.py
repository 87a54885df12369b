"""Activations of 16 bits in float networks: which have them, why, and that the device equals the reference."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from kernels.twin import run_twin
from tapc.base.errors import UsageError
from tapc.base.options import Options
from tapc.device.verify import device_inputs, verify
from tapc.flow.widths import Widened, widened
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.lower import lower
from tapc.quantize import calibrate, evaluate, quantize, uniform_bits

SHAPE = (2, 6, 5)


def network(folder: Path, end: str = "Gemm") -> FloatModel:
    """Write convolutions of all kinds, a sum, pools, a sigmoid of its own map and a dense layer."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []

    def layer(name: str, x: str, shape: tuple[int, ...], op: str = "Conv", **options: object) -> str:
        constants[f"{name}.w"] = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        constants[f"{name}.b"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        nodes.append(helper.make_node(op, [x, f"{name}.w", f"{name}.b"], [name], name=name, **options))
        return name

    def node(op: str, *x: str, **options: object) -> str:
        nodes.append(helper.make_node(op, list(x), [f"{op}{len(nodes)}"], name=f"{op}{len(nodes)}", **options))
        return str(nodes[-1].output[0])

    first = node("Relu", layer("first", "x", (6, 2, 3, 3), pads=[1, 1, 1, 1]))
    deep = layer("deep", first, (6, 1, 3, 3), pads=[1, 1, 1, 1], group=6)
    total = node("Relu", node("Add", first, deep))
    pooled = node("AveragePool", node("MaxPool", total, kernel_shape=[2, 1], strides=[2, 1]), kernel_shape=[1, 2])
    point = node("Clip", layer("point", pooled, (5, 6, 1, 1)), "low", "high")
    constants |= {"low": np.float32(-0.7), "high": np.float32(0.9)}
    gate = layer("after", node("Sigmoid", layer("before", point, (4, 5, 1, 1))), (4, 4, 1, 1))
    flat = node("Flatten", gate)
    last = layer("last", flat, (3, 4 * 3 * 4), "Gemm", transB=1)
    if end == "Softmax":
        last = node("Softmax", last, axis=1)
    elif end == "Max":
        constants["floor"] = np.array([[-0.1, 0.0, 0.1]], np.float32)
        last = node("Max", last, "floor")
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, *SHAPE))],
        [helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), folder / "n.onnx")
    return load(folder / "n.onnx")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> FloatModel:
    return network(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (48, *SHAPE)).astype(np.float32)


def wide(model: FloatModel, x: np.ndarray, **settings: object) -> Widened:
    calibration = calibrate(model, x, seed=0)
    return widened(model, analyse(model.onnx, "net"), calibration, x, Options(**settings))  # type: ignore[arg-type]


def widths(found: Widened) -> dict[str, int]:
    return {tensor: group.bits for group in found.network.groups for tensor in group.tensors}


def test_all_that_may_have_16_bits(model: FloatModel, x: np.ndarray) -> None:
    found = widths(wide(model, x, abits=(16,)))
    assert {name for name, bits in found.items() if bits == 8} == {"x", "last"}
    assert set(found.values()) == {8, 16}


def test_16_bits_where_8_cost_too_much(model: FloatModel, x: np.ndarray) -> None:
    none, every = wide(model, x, abits=(8, 16), abits_limit=0), wide(model, x, abits=(8, 16), abits_limit=200)
    some = wide(model, x, abits=(8, 16), abits_limit=40)
    assert 16 not in widths(none).values()
    assert widths(every) == widths(wide(model, x, abits=(16,)))
    assert 0 < list(widths(some).values()).count(16) < list(widths(every).values()).count(16)
    assert "less than 40 dB" in some.notes[0]
    assert "as much or more" in some.notes[1]
    assert some.options.abits == (8,)


def test_names_and_patterns(model: FloatModel, x: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "bits.toml"
    file.write_text('[activations]\n"poin*" = 16\n')
    found = wide(model, x, overrides=file)
    group = next(g for g in found.network.groups if g.bits == 16)
    assert [g.bits for g in found.network.groups].count(16) == 1
    assert any(
        layer.name == "point" and found.network.groups[layer.input_group] is group for layer in found.network.layers
    )
    file.write_text('[activations]\n"before" = 16\n"x" = 16')
    assert widths(wide(model, x, overrides=file))["x"] == 16
    file.write_text('[activations]\n"Max1*" = 16\n')
    with pytest.raises(UsageError, match="without kernels for 16 bits"):
        wide(network(tmp_path, "Max"), x, overrides=file)
    file.write_text('[activations]\n"point" = 16\n')
    with pytest.raises(UsageError, match="4 bits beside"):
        wide(model, x, overrides=file, abits=(4, 8))


@pytest.mark.parametrize(("board_name", "w_bits"), [("stm32h7", 8), ("pico", 4)])
def test_firmware_is_exact(board_name: str, w_bits: int, model: FloatModel, x: np.ndarray) -> None:
    board = load_board(board_name)
    target = load_target(board.core)
    calibration, wide_network = calibrate(model, x, seed=0), wide(model, x, abits=(16,)).network
    bits = uniform_bits(wide_network, w_bits, 8)
    quantized = quantize(model, wide_network, bits, calibration, x=x, rounding="nearest")
    plain = analyse(model.onnx, "net")
    narrow = quantize(model, plain, uniform_bits(plain, w_bits, 8), calibration, x=x, rounding="nearest")
    exact, wide_y, narrow_y = (evaluate(m, x, optimized=False) for m in (model.onnx, quantized.onnx, narrow.onnx))
    if w_bits == 8:
        assert np.square(wide_y - exact).sum() < np.square(narrow_y - exact).sum()
    lowered = lower(quantized.onnx, "wide", target.requantize, target.isa)
    kinds = {step.op.kind(step.spec) for step in lowered.steps}
    assert kinds >= {"conv16", "depthwise16", "add16", "pool", "dense16", "sigmoid16"}, kinds
    codes = np.random.default_rng(2).integers(-128, 128, (6, *lowered.program.tensors[lowered.program.input].shape))
    run = run_twin(lowered, board, device_inputs(lowered, codes), layers=len(codes))
    found = verify(lowered, run, codes)
    assert found.mismatch is None, found.mismatch
