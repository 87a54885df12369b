"""Quantized ONNX networks kept as they are, against the source itself in onnxruntime, which quantized it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.base.errors import UnsupportedError
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.ir.program import Program
from tapc.lower.codes import input_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.reference import execute
from tapc.quantize.keep import keep

Float = NDArray[np.float32]


class Source:
    """Collects an ONNX graph of one input "x" and one output "y"."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def constant(self, array: Any, name: str = "") -> str:
        name = name or f"k{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def normal(self, *shape: int, scale: float = 0.3) -> str:
        return self.constant(self.rng.normal(0, scale, shape).astype(np.float32))

    def node(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"n{len(self.nodes)}", **attributes))
        return output

    def pair(self, x: str, scale: float, zero: int, kind: Any = np.int8, ends: tuple[int, int] | None = None) -> str:
        """Add a quantizer and a dequantizer, with a Clip between them where there are `ends`."""
        s, z = self.constant(np.float32(scale)), self.constant(np.array(zero, kind))
        q = self.node("QuantizeLinear", [x, s, z])
        if ends is not None:
            q = self.node("Clip", [q, *(self.constant(np.array(end, kind)) for end in ends)])
        return self.node("DequantizeLinear", [q, s, z])

    def weights(self, codes: Any, scales: Any, axis: int = 0) -> str:
        scales = np.asarray(scales, np.float32)
        zero = self.constant(np.zeros(scales.shape, codes.dtype))
        given = [self.constant(codes), self.constant(scales), zero]
        return self.node("DequantizeLinear", given, axis=axis)

    def save(self, path: Path, shape: tuple[int, ...], result: tuple[int, ...], domains: tuple[str, ...] = ()) -> Path:
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", result))]
        graph = helper.make_graph(self.nodes, "net", ends[:1], ends[1:], self.tensors)
        opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path


def kept(path: Path) -> tuple[FloatModel, Program]:
    model = load(path)
    assert model.given is not None
    quantized = keep(model, analyse(model.onnx, model.name), model.given)
    return model, program_from_onnx(quantized.onnx, model.name, "float", "dsp")


def values(program: Program, x: Float) -> Float:
    """Return the reference's outputs (N, values)."""
    y = program.tensors[program.output]
    codes = execute(program, input_codes(program, x)).transpose(0, 3, 1, 2).reshape(len(x), -1)
    return ((codes - y.zero) * np.float32(y.scale)).astype(np.float32)


def in_onnxruntime(path: Path, x: Float) -> Float:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = [np.asarray(session.run(None, {session.get_inputs()[0].name: one[None]})[0]) for one in x]
    return np.concatenate(found).reshape(len(x), -1)


def float_network(path: Path) -> Path:
    s = Source()
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    first = s.node("Relu", [s.node("Conv", ["x", s.normal(8, 3, 3, 3), s.normal(8)], **pads)])
    second = s.node("Conv", [first, s.normal(8, 1, 3, 3), s.normal(8)], group=8, **pads)
    pooled = s.node("MaxPool", [s.node("Add", [second, first])], kernel_shape=[2, 2], strides=[2, 2])
    gated = s.node("Mul", [pooled, s.node("Sigmoid", [pooled])])
    joined = s.node("GlobalAveragePool", [s.node("Concat", [gated, pooled], axis=1)])
    s.node("Gemm", [s.node("Flatten", [joined]), s.normal(10, 16), s.normal(10)], "y", transB=1)
    return s.save(path, (1, 3, 8, 8), (1, 10))


@pytest.mark.parametrize(
    ("form", "activations", "per_channel"),
    [("QDQ", "QUInt8", False), ("QDQ", "QInt8", True), ("QOperator", "QInt8", False), ("QOperator", "QInt8", True)],
)
def test_what_onnxruntime_quantizes(form: str, activations: str, per_channel: bool, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    rng = np.random.default_rng(1)

    class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"x": rng.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(8)]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    path = tmp_path / "quantized.onnx"
    kinds = quantization.QuantType
    quantization.quantize_static(
        str(float_network(tmp_path / "net.onnx")), str(path), Samples(), per_channel=per_channel,
        quant_format=getattr(quantization.QuantFormat, form), activation_type=getattr(kinds, activations),
        weight_type=kinds.QInt8,
    )  # fmt: skip
    model, program = kept(path)
    x = rng.normal(0, 1, (24, 3, 8, 8)).astype(np.float32)
    scale = program.tensors[program.output].scale
    steps = np.abs(values(program, x) - in_onnxruntime(path, x)) / scale
    assert steps.max() < 1.5
    assert np.mean(steps > 0.5) < 0.02
    assert model.given is not None
    assert model.given.kind.endswith("QDQ ONNX" if form == "QDQ" else "QOperator ONNX")
    assert len(model.given.layers) == 3


def narrow_network(path: Path) -> tuple[Path, NDArray[np.int8]]:
    """A network as Brevitas writes it: 3-bit weights, activations of 6 and 4 bits."""
    s = Source()
    codes = s.rng.integers(-4, 4, (6, 2, 3, 3)).astype(np.int8)
    x = s.pair("x", 0.05, 0, ends=(-32, 31))
    conv = s.node("Conv", [x, s.weights(codes, s.rng.uniform(0.05, 0.1, 6))], kernel_shape=[3, 3])
    hidden = s.pair(s.node("Relu", [conv]), 0.2, 0, np.uint8, (0, 15))
    s.nodes[-1].output[0] = hidden
    out = s.node("Conv", [hidden, s.weights(codes[:3, :1].repeat(6, 1), [0.1])], kernel_shape=[3, 3])
    pair = s.pair(out, 0.3, 3)
    s.nodes[-1].output[0] = "y"
    assert pair
    return s.save(path, (1, 2, 8, 8), (1, 3, 4, 4)), codes


def test_clamped_pairs_of_fewer_bits(tmp_path: Path) -> None:
    path, codes = narrow_network(tmp_path / "net.onnx")
    model, program = kept(path)
    x = np.random.default_rng(0).normal(0, 1, (16, 2, 8, 8)).astype(np.float32)
    steps = np.abs(values(program, x) - in_onnxruntime(path, x)) / np.float32(0.3)
    assert steps.max() < 1.5
    assert np.mean(steps > 0.5) < 0.02
    assert model.given is not None
    layer = next(iter(model.given.layers.values()))
    np.testing.assert_array_equal(np.sort(layer.codes.reshape(6, -1)), np.sort(codes.reshape(6, -1)))


def fake_quantized(x: Float, scale: float, zero: int, bits: int, *, signed: bool, narrow: bool = False) -> Float:
    """What QONNX's specification says of Quant."""
    low, high = (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1 - narrow)
    return ((np.clip(np.rint(x / scale + zero), low, high) - zero) * scale).astype(np.float32)


def test_qonnx_quantizers_of_any_width(tmp_path: Path) -> None:
    import torch

    s = Source()
    given = s.rng.normal(0, 0.3, (5, 2, 3, 3)).astype(np.float32)

    def quant(x: str, scale: float, bits: int, **attributes: int) -> str:
        parts = [s.constant(np.array(value, np.float32)) for value in (scale, 0, bits)]
        return s.node("Quant", [x, *parts], domain="qonnx.custom_op.general", rounding_mode="ROUND", **attributes)

    x = quant("x", 0.04, 7, signed=1, narrow=0)
    weights = quant(s.constant(given), 0.1, 4, signed=1, narrow=1)
    hidden = quant(s.node("Relu", [s.node("Conv", [x, weights], kernel_shape=[3, 3])]), 0.11, 5, signed=0, narrow=0)
    signs = s.rng.normal(0, 1, (4, 5, 1, 1)).astype(np.float32)
    binary = s.node("BipolarQuant", [s.constant(signs), s.constant(np.float32(0.5))], domain="qonnx.custom_op.general")
    quant(s.node("Conv", [hidden, binary], kernel_shape=[1, 1]), 0.0517, 8, signed=1, narrow=0)
    s.nodes[-1].output[0] = "y"
    path = s.save(tmp_path / "net.onnx", (1, 2, 6, 6), (1, 4, 4, 4), ("qonnx.custom_op.general",))
    model, program = kept(path)
    data = np.random.default_rng(2).normal(0, 1, (12, 2, 6, 6)).astype(np.float32)
    value = torch.from_numpy(fake_quantized(data, 0.04, 0, 7, signed=True))
    kernel = torch.from_numpy(fake_quantized(given, 0.1, 0, 4, signed=True, narrow=True))
    inner = torch.nn.functional.conv2d(value, kernel).relu().numpy()
    inner = fake_quantized(inner, 0.11, 0, 5, signed=False)
    sums = np.einsum("oc,nchw->nohw", np.where(signs[..., 0, 0] >= 0, 0.5, -0.5), inner)
    expected = fake_quantized(sums, 0.0517, 0, 8, signed=True).reshape(12, -1)
    steps = np.abs(values(program, data) - expected) / 0.0517
    assert steps.max() < 4.5  # a step of the hidden tensor is 1.1 steps of a result
    assert np.mean(steps > 0.5) < 0.02
    assert model.given is not None
    assert [layer.bits for layer in model.given.layers.values()] == [4, 2]


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_layers_of_integers_are_exact(kind: Any, tmp_path: Path) -> None:
    """Against numpy: onnxruntime saturates pairs of products on some processors."""
    rng, shift = np.random.default_rng(0), 128 if kind == np.uint8 else 0
    codes = rng.integers(-128, 128, (40, 64))
    weights = rng.choice([110, -110], (64, 5), p=(0.9, 0.1)).astype(np.int8)
    acc = (codes - 3) @ weights.astype(np.int64)
    scale = np.float32(np.abs(acc).max() * 0.02 * 0.01 / 120)
    own = [(np.float32(0.02), kind(3 + shift)), (np.float32(0.01), np.int8(0)), (scale, kind(shift))]
    s = Source()
    parts = [s.constant(np.asarray(value)) for pair in own for value in pair]
    s.node("QLinearMatMul", ["x", *parts[:2], s.constant(weights), *parts[2:]], "y")
    path = s.save(tmp_path / "net.onnx", (1, 64), (1, 5))
    network = onnx.load(path)
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    onnx.save(network, path)
    _, program = kept(path)
    found = execute(program, codes.reshape(40, 1, 1, 64)).reshape(40, 5)
    ratio = np.float64(np.float32(0.02)) * np.float64(np.float32(0.01)) / np.float64(scale)
    np.testing.assert_array_equal(found, np.clip(np.rint(acc * ratio), -128, 127))


def test_a_constant_of_unsigned_codes_that_are_all_small(tmp_path: Path) -> None:
    s = Source()
    x = s.pair(s.node("Relu", [s.pair("x", 0.05, 120, np.uint8)]), 0.05, 120, np.uint8)
    codes = np.arange(4, dtype=np.uint8).reshape(1, 4, 1, 1) * 20
    own = [s.constant(np.asarray(value)) for value in (codes, np.float32(0.03), np.uint8(133))]
    s.pair(s.node("Add", [x, s.node("DequantizeLinear", own)]), 0.06, 130, np.uint8)
    s.nodes[-1].output[0] = "y"
    _, program = kept(s.save(tmp_path / "net.onnx", (1, 4, 2, 2), (1, 4, 2, 2)))
    given = np.tile(np.arange(-128, 128).reshape(256, 1, 1, 1), (1, 2, 2, 4))
    real = np.maximum(given + 8, 0) * 0.05 + (codes.reshape(4) - 133.0) * 0.03
    assert np.abs(execute(program, given) - np.clip(real / 0.06 + 2, -128, 127)).max() < 1


def test_what_is_quantized_while_it_runs_is_refused(tmp_path: Path) -> None:
    s = Source()
    s.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dynamic"))
    s.node("DequantizeLinear", ["q", "s", "z"], "y")
    with pytest.raises(
        UnsupportedError, match="'dynamic': DynamicQuantizeLinear belongs to a network that is quantized"
    ):
        load(s.save(tmp_path / "net.onnx", (1, 4), (1, 4)))


def test_real_weights_between_quantizers_cannot_be_kept(tmp_path: Path) -> None:
    s = Source()
    x = s.pair(s.node("Relu", [s.pair("x", 0.05, 0)]), 0.05, 0)
    s.pair(s.node("Conv", [x, s.normal(4, 2, 3, 3)], kernel_shape=[3, 3]), 0.05, 0)
    s.nodes[-1].output[0] = "y"
    path = s.save(tmp_path / "net.onnx", (1, 2, 6, 6), (1, 4, 4, 4))
    with pytest.raises(UnsupportedError, match=r"the source holds no integers for its weights.*--requantize"):
        load(path)
    assert load(path, keep=False).given is None


def test_a_float_network_between_quantizers_is_one(tmp_path: Path) -> None:
    s = Source()
    x = s.pair("x", 0.05, 0)
    s.pair(s.node("Conv", [x, s.normal(4, 2, 3, 3)], kernel_shape=[3, 3]), 0.05, 0)
    s.nodes[-1].output[0] = "y"
    model = load(s.save(tmp_path / "net.onnx", (1, 2, 6, 6), (1, 4, 4, 4)))
    assert model.given is None
    assert [node.op_type for node in model.onnx.graph.node] == ["Conv"]
