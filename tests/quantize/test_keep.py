"""Quantized TFLite networks kept as they are: the integer program equals TFLite-Micro, byte for byte."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapc.base.errors import UnsupportedError
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.ir.program import Program
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.reference import execute
from tapc.quantize.keep import keep
from tflite_micro_files import Int8Builder, Quantization, run, samples


def kept(path: Path) -> tuple[FloatModel, Program]:
    model = load(path)
    assert model.given is not None
    quantized = keep(model, analyse(model.onnx, model.name), model.given)
    return model, program_from_onnx(quantized.onnx, model.name, "tflite", "dsp")


def check(b: Int8Builder, output: int, folder: Path, least: int = 10) -> Program:
    blob = b.finish(output)
    (folder / "net.tflite").write_bytes(blob)
    _, program = kept(folder / "net.tflite")
    x = program.tensors[program.input]
    codes = samples(x.shape, x.zero, b.rng)
    expected = run(blob, codes)
    assert len(np.unique(expected)) >= least
    found = execute(program, codes.astype(np.int64))
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    return program


class Network:
    """Layers with drawn integers; results have scales for which few codes saturate."""

    def __init__(self, *shape: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.b = Int8Builder(1, *shape, quantization=Quantization.draw(rng), seed=seed)
        self.rng, self.at, self.shape = rng, self.b.input, (1, *shape)

    def scale(self, low: float, high: float) -> Quantization:
        own = float(np.float32(self.b.scale(self.at) * self.rng.uniform(low, high)))
        return Quantization(own, int(self.rng.integers(-60, 60)))

    def weights(self, shape: tuple[int, ...], outputs: int, *, single: bool) -> tuple[Any, Any]:
        scales = self.rng.uniform(0.001, 0.01, 1 if single else outputs).astype(np.float32)
        return self.rng.integers(-127, 128, shape).astype(np.int8), scales

    def conv(self, outputs: int, activation: int = 0, *, depthwise: bool = False, single: bool = False) -> None:
        n, height, width, channels = self.shape
        shape = (1, 3, 3, channels) if depthwise else (outputs, 3, 3, channels)
        w, scales = self.weights(shape, outputs, single=single)
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        options = {"strideW": 1, "strideH": 1, "padding": 0, "fusedActivationFunction": activation}
        options |= {"depthMultiplier": 1} if depthwise else {}
        table = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        self.shape = (n, height, width, outputs)
        spread = 6.0 if depthwise else 12.0
        axis = 3 if depthwise else 0
        self.at = self.b.layer(
            kind, self.at, w, scales, axis, self.shape, self.scale(spread / 2, spread), table, **options
        )

    def dense(self, outputs: int, *, single: bool) -> None:
        """Add a layer whose results are of a size that a sigmoid tells apart."""
        w, scales = self.weights((outputs, int(np.prod(self.shape))), outputs, single=single)
        scales = (scales / (20 * self.b.scale(self.at))).astype(np.float32)
        self.shape = (1, outputs)
        q = Quantization(float(np.float32(self.rng.uniform(0.02, 0.05))), int(self.rng.integers(-60, 60)))
        self.at = self.b.layer("FULLY_CONNECTED", self.at, w, scales, 0, self.shape, q, "FullyConnectedOptions")

    def node(self, kind: str, q: Quantization, table: str = "", shape: tuple[int, ...] = (), **options: Any) -> None:
        self.shape = shape or self.shape
        self.at = self.b.node(kind, [self.at], self.shape, q, table, **options)

    def own(self) -> Quantization:
        given = self.b.graph.tensors[self.at].quantization
        return Quantization(self.b.scale(self.at), int(given.zeroPoint[0]))


@pytest.mark.parametrize("seed", range(3))
def test_a_residual_network(seed: int, tmp_path: Path) -> None:
    net = Network(6, 5, 3, seed=seed)
    net.conv(8, activation=1)
    first = net.at
    net.conv(8, depthwise=True, single=bool(seed % 2))
    added = net.b.node("ADD", [net.at, first], net.shape, net.scale(1, 2), "AddOptions", fusedActivationFunction=1)
    net.at = added
    options = {"strideW": 1, "strideH": 1, "padding": 1, "filterHeight": 6, "filterWidth": 5}
    net.node("AVERAGE_POOL_2D", net.own(), "Pool2DOptions", (1, 1, 1, 8), **options)
    net.at = net.b.scaled(net.b.reshape(net.at, 1, 8), net.own())
    net.b.graph.tensors[net.at].type = 9
    net.shape = (1, 8)
    net.dense(10, single=seed > 0)
    net.node("SOFTMAX", Quantization(1 / 256, -128), "SoftmaxOptions", beta=1.0)
    check(net.b, net.at, tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_changes_of_scale_functions_and_a_mean(seed: int, tmp_path: Path) -> None:
    net = Network(4, 4, 2, seed=seed)
    net.node("QUANTIZE", net.scale(0.8, 1.5), "QuantizeOptions")
    net.conv(6)
    net.node("RELU", net.scale(0.5, 0.9))
    net.node("HARD_SWISH", net.scale(0.8, 1.2), "HardSwishOptions")
    net.conv(6)
    net.node("LEAKY_RELU", net.scale(0.8, 1.2), "LeakyReluOptions", alpha=0.2)
    axes = net.b.constant(np.array([1, 2], np.int32))
    net.at = net.b.node("MEAN", [net.at, axes], (1, 6), net.scale(0.2, 0.4), "ReducerOptions", keepDims=False)
    net.shape = (1, 6)
    net.dense(12, single=False)
    net.node("LOGISTIC", Quantization(1 / 256, -128))
    check(net.b, net.at, tmp_path)


def test_a_dense_layer_behind_a_map_and_a_bias_beyond_float32(tmp_path: Path) -> None:
    net = Network(3, 4, 5, seed=1)
    net.conv(4, activation=3)
    net.at = net.b.scaled(net.b.reshape(net.at, 1, 48), net.own())
    net.b.graph.tensors[net.at].type = 9
    weights, scales = net.weights((3, 48), 3, single=False)
    bias = np.array([2**25 + 1, -(2**25) - 3, 5], np.int32)
    q = Quantization(float(np.float32(net.b.scale(net.at) * 0.005 * 2**18)), 3)
    out = net.b.layer("FULLY_CONNECTED", net.at, weights, scales, 0, (1, 3), q, "FullyConnectedOptions", bias)
    program = check(net.b, out, tmp_path, 1)
    np.testing.assert_array_equal(program.ops[-1].bias, bias)  # type: ignore[attr-defined]


def test_without_keeping_it_is_a_float_network(tmp_path: Path) -> None:
    net = Network(6, 5, 3, seed=0)
    net.conv(8, activation=1)
    net.node("QUANTIZE", net.scale(0.8, 1.5), "QuantizeOptions")
    (tmp_path / "net.tflite").write_bytes(net.b.finish(net.at))
    model = load(tmp_path / "net.tflite", keep=False)
    assert model.given is None
    assert [node.op_type for node in model.onnx.graph.node] == ["Conv", "Relu"]


def test_unsigned_codes_are_those_of_signed_ones(tmp_path: Path) -> None:
    """A network of uint8, which TFLite-Micro does not run, and the same one of int8, which it does."""
    programs = []
    for unsigned in (False, True):
        net = Network(6, 5, 3, seed=4)
        net.conv(8, activation=1, single=True)
        net.conv(8, depthwise=True, single=True)
        blob = net.b.finish(net.at)
        if unsigned:
            for tensor in net.b.graph.tensors:
                if tensor.type != 9:
                    continue
                tensor.type, tensor.quantization.zeroPoint = 3, [zero + 128 for zero in tensor.quantization.zeroPoint]
                if tensor.buffer:
                    buffer = net.b.model.buffers[tensor.buffer]
                    buffer.data = (np.asarray(buffer.data).view(np.int8).astype(np.int64) + 128).astype(np.uint8)
            blob = net.b.finish(net.at)
        (tmp_path / "net.tflite").write_bytes(blob)
        programs.append(kept(tmp_path / "net.tflite")[1])
    codes = samples((6, 5, 3), 0, np.random.default_rng(0)).astype(np.int64)
    signed, other = (execute(program, codes) for program in programs)
    np.testing.assert_array_equal(other, signed)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    net = Network(6, 5, 3, seed=4)
    net.node("HARD_SWISH", net.own())
    for tensor in net.b.graph.tensors:
        tensor.type = 7
    (tmp_path / "net.tflite").write_bytes(net.b.finish(net.at))
    with pytest.raises(UnsupportedError, match="of a HARD_SWISH is INT16: activations of 16 or 4 bits"):
        load(tmp_path / "net.tflite")


def test_weights_beyond_8_bits_are_refused(tmp_path: Path) -> None:
    net = Network(6, 5, 3, seed=0)
    net.conv(8)
    net.b.graph.tensors[net.b.graph.operators[0].inputs[1]].quantization.zeroPoint = [20] * 8
    (tmp_path / "net.tflite").write_bytes(net.b.finish(net.at))
    with pytest.raises(UnsupportedError, match="its weights less their zero point reach from -147 to 107"):
        load(tmp_path / "net.tflite")


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("size", [1, 4])
def test_constant_operands(kind: str, size: int, tmp_path: Path) -> None:
    net = Network(4, 3, 4, seed=size)
    net.node("LEAKY_RELU", net.scale(0.8, 1.2), "LeakyReluOptions", alpha=0.2)
    constant = net.b.constant(net.rng.integers(-128, 128, (size,)).astype(np.int8))
    net.b.quantize(constant, np.array([0.02], np.float32), 0, 11)
    table = f"{kind.capitalize()}Options"
    out = net.b.node(kind, [net.at, constant], net.shape, net.scale(0.9, 1.5), table)
    check(net.b, out, tmp_path)
