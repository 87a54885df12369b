"""Embedding: rows of a table by tokens, packed at each width, against onnxruntime and in C on this machine."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from graph_builder import Model, words
from kernels.programs import run_on_host
from tapc.base.errors import UnsupportedError
from tapc.base.ports import Port
from tapc.data import Samples
from tapc.finetune import Training, finetune
from tapc.graph.analysis import Graph, analyse
from tapc.lower import Lowered, lower
from tapc.lower.bounds import bounds
from tapc.lower.codes import input_codes, values
from tapc.lower.facts import Facts
from tapc.lower.reference import execute
from tapc.operators.embedding import Embedding, packed
from tapc.quantize import QuantizedModel, calibrate, evaluate, layer_distortion, quantize, uniform_bits
from tapc.quantize.alone import measured_losses
from tapc.quantize.sensitivity import proxy_context

ROWS = 23


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).integers(0, ROWS, (48, 1, 7, 1)).astype(np.float32)


def quantized(model: Model, x: np.ndarray, bits: int, rounding: str = "nearest") -> QuantizedModel:
    network = analyse(model.onnx, "words")
    calibration = calibrate(model, x, seed=0)
    return quantize(model, network, uniform_bits(network, bits, 8), calibration, x=x, rounding=rounding)


def test_tokens_are_no_values() -> None:
    graph = Graph(words().onnx)
    assert graph.input_ports == (Port("x", (1, 1, 7, 1), ROWS),)
    network = analyse(words().onnx, "words")
    assert network.groups[0].tensors == ("embed.order_out",)
    assert network.groups[0].interface
    layer = network.layers[0]
    assert (layer.name, layer.weight_shape, layer.macs, layer.input_group) == ("embed", (10, ROWS), 0, 0)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("features", [8, 9])
def test_integers_equal_onnxruntime(bits: int, features: int, x: np.ndarray) -> None:
    made = quantized(words(features=features), x, bits)
    program = lower(made.onnx, "words", "float", "dsp").reference
    op = program.ops[0]
    assert isinstance(op, Embedding)
    assert (op.weight_bits, op.table.shape) == (bits, (ROWS, features))
    exposed = onnx.ModelProto()
    exposed.CopyFrom(made.onnx)
    del exposed.graph.output[:]
    exposed.graph.output.append(
        onnx.helper.make_tensor_value_info("embed.order_out_dequantized", onnx.TensorProto.FLOAT, (1, features, 1, 7))
    )
    seen = {}
    execute(program, input_codes(program, x), observe=lambda op, codes: seen.update({op.output: codes}))
    y = program.tensors[op.output]
    mine = (seen[op.output].transpose(0, 3, 1, 2) - y.zero) * np.float32(y.scale)
    np.testing.assert_allclose(mine, evaluate(exposed, x, optimized=False), rtol=1e-6)


@pytest.mark.parametrize(("bits", "mode", "isa"), [(2, "float", "dsp"), (4, "fixed", "scalar"), (8, "tflite", "dsp")])
def test_the_kernel_on_this_machine(bits: int, mode: str, isa: str, x: np.ndarray, tmp_path: Path) -> None:
    network = lower(quantized(words(features=9), x, bits).onnx, "words", mode, isa)  # type: ignore[arg-type]
    codes = input_codes(network.program, x[:6])
    np.testing.assert_array_equal(run_on_host(network.program, codes, tmp_path), execute(network.reference, codes))


def test_rows_begin_with_a_byte() -> None:
    table = np.array([[1, -1, -2], [0, 1, 1]], np.int8)
    assert packed(table, 8).tolist() == table.tolist()
    assert packed(table, 4).view(np.uint8).tolist() == [[0xF1, 0x0E], [0x10, 0x01]]
    assert packed(table, 2).view(np.uint8).tolist() == [[0b10_11_01], [0b01_01_00]]


def test_bounds_are_those_of_the_rows(x: np.ndarray) -> None:
    program = lower(quantized(words(), x, 4).onnx, "words", "float", "dsp").reference
    known = bounds(program)[program.ops[0].output]
    every = np.arange(ROWS).reshape(-1, 1, 1, 1).repeat(7, axis=2)
    codes = program.ops[0].reference(program, [every])
    np.testing.assert_array_equal(known.low, codes.min(axis=0))
    np.testing.assert_array_equal(known.high, codes.max(axis=0))


def test_fewer_bits_cost_more(x: np.ndarray) -> None:
    model = words()
    network, calibration = analyse(model.onnx, "words"), calibrate(model, x, seed=0)
    distortion = layer_distortion(model, network, calibration, x)
    losses = measured_losses(model, network, x, (2, 4, 8), "nearest")
    context = proxy_context(model, network, calibration, x, distortion, 2)
    assert context.output_error is not None
    assert context.statistics is not None
    assert context.derivatives is not None
    assert distortion["embed"][2, 8] > distortion["embed"][4, 8] > distortion["embed"][8, 8] > 0
    assert losses["embed"][2] > losses["embed"][4] > losses["embed"][8] > 0
    assert context.output_error("embed", 2) > context.output_error("embed", 8) > 0
    assert context.statistics()[0]["in_channels"] == ROWS
    assert context.derivatives.fisher()["embed"].shape == (10, ROWS)
    assert context.derivatives.fisher()["embed"].sum() > 0


def test_learned_rounding_goes_on_behind_the_table(x: np.ndarray) -> None:
    model = words()
    exact = evaluate(model.onnx, x, optimized=True)
    errors = [
        np.square(evaluate(quantized(model, x, 4, rounding).onnx, x, optimized=False) - exact).sum()
        for rounding in ("nearest", "gptq", "adaround")
    ]
    assert max(errors) < 0.1 * np.square(exact - exact.mean(axis=0)).sum()


def test_training_is_refused(x: np.ndarray) -> None:
    made = quantized(words(), x, 4)
    with pytest.raises(UnsupportedError, match="this one has tokens"):
        finetune(words(), made, Samples(x, None, "d"), Training())


def test_the_header_says_tokens(x: np.ndarray) -> None:
    network: Lowered = lower(quantized(words(), x, 8).onnx, "words", "float", "dsp")
    files = network.shown_files(Facts())
    for line in (
        "tokens from 0 to 22", "#define WORDS_INPUT_TOKENS 7", "#define WORDS_INPUT_BYTES 28",
        "int32_t *words_input(void);", "void words_dequantize(const int8_t *codes, float *values);",
    ):  # fmt: skip
        assert line in files["words.h"]
    assert "words_quantize(" not in files["words.h"]
    assert "int32_t, from 0 to 22" in files["README.md"]
    assert np.isfinite(values(network.program, execute(network.program, input_codes(network.program, x)))).all()
