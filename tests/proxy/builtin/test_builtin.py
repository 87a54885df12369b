"""The built-in proxies against their definitions, in numpy and loops, and against what must not change them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from graph_builder import Builder, Model, residual
from tapc.base.errors import DataError, UsageError
from tapc.graph.analysis import Graph, analyse
from tapc.graph.network import Group, Layer, Network
from tapc.proxy import ProxyContext, get_proxy
from tapc.proxy.builtin.fisher import fisher
from tapc.proxy.builtin.ompq import orthogonality
from tapc.proxy.derivatives import Derivatives
from tapc.quantize.derivatives import NetworkDerivatives
from tapc.quantize.weights import quantize_weights

NAMES = ("stem", "body", "head")
SHAPES = ((4, 3), (2, 5), (7, 3))
SIZES = (12, 10, 21)
NETWORK = Network(
    "net",
    tuple(Layer(name, "dense", SHAPES[i], 12 * (i + 1) ** 2, i, i + 1, i) for i, name in enumerate(NAMES)),
    tuple(Group((f"t{i}",), i in (0, 3)) for i in range(4)),
)
DERIVED = ("fisher", "hawq", "hawq_v2")


@dataclass(frozen=True)
class Context(ProxyContext):
    """A context with all that the built-in proxies read."""

    derivatives: Derivatives | None = None
    outputs: Mapping[str, NDArray[np.float32]] | None = None
    seed: int = 0
    quantized: Callable[[str, int], NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class Fixed:
    """Derivatives made up for the test."""

    diagonals: Mapping[str, NDArray[np.float64]]

    def fisher(self) -> Mapping[str, NDArray[np.float64]]:
        return self.diagonals

    def top_eigenvalue(self) -> Mapping[str, float]:
        return {name: 7.0 + i for i, name in enumerate(self.diagonals)}

    def trace(self) -> Mapping[str, float]:
        return {name: 50.0 - i for i, name in enumerate(self.diagonals)}


@pytest.fixture
def context() -> Context:
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(0, 1 + i, SHAPES[i]).astype(np.float32) for i, name in enumerate(NAMES)}

    def quantized(layer: str, bits: int) -> NDArray[np.float32]:
        return np.round(weights[layer] * bits) / np.float32(bits)

    return Context(
        NETWORK,
        weights,
        {},
        distortion={name: {(2, 8): 0.5 / (i + 1), (4, 8): 9.0, (2, 4): 9.0} for i, name in enumerate(NAMES)},
        derivatives=Fixed({name: rng.random(SHAPES[i]) for i, name in enumerate(NAMES)}),
        outputs={name: rng.normal(i, 1, (6, 2 + i, 3)).astype(np.float32) for i, name in enumerate(NAMES)},
        quantized=quantized,
    )


def assert_scores(name: str, context: ProxyContext, raw: list[float]) -> None:
    scores = get_proxy(name).score(context)
    assert [scores[layer] for layer in NAMES] == pytest.approx(np.array(raw) / np.mean(raw), rel=1e-6)


def squared_steps(context: Context, layer: str, bits: int = 2) -> NDArray[np.float64]:
    codes = np.round(context.weights[layer].astype(np.float64) * bits) / bits
    return (codes - context.weights[layer]) ** 2


def test_derivative_proxies_follow_their_formulas(context: Context) -> None:
    steps = [squared_steps(context, name) for name in NAMES]
    diagonals = [context.derivatives.fisher()[name] for name in NAMES]
    raw = [sum(f * s for f, s in zip(d.ravel(), e.ravel(), strict=True)) for d, e in zip(diagonals, steps, strict=True)]
    assert_scores("fisher", context, raw)
    assert list(fisher(context).values()) == pytest.approx([value / 2 for value in raw], rel=1e-6)
    assert_scores("hawq", context, [(7 + i) / SIZES[i] * steps[i].sum() for i in range(3)])
    assert_scores("hawq_v2", context, [(50 - i) / SIZES[i] * steps[i].sum() for i in range(3)])


def test_plain_proxies_follow_their_formulas(context: Context) -> None:
    norms = [np.sqrt(sum(float(w) ** 2 for w in context.weights[name].ravel())) for name in NAMES]
    assert_scores("weight_norm", context, norms)
    errors = [squared_steps(context, name).sum() / norms[i] ** 2 for i, name in enumerate(NAMES)]
    assert_scores("weight_error", context, errors)
    assert_scores("parameters", context, [*SIZES])
    assert_scores("macs", context, [12, 48, 108])
    assert_scores("sqnr", context, [1 / 2, 1 / 4, 1 / 6])


@pytest.mark.parametrize("name", [*DERIVED, "weight_error"])
def test_the_lowest_bits_on_offer_count(context: Context, name: str) -> None:
    four = replace(context, low_bits=4)
    ratios = {layer: squared_steps(context, layer, 4).sum() / squared_steps(context, layer, 2).sum() for layer in NAMES}
    low, high = get_proxy(name).score(context), get_proxy(name).score(four)
    if name != "fisher":
        moved = np.array([low[layer] * ratios[layer] for layer in NAMES])
        assert [high[layer] for layer in NAMES] == pytest.approx(moved / moved.mean(), rel=1e-6)
    assert low != high


def test_random_depends_on_the_seed_only(context: Context) -> None:
    draws = [get_proxy("random").score(replace(context, seed=seed, outputs=None)) for seed in (5, 5, 6)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert min(draws[0].values()) > 0


def test_ompq_follows_its_definition(context: Context) -> None:
    features = [context.outputs[name].reshape(6, -1).astype(np.float64) for name in NAMES]

    def orm(a: Any, b: Any) -> float:
        return np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))

    expected = np.array([[orm(a, b) for b in features] for a in features])
    assert orthogonality([context.outputs[name] for name in NAMES]) == pytest.approx(expected, rel=1e-9)
    assert_scores("ompq", context, [np.exp(1 - row.sum()) for row in expected])


def test_orm_ignores_scale_and_rotation_and_knows_the_extremes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (8, 5)), rng.normal(0, 1, (8, 7))
    rotation = np.linalg.qr(rng.normal(0, 1, (7, 7)))[0]
    plain = orthogonality([a, b])
    assert orthogonality([1e25 * a, -3 * b @ rotation]) == pytest.approx(plain, rel=1e-9)
    assert orthogonality([a.reshape(8, 5, 1), b]) == pytest.approx(plain, rel=1e-12)
    disjoint = orthogonality([np.eye(4)[:, :2], np.eye(4)[:, 2:], np.zeros((4, 3))])
    assert disjoint == pytest.approx(np.diag([1, 1, 0]), abs=1e-12)


def test_ompq_gives_a_silent_layer_nothing(context: Context) -> None:
    silent = replace(context, outputs={**context.outputs, "body": np.zeros((6, 4), np.float32)})
    assert get_proxy("ompq").score(silent)["body"] == 0


def test_what_is_missing_is_named(context: Context) -> None:
    for name in DERIVED:
        with pytest.raises(UsageError, match=f"the {name} proxy needs calibration data"):
            get_proxy(name).score(replace(context, derivatives=None))
    for name in (*DERIVED, "weight_error"):
        with pytest.raises(UsageError, match=f"the {name} proxy needs quantized weights"):
            get_proxy(name).score(replace(context, quantized=None))
    with pytest.raises(UsageError, match="the sqnr proxy needs calibration data"):
        get_proxy("sqnr").score(replace(context, distortion=None))
    with pytest.raises(UsageError, match="the ompq proxy needs calibration data"):
        get_proxy("ompq").score(replace(context, outputs=None))
    with pytest.raises(DataError, match="'head'"):
        get_proxy("ompq").score(replace(context, outputs={**context.outputs, "head": np.zeros((0, 3), np.float32)}))
    with pytest.raises(DataError, match=r"'stem'.*NaN"):
        get_proxy("ompq").score(replace(context, outputs={**context.outputs, "stem": np.full((6, 2), np.inf)}))


def full_context(model: Model, x: NDArray[np.float32]) -> Context:
    graph, network = Graph(model.onnx), analyse(model.onnx, "net")
    nodes = {node.name: node for node in graph.nodes}
    weights = {layer.name: graph.constants[nodes[layer.name].input[1]] for layer in network.layers}
    return Context(
        network,
        weights,
        {},
        derivatives=NetworkDerivatives(model.onnx, x),
        quantized=lambda layer, bits: quantize_weights(weights[layer], bits).dequantized(),
    )


@pytest.mark.parametrize("name", DERIVED)
def test_moving_a_factor_through_a_relu_changes_no_score(name: str) -> None:
    """a1 -> Relu -> a2: a1's weights and biases x 4, a2's weights / 4 is the same network with the same rounding."""
    model = residual()
    x = np.random.default_rng(0).normal(0, 1, (4, 3, 12, 12)).astype(np.float32)
    moved = onnx.ModelProto()
    moved.CopyFrom(model.onnx)
    for tensor in moved.graph.initializer:
        factor = {"a1.weight": 4, "a1.bias": 4, "a2.weight": 0.25}.get(tensor.name, 1)
        value = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((value * factor).astype(value.dtype), tensor.name))
    plain = get_proxy(name).score(full_context(model, x))
    after = get_proxy(name).score(full_context(Model(moved), x))
    assert [after[layer] for layer in plain] == pytest.approx(list(plain.values()), rel=1e-4)
    assert len(set(plain.values())) == len(plain)


@pytest.mark.parametrize("name", DERIVED)
def test_a_layer_that_the_output_ignores_scores_nothing(name: str) -> None:
    b = Builder((1, 6))
    used, ignored = b.gemm("x", "used", 6, 4), b.gemm("x", "ignored", 6, 4)
    joined = b.node("Concat", [used, ignored], "cat", axis=1)
    w = np.concatenate([np.random.default_rng(0).normal(0, 1, (3, 4)), np.zeros((3, 4))], axis=1).astype(np.float32)
    model = b.build(b.node("Gemm", [joined, b.constant("last.w", w)], "last", transB=1))
    x = np.random.default_rng(0).normal(0, 1, (4, 6)).astype(np.float32)
    scores = get_proxy(name).score(full_context(model, x))
    assert scores["ignored"] == 0
    assert scores["used"] > 0
