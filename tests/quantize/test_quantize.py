"""Calibration, export and evaluation of small networks; onnxruntime is the independent executor."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph_builder import Builder, Model, everything, residual
from tapc.base.errors import DataError, UnsupportedError, UsageError
from tapc.graph.analysis import Graph, analyse, quantization_points
from tapc.graph.network import Bits
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.lower.reference import execute
from tapc.quantize import calibrate, evaluate, layer_distortion, quantize, quantize_array, quantize_weights, top1
from tapc.quantize import model as model_module
from tapc.quantize import rounding as rounding_module
from tapc.quantize.activations import activation_parameters, fake_quantize
from tapc.quantize.model import QuantizedModel, uniform_bits
from tapc.quantize.problem import LayerProblem
from tapc.quantize.runtime import Float, batched, session
from tapc.quantize.weights import QuantizedWeights

MODELS = {"residual": residual(), "everything": everything()}


def samples(model: Model, count: int = 96, seed: int = 0) -> Float:
    shape = [dim.dim_value for dim in model.onnx.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).normal(0, 1, (count, *shape[1:])).astype(np.float32)


def prepare(model: Model, w_bits: int, a_bits: int, **options: Any) -> QuantizedModel:
    network = analyse(model.onnx, "net")
    x = samples(model)
    return quantize(model, network, uniform_bits(network, w_bits, a_bits), calibrate(model, x, seed=0), x=x, **options)


def expose(model: onnx.ModelProto, names: list[str], x: Float, *, optimized: bool = False) -> dict[str, Any]:
    """Run a copy of a model with batch N whose outputs are the named tensors."""
    copy = batched(model)
    del copy.graph.output[:]
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    for name in names:
        copy.graph.output.append(helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None))
    return dict(zip(names, session(copy, optimized=optimized).run(None, {"x": x}), strict=True))


def output_error(model: Model, quantized: QuantizedModel, x: Float) -> float:
    """Mean squared error of the logits relative to their variance."""
    exact = evaluate(model.onnx, x, optimized=True)
    approximate = evaluate(quantized.onnx, x, optimized=False)
    return float(np.square(approximate - exact).mean() / np.square(exact - exact.mean(axis=0)).mean())


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_calibration_sees_every_point_exactly(model: Model) -> None:
    x = samples(model, 70)
    calibration = calibrate(model, x, seed=0)
    graph = Graph(model.onnx)
    assert list(calibration.tensors) == [point.tensor for point in quantization_points(graph)]
    for name, statistics in calibration.tensors.items():
        value = x if name == "x" else np.stack([expose(model.onnx, [name], x[i : i + 1])[name][0] for i in range(70)])
        assert statistics.low == pytest.approx(value.min(), rel=1e-5, abs=1e-6)
        assert statistics.high == pytest.approx(value.max(), rel=1e-5, abs=1e-6)
        assert statistics.low <= statistics.values[0] <= statistics.values[-1] <= statistics.high


def test_calibration_subsample_is_bounded_and_reproducible() -> None:
    model = MODELS["residual"]
    x = samples(model, 128)
    first, second, other = calibrate(model, x, seed=1), calibrate(model, x, seed=1), calibrate(model, x, seed=2)
    stem = [item.tensors["stem.relu_out"].values for item in (first, second, other)]
    assert len(stem[0]) == 1 << 16
    assert np.array_equal(stem[0], stem[1])
    assert not np.array_equal(stem[0], stem[2])


def test_calibration_refuses_bad_samples() -> None:
    model = MODELS["residual"]
    x = samples(model, 4)
    with pytest.raises(DataError, match="calibration set is empty"):
        calibrate(model, x[:0], seed=0)
    with pytest.raises(DataError, match=r"shape \(3, 12, 11\), the network takes \(3, 12, 12\)"):
        calibrate(model, x[..., :11], seed=0)
    x[2, 1, 3, 4] = np.nan
    with pytest.raises(DataError, match="sample 2 holds NaN"):
        calibrate(model, x, seed=0)


def test_overflow_inside_the_network_is_reported() -> None:
    model = MODELS["residual"]
    with pytest.raises(DataError, match="takes NaN or infinite values"):
        calibrate(model, samples(model, 2) * np.float32(3e37), seed=0)


@pytest.mark.parametrize("w_bits", [2, 4, 8])
@pytest.mark.parametrize("a_bits", [4, 8])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_export_is_the_agreed_qdq_graph(model: Model, w_bits: int, a_bits: int) -> None:
    quantized = prepare(model, w_bits, a_bits)
    onnx.checker.check_model(quantized.onnx, full_check=True)
    opset, ir_version = (25, 13) if w_bits == 2 else (21, 10)
    assert (quantized.onnx.opset_import[0].version, quantized.onnx.ir_version) == (opset, ir_version)
    assert [value.name for value in quantized.onnx.graph.output] == [model.onnx.graph.output[0].name]
    constants = {tensor.name: tensor for tensor in quantized.onnx.graph.initializer}
    kinds = Counter(node.op_type for node in quantized.onnx.graph.node)
    network = analyse(model.onnx, "net")
    points = quantization_points(Graph(model.onnx))
    assert kinds["QuantizeLinear"] == len(points)
    assert kinds["DequantizeLinear"] == len(points) + 2 * len(network.layers)
    nodes = {node.name: node for node in quantized.onnx.graph.node}
    # A Relu or Clip that saturation does anyway is left out.
    assert {node.name for node in model.onnx.graph.node if node.op_type not in ("Relu", "Clip")} <= set(nodes)
    weight_type = {2: TensorProto.INT2, 4: TensorProto.INT4, 8: TensorProto.INT8}[w_bits]
    widths = {tensor: 8 if group.interface else a_bits for group in network.groups for tensor in group.tensors}
    for layer in network.layers:
        node = nodes[layer.name]
        source, weight, bias = (nodes[f"{name.removesuffix('_dequantized')}_DequantizeLinear"] for name in node.input)
        assert constants[weight.input[0]].data_type == weight_type
        assert constants[bias.input[0]].data_type == TensorProto.INT32
        scale_x, scale_w, scale_b = (numpy_helper.to_array(constants[part.input[1]]) for part in (source, weight, bias))
        assert np.array_equal(scale_b, np.float32(scale_x) * scale_w)
        assert not numpy_helper.to_array(constants[weight.input[2]]).any()
        assert np.array_equal(
            numpy_helper.to_array(constants[weight.input[0]]).astype(np.int8),
            quantized.layers[layer.name].weights.values,
        )
    for point in points:
        node = nodes[f"{point.tensor}_QuantizeLinear"]
        kind = TensorProto.INT8 if widths[point.tensor] == 8 else TensorProto.UINT4
        assert constants[node.input[2]].data_type == kind
        if point.like is not None:
            assert list(node.input)[1:] == list(nodes[f"{point.like}_QuantizeLinear"].input)[1:]
    assert np.isfinite(evaluate(quantized.onnx, samples(model, 4), optimized=False)).all()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_w8a8_is_close_and_fused_kernels_agree(model: Model) -> None:
    quantized = prepare(model, 8, 8)
    x = samples(model, 100, seed=9)
    assert output_error(model, quantized, x) < 0.03
    assert quantized.optimizable
    step = quantized.activations[model.onnx.graph.output[0].name].scale
    plain = evaluate(quantized.onnx, x, optimized=False)
    fused = evaluate(quantized.onnx, x, optimized=True)
    assert np.abs(plain - fused).max() <= 2.01 * step


@pytest.mark.parametrize("w_bits", [4, 8])
@pytest.mark.parametrize("kind", ["dense", "pointwise", "conv", "grouped", "depthwise"])
def test_integer_kernels_are_exact_at_the_extremes(kind: str, w_bits: int) -> None:
    """Against exact integers, with the largest weights and activations of equal and of unlike sign.

    Kernels that add two products in 16 bits (x86 without VNNI, and unsigned activations) would be far off.
    """
    channels, outputs = 32, 8
    side = {"dense": (), "pointwise": (4, 4)}.get(kind, (6, 6))
    b = Builder((1, channels, *side))
    if kind == "dense":
        y = b.gemm("x", "layer", channels, outputs)
    else:
        groups = {"grouped": 4, "depthwise": channels}.get(kind, 1)
        outputs = channels if kind == "depthwise" else outputs
        y = b.conv("x", "layer", channels, outputs, kernel=1 if kind == "pointwise" else 3, groups=groups)
    weights, bias = (numpy_helper.to_array(tensor).copy() for tensor in b.initializers)
    weights[:] = np.sign(weights)
    weights[0], weights[1] = 1, -1
    b.initializers[:] = [numpy_helper.from_array(v, f"layer.{n}") for v, n in ((weights, "weight"), (bias, "bias"))]
    model = b.build(y)
    rng = np.random.default_rng(0)
    # The ends of the range, each alone in a sample, and mixed.
    x = rng.choice([-1.0, 1.0], (24, channels, *side)).astype(np.float32)
    x[:2], x[2:4] = 1, -1
    network = analyse(model.onnx, "net")
    bits = uniform_bits(network, w_bits, 8)
    quantized = quantize(model, network, bits, calibrate(model, x, seed=0), x=x, bias_correction=False)
    assert quantized.optimizable
    values = quantized.layers["layer"].weights.values
    assert np.abs(values[:2].astype(np.int64)).min() == 2 ** (w_bits - 1) - 1
    program = lower(quantized.onnx, "net", "float", "dsp").reference
    output = program.tensors[program.output]
    codes = execute(program, input_codes(program, x))
    exact = ((codes - output.zero) * output.scale).astype(np.float32)
    fused = evaluate(quantized.onnx, x, optimized=True)
    exact = exact.transpose(0, 3, 1, 2).reshape(fused.shape)
    assert np.abs(exact).max() > 100 * output.scale
    assert np.abs(fused - exact).max() <= 1.01 * output.scale


def test_batched_evaluation_equals_one_by_one() -> None:
    for model in MODELS.values():
        quantized = prepare(model, 4, 4)
        x = samples(model, 5)
        runner = session(quantized.onnx, optimized=False)
        single = np.concatenate([runner.run(None, {"x": x[i : i + 1]})[0] for i in range(5)])
        assert np.array_equal(evaluate(quantized.onnx, x, optimized=False), single)


@pytest.mark.parametrize("w_bits", [2, 4])
def test_bias_correction_reduces_the_error(w_bits: int) -> None:
    model = MODELS["residual"]
    x = samples(model, 200, seed=9)
    corrected = output_error(model, prepare(model, w_bits, 8), x)
    assert corrected < 0.6 * output_error(model, prepare(model, w_bits, 8, bias_correction=False), x)


@pytest.mark.parametrize("seed", range(4))
def test_bias_correction_does_not_hurt_w8a8(seed: int) -> None:
    model = residual(seed)
    x = samples(model, 200, seed=9)
    plain = output_error(model, prepare(model, 8, 8, bias_correction=False), x)
    assert output_error(model, prepare(model, 8, 8), x) <= 1.1 * plain


def test_bias_correction_centres_every_layer() -> None:
    """On the samples that it saw, a layer's mean output differs from the float layer's by the bias's rounding."""
    model = MODELS["residual"]
    x = samples(model)[:64]
    quantized = prepare(model, 4, 8)
    for name in ("a2", "b.short"):
        exact = expose(model.onnx, [f"{name}_out"], x)[f"{name}_out"].mean(axis=(0, 2, 3))
        actual = expose(quantized.onnx, [f"{name}_out"], x)[f"{name}_out"].mean(axis=(0, 2, 3))
        assert np.abs(exact - actual).max() <= 0.51 * quantized.layers[name].bias_scales.max() + 1e-4


def test_same_inputs_same_bytes() -> None:
    first, second = (prepare(MODELS["everything"], 2, 4).onnx.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_mixed_assignment_and_hook_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rounding method is given what the layer reads in the exported network."""
    seen: dict[str, Float] = {}

    class Spy(rounding_module.Nearest):
        def round(self, problem: LayerProblem) -> QuantizedWeights:
            seen[problem.layer.name] = problem.inputs.copy()
            return super().round(problem)

    monkeypatch.setitem(rounding_module._METHODS, "spy", Spy())
    model = MODELS["residual"]
    network = analyse(model.onnx, "net")
    weights = dict(zip([layer.name for layer in network.layers], [8, 4, 2, 8, 4, 2, 8], strict=True))
    activations = {i: 8 if group.interface or i % 2 else 4 for i, group in enumerate(network.groups)}
    x = samples(model)
    bits = Bits(weights, activations)
    quantized = quantize(model, network, bits, calibrate(model, x, seed=0), x=x, rounding="spy")
    assert quantized.bits is bits
    assert {name: layer.weights.bits for name, layer in quantized.layers.items()} == weights
    for node in quantized.onnx.graph.node:
        if node.name in ("a2", "b2", "fc"):
            actual = expose(quantized.onnx, [node.input[0]], x[:64])[node.input[0]]
            # Float sums in another order may move a value by one step.
            same = np.isclose(actual, seen[node.name], atol=1e-6)
            assert same.mean() > 0.999
    reference = quantize(model, network, bits, calibrate(model, x, seed=0), x=x)
    assert reference.onnx.SerializeToString(deterministic=True) == quantized.onnx.SerializeToString(deterministic=True)


def test_illegal_assignments_are_refused() -> None:
    model = MODELS["residual"]
    network = analyse(model.onnx, "net")
    x = samples(model, 8)
    calibration = calibrate(model, x, seed=0)
    good = uniform_bits(network, 8, 8)
    cases = [
        (Bits({**good.weights, "a1": 9}, good.activations), r"'a1' has weight bits 9"),
        (Bits({}, good.activations), r"'stem' has weight bits None"),
        (Bits(good.weights, {**good.activations, 1: 2}), r"group 1 \('stem.relu_out'\) has 2 bits"),
        (Bits(good.weights, {**good.activations, 0: 4}), r"stay at 8 bits; it was given 4"),
    ]
    for bits, message in cases:
        with pytest.raises(UsageError, match=message):
            quantize(model, network, bits, calibration, x=x)
    with pytest.raises(UsageError, match="unknown rounding"):
        quantize(model, network, good, calibration, x=x, rounding="best")


def test_layer_distortion_equals_onnxruntime() -> None:
    """Against the float graph with one layer's weights replaced and its input clipped and rounded by numpy."""
    b = Builder((1, 3, 10, 10))
    hidden = b.node("Relu", [b.conv("x", "one", 3, 6)], "relu")
    model = b.build(b.conv(hidden, "two", 6, 4))
    network = analyse(model.onnx, "net")
    x = samples(model, 20)
    calibration = calibrate(model, x, seed=0)
    distortion = layer_distortion(model, network, calibration, x)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.onnx.graph.initializer}
    hidden_values = expose(model.onnx, [hidden], x)[hidden]
    tail = Builder((1, 6, 10, 10))
    tail.constant("w", constants["two.weight"])
    tail.constant("b", constants["two.bias"])
    y = tail.node("Conv", ["x", "w", "b"], "two", kernel_shape=[3, 3], pads=[1] * 4)
    exact = evaluate(tail.build(y).onnx, hidden_values, optimized=True)
    for (w_bits, a_bits), value in distortion["two"].items():
        codes = quantize_weights(constants["two.weight"], w_bits)
        approximate_tail = Builder((1, 6, 10, 10))
        approximate_tail.constant("w", codes.dequantized())
        approximate_tail.constant("b", constants["two.bias"])
        approximate_tail.node("Conv", ["x", "w", "b"], "two", kernel_shape=[3, 3], pads=[1] * 4)
        parameters = activation_parameters(calibration, a_bits)[hidden]
        approximate = evaluate(approximate_tail.build(y).onnx, fake_quantize(hidden_values, parameters), optimized=True)
        expected = np.square(approximate - exact).sum() / np.square(exact).sum()
        assert value == pytest.approx(float(expected), rel=1e-3)
    assert set(distortion) == {"one", "two"}
    assert set(distortion["one"]) == {(w, a) for w in (2, 4, 8) for a in (4, 8)}
    assert distortion["two"][2, 8] > distortion["two"][4, 8] > distortion["two"][8, 8]
    assert distortion["two"][8, 4] > distortion["two"][8, 8]


def test_exported_codes_are_what_numpy_quantizes() -> None:
    model = MODELS["residual"]
    quantized = prepare(model, 8, 8)
    x = samples(model, 6, seed=4)
    codes = expose(quantized.onnx, ["x_quantized"], x)["x_quantized"]
    assert codes.dtype == np.int8
    assert np.array_equal(codes, quantize_array(x, quantized.activations["x"]))


def test_taken_names_are_reported() -> None:
    b = Builder((1, 4, 6, 6))
    low, high = b.constant("x_scale", np.float32(-1)), b.constant("high", np.float32(1))
    y = b.conv(b.node("Clip", ["x", low, high], "clip"), "conv", 4, 2)
    with pytest.raises(UnsupportedError, match="'x_scale' is taken"):
        prepare(b.build(y), 8, 8)


def test_top1() -> None:
    logits = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]], np.float32)
    assert top1(logits, np.array([1, 1, 0])) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="labels"):
        top1(logits, np.array([1]))


def test_evaluate_refuses_wrong_samples() -> None:
    model = MODELS["residual"]
    with pytest.raises(DataError, match="no samples"):
        evaluate(model.onnx, samples(model, 1)[:0], optimized=True)
    with pytest.raises(DataError, match="the network takes"):
        evaluate(model.onnx, samples(model, 1)[:, :2], optimized=True)


def test_few_colour_images_are_joined_by_copies_beside_them() -> None:
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    joined = model_module._enough(images, 12, 0)
    assert joined.shape == (12, 3, 16, 16)
    assert np.array_equal(joined[::4], images)
    # A copy holds its image's values, mirrored and shifted: none are new, and none is another's.
    for index, copy in enumerate(joined):
        assert set(copy.ravel().tolist()) <= set(images[index // 4].ravel().tolist())
    assert not np.array_equal(joined[1], joined[0])
    assert np.array_equal(model_module._enough(images, 12, 0), joined)
    assert model_module._enough(images, 5, 0) is images
    gray = images[:, :1]
    assert model_module._enough(gray, 12, 0) is gray


@pytest.mark.parametrize("pictures", [True, False])
def test_only_pictures_are_joined_by_copies(pictures: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["residual"]
    x, network = samples(model, 6), analyse(model.onnx, "net")
    seen: list[int] = []
    monkeypatch.setattr(model_module, "_enough", lambda x, wanted, seed: seen.append(len(x)) or x)
    calibration = calibrate(model, x, seed=0, pictures=pictures)
    quantize(model, network, uniform_bits(network, 4, 8), calibration, x=x, rounding="gptq")
    assert seen == ([6] if pictures else [])


@pytest.mark.parametrize(("w_bits", "rounding", "count"), [(8, "gptq", 256), (4, "gptq", 300), (8, "nearest", 64)])
def test_as_many_samples_are_walked_as_rounding_needs(
    w_bits: int, rounding: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[int] = []

    def noted(graph: Any, layers: Any, bits: Any, parameters: Any, x: Float, **options: Any) -> None:
        walked.append(len(x))
        raise InterruptedError

    monkeypatch.setattr(model_module, "quantize_layers", noted)
    model, x = MODELS["residual"], samples(MODELS["residual"], 300)
    network = analyse(model.onnx, "net")
    with pytest.raises(InterruptedError):
        quantize(model, network, uniform_bits(network, w_bits, 8), calibrate(model, x, seed=0), x=x, rounding=rounding)
    assert walked == [count]
