"""The torch module against onnxruntime, which computes the same graph independently."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from graph_builder import Builder, Model, dead, everything, pooled, residual
from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend import load
from tapc.graph.analysis import Graph
from tapc.quantize.runtime import batched, evaluate, session
from tapc.quantize.torch_graph import TorchGraph


def windows() -> Model:
    """Uneven pads, wide borders, both ways to count them, and a Clip that is open on one side."""
    b = Builder((1, 2, 9, 7), seed=3)
    w = b.constant("w", b.rng.normal(0, 0.5, (4, 2, 3, 2)).astype(np.float32))
    y = b.node("Conv", ["x", w], "uneven", kernel_shape=[3, 2], strides=[2, 1], pads=[0, 1, 2, 0])
    y = b.node("Clip", [y, b.constant("low", np.float32(-0.25))], "low.clip")
    y = b.node("Clip", [y, "", b.constant("high", np.float32(1.5))], "high.clip")
    y = b.node("MaxPool", [y], "max", kernel_shape=[3, 3], strides=[2, 2], pads=[2, 0, 1, 2])
    y = b.node("AveragePool", [y], "with", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)
    y = b.node("AveragePool", [y], "without", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=0)
    return b.build(b.node("Add", [y, y], "twice"))


MODELS = {
    "residual": residual(),
    "everything": everything(),
    "pooled": pooled(),
    "dead": dead(),
    "windows": windows(),
}


def samples(model: onnx.ModelProto, count: int = 5, seed: int = 1) -> np.ndarray:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).normal(0, 1, (count, *shape[1:])).astype(np.float32)


def assert_equal(actual: torch.Tensor, expected: np.ndarray) -> None:
    assert tuple(actual.shape) == expected.shape
    largest = max(float(np.abs(expected).max()), 1e-6)
    assert np.abs(actual.detach().numpy() - expected).max() <= 1e-5 * largest


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_equals_onnxruntime(name: str) -> None:
    model = MODELS[name].onnx
    x = samples(model)
    names = [node.output[0] for node in model.graph.node]
    exposed = batched(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in names)
    expected = session(exposed, optimized=False).run(names, {"x": x})
    tensors = TorchGraph(Graph(model)).tensors(torch.tensor(x), [*names, "x"])
    assert set(tensors) == {*names, "x"}
    for tensor, value in zip(names, expected, strict=True):
        assert_equal(tensors[tensor], value)


def test_resnet8_equals_onnxruntime() -> None:
    model = load("resnet8").onnx
    x = samples(model)
    assert_equal(TorchGraph(Graph(model))(torch.tensor(x)), evaluate(model, x, optimized=False))


@pytest.mark.parametrize("name", ["pretrainedResnet", "vww_96_float", "ad01_fp32", "kws_ref_model_float32"])
def test_mlperf_tiny_equals_onnxruntime(name: str, shared_data: Path) -> None:
    model = load(str(shared_data / "mlperf-tiny" / f"{name}.tflite")).onnx
    x = samples(model)
    assert_equal(TorchGraph(Graph(model))(torch.tensor(x)), evaluate(model, x, optimized=False))


def test_given_weights_and_biases_replace_the_layers() -> None:
    model = MODELS["residual"].onnx
    x = samples(model)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    rng = np.random.default_rng(2)
    new: dict[str, torch.Tensor] = {}
    for tensor in changed.graph.initializer:
        if tensor.name in ("a2.weight", "fc.bias"):
            value = rng.normal(0, 1, tuple(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
            new[tensor.name] = torch.tensor(value, requires_grad=True)
    net = TorchGraph(Graph(model))
    y = net(torch.tensor(x), {"a2": new["a2.weight"]}, {"fc": new["fc.bias"]})
    assert_equal(y, evaluate(changed, x, optimized=False))
    y.sum().backward()
    assert new["a2.weight"].grad is not None
    assert new["fc.bias"].grad.tolist() == pytest.approx([5.0] * 5)
    assert net.weights()["a2"].grad is None
    assert net.weights()["b1"].grad is not None


def test_training_lowers_a_loss() -> None:
    net = TorchGraph(Graph(MODELS["pooled"].onnx))
    x = torch.tensor(samples(MODELS["pooled"].onnx, 8))
    assert {id(p) for p in net.parameters()} == {id(p) for p in (*net.weights().values(), *net.biases().values())}
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    losses = []
    for _ in range(5):
        loss = net(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_a_prefix_computes_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    net = TorchGraph(Graph(MODELS["residual"].onnx))
    monkeypatch.setitem(net._steps, "a1_out", lambda operands: pytest.fail("computed too much"))
    x = torch.tensor(samples(MODELS["residual"].onnx))
    assert set(net.tensors(x, ["stem.relu_out"])) == {"stem.relu_out"}
    assert net.tensors(x, ["x"])["x"] is x


def test_mistakes_are_named() -> None:
    net = TorchGraph(Graph(MODELS["residual"].onnx))
    with pytest.raises(DataError, match=r"samples have shape \(3, 11, 12\)"):
        net(torch.zeros(2, 3, 11, 12))
    with pytest.raises(DataError, match="no tensor 'nowhere'"):
        net.tensors(torch.zeros(2, 3, 12, 12), ["nowhere"])
    b = Builder((1, 4))
    y = b.node("Gemm", ["x", b.constant("w", np.ones((4, 3), np.float32))], "plain")
    with pytest.raises(UnsupportedError, match=r"'plain'.*transB=1"):
        TorchGraph(Graph(b.build(y).onnx))
    b = Builder((1, 1, 4, 4))
    pads = b.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    with pytest.raises(UnsupportedError, match="'mirror'"):
        TorchGraph(Graph(b.build(b.node("Pad", ["x", pads], "mirror", mode="reflect")).onnx))
