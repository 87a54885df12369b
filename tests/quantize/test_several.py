"""Quantization of networks with several inputs and outputs."""

import numpy as np
import pytest
import torch

from graph_builder import Builder, Model, pair
from tapc.base.errors import UsageError
from tapc.base.ports import split
from tapc.graph.analysis import Graph, analyse
from tapc.quantize import calibrate, equalize, evaluate, layer_distortion, quantize, uniform_bits
from tapc.quantize.alone import measured_losses
from tapc.quantize.coupling import couplings
from tapc.quantize.curvature import Curvature
from tapc.quantize.losses import OutputLoss
from tapc.quantize.sensitivity import proxy_context, without_softmax
from tapc.quantize.torch_graph import TorchGraph
from tapc.quantize.units import whole

SIZES = {"x": (3, 8, 8), "depth": (1, 8, 8), "numbers": (3,)}


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (48, 259)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    return pair()


def test_rows_are_divided_as_the_inputs_lie(model: Model, x: np.ndarray) -> None:
    feed = Graph(model.onnx).feed(x)
    assert {name: value.shape[1:] for name, value in feed.items()} == SIZES
    np.testing.assert_array_equal(np.concatenate([value.reshape(48, -1) for value in feed.values()], axis=1), x)


def test_torch_gives_what_onnxruntime_gives(model: Model, x: np.ndarray) -> None:
    graph = Graph(model.onnx)
    found = TorchGraph(graph).tensors(torch.from_numpy(x), graph.outputs)
    expected = split(graph.output_ports, evaluate(model.onnx, x, optimized=True))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].detach().numpy(), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rounding", ["nearest", "gptq", "adaround"])
def test_error_is_small_in_every_output(model: Model, x: np.ndarray, rounding: str) -> None:
    network = analyse(model.onnx, "pair")
    made = quantize(
        model, network, uniform_bits(network, 8, 8), calibrate(model, x, seed=0), x=x, rounding=rounding, seed=1
    )
    ports = Graph(model.onnx).output_ports
    exact, found = (split(ports, evaluate(m, x, optimized=False)) for m in (model.onnx, made.onnx))
    for name, value in exact.items():
        assert np.square(found[name] - value).sum() < 1e-3 * np.square(value).sum()


def test_learning_towards_one_output_is_refused(model: Model, x: np.ndarray) -> None:
    network = analyse(model.onnx, "pair")
    for rounding in ("block", "network"):
        with pytest.raises(UsageError, match="from one input of values to one output"):
            quantize(model, network, uniform_bits(network, 4, 8), calibrate(model, x, seed=0), x=x, rounding=rounding)


def test_equalization_leaves_the_interface_alone(x: np.ndarray) -> None:
    model = pair()
    found = equalize(model.onnx, x, 4)
    graph = Graph(model.onnx)
    assert not {*graph.inputs, *graph.outputs} & set(found.factors)
    np.testing.assert_allclose(
        evaluate(found.onnx, x, optimized=True), evaluate(model.onnx, x, optimized=True), rtol=1e-3, atol=1e-4
    )


def test_the_loss_is_the_sum_of_relative_errors() -> None:
    ports = Graph(pair().onnx).output_ports
    exact = np.random.default_rng(0).normal(0, 1, (9, 391)).astype(np.float32)
    parts = split(ports, exact)
    loss = OutputLoss(ports, exact)
    assert loss(exact) == 0
    names = [port.name for port in ports]
    for name in names:
        # Whatever an output's unit, an error as large as what it does costs 1.
        found = [parts[other] if other != name else np.broadcast_to(parts[other].mean(axis=0), parts[other].shape)
                 for other in names]  # fmt: skip
        rows = np.concatenate([value.reshape(9, -1) for value in found], axis=1)
        assert loss(rows) == pytest.approx(1, rel=1e-5)
    assert OutputLoss(ports, exact * 1000)(exact * 900) == pytest.approx(loss(exact * np.float32(0.9)), rel=1e-4)


def test_every_layer_is_judged_by_all_outputs(model: Model, x: np.ndarray) -> None:
    network = analyse(model.onnx, "pair")
    calibration = calibrate(model, x, seed=0)
    context = proxy_context(model, network, calibration, x, layer_distortion(model, network, calibration, x), 2)
    losses = measured_losses(model, network, x, (2, 8), "nearest")
    fisher = Curvature(Graph(model.onnx), x[:4]).fisher
    assert context.output_error is not None
    for layer in network.layers:
        assert context.output_error(layer.name, 2) > context.output_error(layer.name, 8) > 0
        assert losses[layer.name][2] > losses[layer.name][8] > 0
        assert fisher[layer.name].sum() > 0


def test_curvature_is_that_of_the_relative_outputs(x: np.ndarray) -> None:
    """The exact rows and random signs agree; an output's unit does not count."""
    graph = Graph(pair().onnx)
    exact = Curvature(graph, x[:1], exact_rows=1 << 20)
    probed = Curvature(graph, x[:1], exact_rows=0)
    assert exact.exact
    assert not probed.exact
    for name, diagonal in exact.fisher.items():
        assert probed.fisher[name].sum() == pytest.approx(diagonal.sum(), rel=0.25)
    assert all(matrix.shape[0] > 1 for matrix in couplings(graph, x, ["sum_out"], 10**6, 0).values())


def test_the_scores_before_an_argmax_are_what_an_error_is_seen_in() -> None:
    b = Builder((1, 8), 0)
    scores = b.reshape(b.gemm("x", "fc", 8, 5), "map", [1, 5, 1, 1])
    place = b.node("Cast", [b.node("ArgMax", [scores], "place", axis=1, keepdims=1)], "number", to=1)
    model = b.build(b.node("Flatten", [place], "flat", axis=1))
    graph = Graph(model.onnx)
    assert graph.scores("flat_out") == scores
    assert [value.name for value in without_softmax(model.onnx).graph.output] == [scores]
    samples = np.random.default_rng(0).normal(0, 1, (32, 8)).astype(np.float32)
    network = analyse(model.onnx, "net")
    losses = measured_losses(model, network, samples, (2, 4, 8), "nearest")["fc"]
    assert losses[2] > losses[4] > losses[8] > 0
    assert Curvature(graph, samples[:4]).fisher["fc"].sum() > 0
    assert [unit.output for unit in whole(graph)] == [scores, "flat_out"]
    made = quantize(
        model, network, uniform_bits(network, 4, 8), calibrate(model, samples, seed=0), x=samples, rounding="block"
    )
    same = evaluate(made.onnx, samples, optimized=False) == evaluate(model.onnx, samples, optimized=True)
    assert same.mean() > 0.7
