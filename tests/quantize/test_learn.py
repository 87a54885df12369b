"""Learned rounding: better on samples that it never saw, exact in what it exports, reproducible."""

import numpy as np
import pytest
from graph_builder import Model, everything, residual

from tapc.network_analysis import Graph, analyse
from tapc.quantize import QuantizedModel, calibrate, evaluate, quantize
from tapc.quantize.activations import fake_quantize as fake_quantize_array
from tapc.quantize.incremental import Effort
from tapc.quantize.learn import Learner, Learning, fake_quantize
from tapc.quantize.model import uniform_bits
from tapc.quantize.runtime import Float
from tapc.quantize.units import blocks, single_layers


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning all layers together takes thousands of steps by default."""
    monkeypatch.setattr(Effort, "of", staticmethod(lambda macs: Effort(1000, 32)))


def draw(model: Model, count: int, seed: int) -> Float:
    return np.random.default_rng(seed).normal(0, 1, (count, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)


def rounded(model: Model, method: str, w_bits: int, a_bits: int, count: int = 256) -> QuantizedModel:
    network = analyse(model.onnx, "net")
    x = draw(model, count, 0)
    return quantize(
        model, network, uniform_bits(network, w_bits, a_bits), calibrate(model, x, seed=0), x=x, rounding=method
    )


def error(model: Model, quantized: QuantizedModel) -> float:
    fresh = draw(model, 128, 1)
    exact = evaluate(model.onnx, fresh, optimized=True)
    return float(np.square(evaluate(quantized.onnx, fresh, optimized=False) - exact).mean())


@pytest.mark.parametrize("make", [residual, everything])
def test_units_hold_every_node_once_and_end_in_one_tensor(make: type) -> None:
    graph = Graph(make().onnx)
    for units in (single_layers(graph), blocks(graph, 1), blocks(graph, 3)):
        assert [node.name for unit in units for node in unit.nodes] == [node.name for node in graph.nodes]
        for unit in units:
            made = {node.output[0] for node in unit.nodes}
            outside = [n for n in graph.nodes if n.name not in {m.name for m in unit.nodes}]
            read = {name for node in outside for name in node.input} & made
            assert read <= {unit.output}
            assert unit.output == unit.nodes[-1].output[0]


def test_a_residual_block_is_one_unit() -> None:
    graph = Graph(residual().onnx)
    found = [set(unit.layers) for unit in blocks(graph, 1)]
    assert {"a1", "a2"} in found
    assert {"b1", "b2", "b.short"} in found
    assert all(len(unit.layers) <= 1 for unit in single_layers(graph))


# Blocks end anywhere from 0.80 to 0.97 with one network and another number of threads: several are averaged.
@pytest.mark.parametrize(
    ("method", "networks", "bound"), [("adaround", 3, 0.9), ("block", 3, 0.95), ("network", 1, 0.9)]
)
def test_learning_beats_the_layers_it_starts_from(
    method: str, networks: int, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tapc.quantize.model.LEARNED_FROM", "nearest")
    ratios = []
    for seed in range(networks):
        model = residual(seed)
        learned = rounded(model, method, 2, 8)
        ratios.append(error(model, learned) / error(model, rounded(model, "nearest", 2, 8)))
        assert method in learned.rounding.values()
        assert set(learned.rounding.values()) <= {method, "nearest"}
    assert np.mean(ratios) < bound


def test_a_softmax_hides_nothing_from_the_layers_before_it() -> None:
    graph = Graph(everything().onnx)
    last = blocks(graph, 3)[-1]
    assert [node.op_type for node in last.nodes] == ["Softmax"]


@pytest.mark.parametrize(("method", "w_bits", "a_bits"), [("block", 4, 4), ("adaround", 2, 8), ("network", 4, 4)])
def test_learning_does_no_harm(method: str, w_bits: int, a_bits: int) -> None:
    model = residual()
    assert error(model, rounded(model, method, w_bits, a_bits)) < 1.05 * error(
        model, rounded(model, "gptq", w_bits, a_bits)
    )


@pytest.mark.parametrize("method", ["block", "network"])
def test_what_eight_bits_hold_is_left_alone(method: str) -> None:
    model = residual()
    learned, plain = (rounded(model, name, 8, 8) for name in (method, "gptq"))
    assert set(learned.rounding.values()) == {"gptq"}
    assert learned.onnx.SerializeToString(deterministic=True) == plain.onnx.SerializeToString(deterministic=True)


@pytest.mark.parametrize("method", ["block", "network"])
def test_same_seed_same_bytes(method: str) -> None:
    model = residual()
    first, second = (rounded(model, method, 2, 4, 64).onnx.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_fake_quantization_is_that_of_numpy() -> None:
    import torch

    model = residual()
    parameters = rounded(model, "nearest", 8, 4).activations
    values = np.random.default_rng(0).normal(0, 3, 1000).astype(np.float32)
    for given in parameters.values():
        ours = fake_quantize(torch.from_numpy(values), given, given.scale).numpy()
        assert np.allclose(ours, fake_quantize_array(values, given), atol=1e-6)


def test_nothing_is_learned_that_does_not_help() -> None:
    """With one gradient step nothing is decided yet: the start is kept."""
    model = residual()
    network = analyse(model.onnx, "net")
    x = draw(model, 64, 0)
    quantized = quantize(model, network, uniform_bits(network, 2, 8), calibrate(model, x, seed=0), x=x, rounding="gptq")
    graph = Graph(model.onnx)
    owners = {name: name for name in quantized.activations}
    unit = blocks(graph, 1)[0]
    learner = Learner(graph, owners, Learning(steps=1))
    target = np.zeros((64, *graph.shape(unit.output)[1:]), np.float32)
    start = {name: quantized.layers[name] for name in unit.layers}
    found = learner.learn(unit, start, quantized.activations, {unit.inputs[0]: (x, x)}, target)
    assert found is None or found.after < found.before


@pytest.mark.parametrize("bits", [2, 4])
def test_learning_starts_at_the_given_codes(bits: int) -> None:
    """Even where they are far from the float weights."""
    import torch

    from tapc.quantize.learn import _Layer
    from tapc.quantize.weights import QuantizedLayer, QuantizedWeights, code_range

    rng = np.random.default_rng(0)
    low, high = code_range(bits)
    values = rng.integers(low, high + 1, (6, 20)).astype(np.int8)
    given = QuantizedWeights(values, np.full(6, 0.1, np.float32), bits)
    start = QuantizedLayer(given, np.zeros(6, np.int32), np.full(6, 0.01, np.float32))
    for weights in (rng.normal(0, 5, (6, 20)), given.dequantized() + 0.05, given.dequantized() - 0.05):
        layer = _Layer(start, weights.astype(np.float32))
        assert torch.equal(layer.codes(), torch.from_numpy(values.astype(np.float32)))
