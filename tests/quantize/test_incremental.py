"""Weights that are decided a share at a time; what that does to networks is tested with the other learned methods."""

import numpy as np
import pytest
import torch

from graph_builder import Builder, residual
from tapc.graph.analysis import Graph
from tapc.quantize.incremental import Effort, _sampler, _Shares, _takes_any_size
from tapc.quantize.learn import Learner
from tapc.quantize.units import whole
from tapc.quantize.weights import QuantizedLayer, QuantizedWeights


def shares(bits: int = 4) -> _Shares:
    rng = np.random.default_rng(0)
    codes = rng.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (6, 5)).astype(np.int8)
    scales = rng.uniform(0.1, 1, 6).astype(np.float32)
    weights = torch.from_numpy(((codes + rng.uniform(-0.7, 0.7, codes.shape)) * scales[:, None]).astype(np.float32))
    start = QuantizedLayer(QuantizedWeights(codes, scales, bits), np.zeros(6, np.int32), scales)
    return _Shares(start, weights)


@pytest.mark.parametrize("bits", [2, 4])
def test_relaxed_weights_start_nearest_to_the_codes_given(bits: int) -> None:
    layer = shares(bits)
    given = layer.base + layer.choice
    assert torch.equal(layer.codes(), given)
    assert float((layer.weight().detach() / layer.scales - given).abs().max()) <= 0.3 * 0.49 + 1e-5


def test_the_nearest_are_decided_first_and_stay() -> None:
    layer = shares()
    distance = (layer.share - layer.share.round()).abs().detach()
    layer.decide(0.5)
    assert int(layer.fixed.sum()) == 15
    assert float(distance[layer.fixed].max()) <= float(distance[~layer.fixed].min())
    before = layer.weight().detach()[layer.fixed]
    with torch.no_grad():
        layer.share += 0.7
    assert torch.equal(layer.weight().detach()[layer.fixed], before)
    layer.decide(0.4)  # fewer than are decided: nothing to do
    assert int(layer.fixed.sum()) == 15
    layer.decide(1.0)
    assert layer.fixed.all()
    assert torch.equal(layer.weight(), layer.codes() * layer.scales)


def test_the_whole_network_is_one_unit() -> None:
    graph = Graph(residual().onnx)
    (unit, *behind) = whole(graph)
    assert [node.name for part in (unit, *behind) for node in part.nodes] == [node.name for node in graph.nodes]
    assert unit.inputs == (graph.input,)
    assert all(part.nodes[0].op_type == "Softmax" for part in behind)


def test_effort_falls_with_the_size_of_the_network() -> None:
    small, middle, large = (Effort.of(macs) for macs in (1_000_000, 140_000_000, 4_000_000_000))
    assert small.steps > middle.steps > large.steps >= 400


def classifier(side: int, *, pooled: bool) -> Graph:
    b = Builder((1, 3, side, side))
    x = b.node("Relu", [b.conv("x", "one", 3, 4, stride=2)], "relu")
    features = 4 if pooled else 4 * (side // 2) ** 2
    x = b.node("GlobalAveragePool", [x], "pool") if pooled else x
    x = b.node("Flatten", [x], "flatten", axis=1)
    return Graph(b.build(b.gemm(x, "fc", features, 5)).onnx)


@pytest.mark.parametrize("pooled", [True, False])
def test_large_images_are_cut_where_the_network_takes_any_size(pooled: bool) -> None:
    graph = classifier(200, pooled=pooled)
    assert _takes_any_size(graph) == pooled
    learner = Learner(graph, {})
    (unit,) = whole(graph)
    x = torch.randn(6, 3, 200, 200, generator=torch.Generator().manual_seed(0))
    crop = 160 if pooled else None
    generator = torch.Generator().manual_seed(0)
    teacher, seen = (lambda b: learner.exact(unit, {"x": b})), torch.arange(6)
    draw = _sampler(x, x[:, :1, 0, 0], seen, generator, 4, crop, teacher, pictures=True)
    batch, goal = draw()
    assert batch.shape == ((4, 3, 160, 160) if pooled else (4, 3, 200, 200))
    assert torch.allclose(goal, learner.exact(unit, {"x": batch}))
