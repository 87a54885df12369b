"""Learned rounding: better on samples that it never saw, exact in what it exports, reproducible."""

from functools import partial

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph_builder import Model, everything, residual
from tapc.graph.analysis import Graph, analyse
from tapc.quantize import QuantizedModel, calibrate, evaluate, quantize
from tapc.quantize.activations import fake_quantize as fake_quantize_array
from tapc.quantize.incremental import Effort
from tapc.quantize.learn import Learner, Learning, fake_quantize
from tapc.quantize.model import uniform_bits
from tapc.quantize.problem import Doubles
from tapc.quantize.runtime import Float, batched, session
from tapc.quantize.units import Reconstruction, Unit, blocks, single_layers
from tapc.quantize.weights import QuantizedLayer


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning takes hundreds of steps per unit by default, and thousands for all layers together."""
    monkeypatch.setattr(Effort, "of", staticmethod(lambda macs: Effort(80, 16)))
    monkeypatch.setattr("tapc.quantize.refine.Learning", partial(Learning, steps=50))


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


def with_layers(model: Model, layers: dict[str, QuantizedLayer]) -> onnx.ModelProto:
    """Return the float network with the dequantized weights and biases of some layers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model.onnx)
    for tensor in copy.graph.initializer:
        name, _, part = tensor.name.rpartition(".")
        if name in layers:
            layer = layers[name]
            value = layer.weights.dequantized() if part == "weight" else layer.bias * layer.bias_scales
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    return copy


def tensors(model: onnx.ModelProto, names: list[str], x: Float) -> dict[str, Float]:
    exposed = batched(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return dict(zip(names, session(exposed, optimized=False).run(names, {"x": x}), strict=True))


def gain(model: Model, unit: Unit, coupling: Doubles | None) -> float:
    """Return a unit's error on samples that were never seen, learned over that of nearest 2-bit rounding."""
    graph = Graph(model.onnx)
    x, fresh = draw(model, 128, 0), draw(model, 128, 1)
    start = rounded(model, "nearest", 2, 8, 128)
    seen = tensors(model.onnx, [*(name for name in unit.inputs if name != "x"), unit.output], x) | {"x": x}
    given = {name: start.layers[name] for name in unit.layers}
    learner = Learner(graph, {name: name for name in start.activations}, Learning(steps=200))
    inputs = {name: (seen[name], seen[name]) for name in unit.inputs}
    learned = learner.learn(Reconstruction(unit, given, start.activations, inputs, seen[unit.output], coupling))
    assert learned is not None
    exact = tensors(model.onnx, [unit.output], fresh)[unit.output]
    metric = np.eye(exact.shape[1]) if coupling is None else coupling

    def cost(layers: dict[str, QuantizedLayer]) -> float:
        errors = tensors(with_layers(model, layers), [unit.output], fresh)[unit.output] - exact
        return float(np.einsum("nihw,ij,njhw->", errors, metric, errors, optimize=True))

    return cost(learned.layers) / cost(given)


# Measured with every instruction set: 0.74 to 0.86, coupled 0.64 to 0.73; single layers 0.71 to 0.91. What the whole
# network makes of a unit's gain is chance: its output has 0.9 to 1.1 times the error.
@pytest.mark.parametrize(("coupled", "bound"), [(False, 0.93), (True, 0.85)])
def test_a_learned_block_beats_the_layers_it_starts_from(coupled: bool, bound: float) -> None:
    found = []
    for seed in range(2):
        model = residual(seed)
        unit = blocks(Graph(model.onnx), 3)[0]
        channels = Graph(model.onnx).shape(unit.output)[1]
        shared = np.random.default_rng(seed).normal(size=channels)
        coupling = 3 * np.outer(shared, shared) + np.eye(channels)
        found.append(gain(model, unit, coupling * channels / np.trace(coupling) if coupled else None))
    assert np.mean(found) < bound


def test_a_learned_layer_beats_the_one_it_starts_from() -> None:
    model = residual()
    units = [unit for unit in single_layers(Graph(model.onnx)) if set(unit.layers) & {"a1", "b1"}]
    assert len(units) == 2
    assert np.mean([gain(model, unit, None) for unit in units]) < 0.95


def test_a_network_learned_as_a_whole_beats_the_layers_it_starts_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not gain on samples kept back is given up: which networks do differs between CPUs (0.81 to 1)."""
    monkeypatch.setattr("tapc.quantize.model.LEARNED_FROM", "nearest")
    monkeypatch.setattr(Effort, "of", staticmethod(lambda macs: Effort(300, 16)))
    ratios, methods = [], set[str]()
    for seed in (0, 1, 3, 4):
        model = residual(seed)
        learned = rounded(model, "network", 2, 8)
        ratios.append(error(model, learned) / error(model, rounded(model, "nearest", 2, 8)))
        methods |= set(learned.rounding.values())
    assert np.exp(np.mean(np.log(ratios))) < 0.99
    assert "network" in methods


def test_a_softmax_hides_nothing_from_the_layers_before_it() -> None:
    graph = Graph(everything().onnx)
    last = blocks(graph, 3)[-1]
    assert [node.op_type for node in last.nodes] == ["Softmax"]


@pytest.mark.parametrize(("method", "w_bits", "a_bits"), [("block", 2, 4), ("adaround", 2, 8)])
def test_learning_does_no_harm(method: str, w_bits: int, a_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learned is exported as it was learned: codes, biases and steps.

    Units gain by themselves; all of them together gain or lose some by chance (0.89 to 1.4 were measured), but what
    is exported wrongly costs several times the error.
    """
    monkeypatch.setattr("tapc.quantize.model.LEARNED_FROM", "nearest")
    ratios = []
    for seed in range(2):
        model = residual(seed)
        learned = rounded(model, method, w_bits, a_bits, 64)
        assert method in learned.rounding.values()
        assert set(learned.rounding.values()) <= {method, "nearest"}
        ratios.append(error(model, learned) / error(model, rounded(model, "nearest", w_bits, a_bits, 64)))
    assert np.exp(np.mean(np.log(ratios))) < 1.5


@pytest.mark.parametrize("method", ["block", "network"])
def test_what_eight_bits_hold_is_left_alone(method: str) -> None:
    model = residual()
    learned, plain = (rounded(model, name, 8, 8) for name in (method, "gptq"))
    assert set(learned.rounding.values()) == {"gptq"}
    assert learned.onnx.SerializeToString(deterministic=True) == plain.onnx.SerializeToString(deterministic=True)


@pytest.mark.parametrize("method", ["adaround", "block", "network"])
def test_grouped_layers_are_learned(method: str) -> None:
    assert rounded(everything(), method, 2, 8, 32).layers["grouped"].weights.bits == 2


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
    found = learner.learn(Reconstruction(unit, start, quantized.activations, {unit.inputs[0]: (x, x)}, target))
    assert found is None or found.after < found.before


@pytest.mark.parametrize("bits", [2, 4])
def test_learning_starts_at_the_given_codes(bits: int) -> None:
    """Even where they are far from the float weights."""
    import torch

    from tapc.quantize.learn import _Layer
    from tapc.quantize.weights import QuantizedWeights, code_range

    rng = np.random.default_rng(0)
    low, high = code_range(bits)
    values = rng.integers(low, high + 1, (6, 20)).astype(np.int8)
    given = QuantizedWeights(values, np.full(6, 0.1, np.float32), bits)
    start = QuantizedLayer(given, np.zeros(6, np.int32), np.full(6, 0.01, np.float32))
    for weights in (rng.normal(0, 5, (6, 20)), given.dequantized() + 0.05, given.dequantized() - 0.05):
        layer = _Layer(start, torch.from_numpy(weights.astype(np.float32)))
        assert torch.equal(layer.codes(), torch.from_numpy(values.astype(np.float32)))
