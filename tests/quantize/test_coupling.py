"""Errors of different outputs counted together: against Jacobians by hand, brute force and whole networks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from graph_builder import Builder, everything, residual
from tapc.graph.analysis import Graph, analyse
from tapc.quantize import calibrate, evaluate, quantize
from tapc.quantize import model as quantize_model
from tapc.quantize.coupled import coupled, descend_coupled
from tapc.quantize.coupling import couplings
from tapc.quantize.model import uniform_bits
from tapc.quantize.weights import code_range

Doubles = NDArray[np.float64]


def definite(rng: np.random.Generator, size: int) -> Doubles:
    """A random second-moment matrix."""
    x = rng.normal(size=(3 * size, size)) @ rng.normal(size=(size, size))
    return np.asarray(x.T @ x / len(x))


def cost(weights: Doubles, codes: Doubles, steps: Doubles, inputs: Doubles, outputs: Doubles) -> float:
    """tr(G E A E^T) by the definition: every pair of outputs, every pair of inputs."""
    error = weights - codes * steps[:, None]
    return float(np.einsum("ik,ij,jl,kl->", outputs, error, inputs, error))


def test_coupling_is_that_of_the_jacobian() -> None:
    """Two dense layers: J = W2 D, D the mask of the Relu between them."""
    b = Builder((1, 6), 0)
    y = b.node("Relu", [b.gemm("x", "fc1", 6, 5)], "relu")
    model = b.build(b.gemm(y, "fc2", 5, 4))
    graph = Graph(model.onnx)
    x = np.random.default_rng(0).normal(size=(4000, 6)).astype(np.float32)
    hidden = str(graph.producer[y].input[0])
    # As many samples as are ever looked at, over several seeds.
    found = np.mean([couplings(graph, x, [hidden], 1, seed)[hidden] for seed in range(24)], axis=0)
    first, second = graph.constants["fc1.weight"], graph.constants["fc2.weight"].astype(np.float64)
    mask = x.astype(np.float64) @ first.T + graph.constants["fc1.bias"] > 0
    jacobians = second[None] * mask[:, None, :]
    exact = np.einsum("nki,nkj->ij", jacobians, jacobians)
    exact *= len(exact) / np.trace(exact)
    assert np.allclose(np.diagonal(found), np.diagonal(exact), rtol=0.15)
    # Off the diagonal it is shrunk, by less than a half here.
    off = ~np.eye(5, dtype=bool)
    slope = float((found[off] * exact[off]).sum() / np.square(exact[off]).sum())
    assert 0.5 < slope < 1.1
    assert np.corrcoef(found[off], exact[off])[0, 1] > 0.9


def test_what_is_noise_is_left_out() -> None:
    """Logits meet at the output as they are: nothing couples them."""
    graph = Graph(residual().onnx)
    x = np.random.default_rng(0).normal(size=(64, *graph.shape("x")[1:])).astype(np.float32)
    names = [str(node.output[0]) for node in graph.nodes if node.op_type == "Conv"]
    last = couplings(graph, x, [graph.output], 10**6, 0).get(graph.output, np.eye(5))
    assert np.abs(last - np.eye(5)).max() < 0.1
    found = couplings(graph, x, names, 10**6, 0)
    assert found
    for name, matrix in found.items():
        assert matrix.shape == (graph.shape(name)[1],) * 2
        assert np.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-6)
        assert np.linalg.eigvalsh(matrix)[0] > 0
        assert np.trace(matrix) == pytest.approx(len(matrix), rel=0.02)
    assert couplings(graph, x[:1], names, 10**6, 0) == {}
    assert couplings(graph, x, [], 10**6, 0) == {}


def test_the_cost_of_samples_is_bounded() -> None:
    """With many MACs few samples are looked at: those that are not drawn may be anything."""
    graph = Graph(residual().onnx)
    x = np.random.default_rng(0).normal(size=(64, *graph.shape("x")[1:])).astype(np.float32)
    names = [str(node.output[0]) for node in graph.nodes if node.op_type == "Conv"]
    drawn = np.random.default_rng(3).permutation(64)[:8]
    other = np.full_like(x, np.nan)
    other[drawn] = x[drawn]
    first, second = (couplings(graph, samples, names, 10**12, 3) for samples in (x, other))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("seed", range(6))
def test_coupled_codes_come_near_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = definite(rng, 3), definite(rng, 2)
    weights, steps = rng.normal(size=(2, 3)), np.full(2, 0.6)
    every = [np.reshape(codes, (2, 3)) for codes in itertools.product(range(-2, 2), repeat=6)]
    best = min(cost(weights, np.asarray(codes, np.float64), steps, inputs, outputs) for codes in every)
    nearest = np.clip(np.rint(weights / steps[:, None]), -2, 1)
    codes = descend_coupled(nearest, weights, steps, 2, inputs, outputs, 50)
    before, after = (cost(weights, q, steps, inputs, outputs) for q in (nearest, codes))
    assert best - 1e-9 <= after <= before
    assert after <= best + 0.6 * (before - best) + 1e-9
    low, high = code_range(2)
    for row, column, step in itertools.product(range(2), range(3), (-1, 1)):
        other = codes.copy()
        other[row, column] = np.clip(other[row, column] + step, low, high)
        assert cost(weights, other, steps, inputs, outputs) >= after - 1e-9


@pytest.mark.parametrize("bits", [2, 4])
def test_coupled_never_costs_more_and_keeps_scales_in_bounds(bits: int) -> None:
    rng = np.random.default_rng(bits)
    low, high = code_range(bits)
    for _ in range(10):
        inputs, outputs = definite(rng, 12), definite(rng, 7)
        weights, scales = rng.normal(size=(7, 12)), np.full(7, 1.2 / high if bits == 4 else 0.8, np.float32)
        codes = np.clip(np.rint(weights / scales[:, None]), low, high)
        least = np.where(np.arange(7) == 3, 10.0, 0.0)
        start = np.maximum(scales, least).astype(np.float32)
        found, after = coupled(codes, weights, start, bits, inputs, outputs, least)
        assert cost(weights, found, after.astype(np.float64), inputs, outputs) <= cost(
            weights, codes, start.astype(np.float64), inputs, outputs
        ) * (1 + 1e-6)
        assert np.array_equal(found, np.rint(found))
        assert low <= found.min()
        assert found.max() <= high
        assert np.all(after >= least)
        assert after.dtype == np.float32


def test_without_coupling_rows_are_on_their_own() -> None:
    """With G the identity, every row ends where it would end alone."""
    rng = np.random.default_rng(1)
    inputs, weights, steps = definite(rng, 8), rng.normal(size=(4, 8)), np.full(4, 0.3)
    start = np.zeros((4, 8))
    together = descend_coupled(start, weights, steps, 4, inputs, np.eye(4), 50)
    for row in range(4):
        own = slice(row, row + 1)
        alone = descend_coupled(start[own], weights[own], steps[own], 4, inputs, np.eye(1), 50)
        assert np.array_equal(together[own], alone)


def test_outputs_without_weights_stay_constant() -> None:
    rng = np.random.default_rng(2)
    inputs, outputs, weights = definite(rng, 8), definite(rng, 4), rng.normal(size=(4, 8))
    weights[2] = 0
    codes = np.clip(np.rint(weights / 0.3), -8, 7)
    found, _ = coupled(codes, weights, np.full(4, 0.3, np.float32), 4, inputs, outputs, np.zeros(4))
    assert not found[2].any()
    assert not np.array_equal(found, codes)


def test_it_pays_at_the_networks_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh samples, one layer of 2 bits at a time: less error of the logits than with rows rounded on their own."""
    ratios = []
    given = quantize_model._couplings
    for seed in range(2):
        model = residual(seed)
        network = analyse(model.onnx, "net")
        rng = np.random.default_rng(seed)
        shape = Graph(model.onnx).shape("x")[1:]
        x, fresh = (rng.normal(0, 1, (n, *shape)).astype(np.float32) for n in (256, 128))
        calibration = calibrate(model, x, seed=0)
        exact = evaluate(model.onnx, fresh, optimized=True)
        wide = uniform_bits(network, 8, 8)
        for layer in ("b1", "b2", "b.short"):
            bits = replace(wide, weights=wide.weights | {layer: 2})
            errors = []
            for couple in (given, lambda *_: {}):
                monkeypatch.setattr(quantize_model, "_couplings", couple)
                found = quantize(model, network, bits, calibration, x=x, rounding="gptq")
                errors.append(float(np.square(evaluate(found.onnx, fresh, optimized=False) - exact).sum()))
            ratios.append(errors[0] / errors[1])
    assert np.mean(ratios) < 0.95


def test_every_operator_is_differentiated() -> None:
    model = everything()
    network = analyse(model.onnx, "net")
    x = np.random.default_rng(0).normal(size=(32, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)
    calibration = calibrate(model, x, seed=0)
    first, second = (
        quantize(model, network, uniform_bits(network, 4, 8), calibration, x=x, rounding="gptq").onnx for _ in range(2)
    )
    assert first.SerializeToString() == second.SerializeToString()
