"""Curvature against Hessians that torch forms densely in float64 and numpy diagonalizes."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional

from graph_builder import Builder, Model, everything
from tapc.base.errors import DataError
from tapc.graph.analysis import Graph
from tapc.quantize.curvature import Curvature, prediction
from tapc.quantize.derivatives import NetworkDerivatives
from tapc.quantize.torch_graph import TorchGraph

Function = Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they give on networks of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def classifier(seed: int = 0) -> Model:
    b = Builder((1, 2, 6, 6), seed)
    y = b.node("Relu", [b.conv("x", "conv", 2, 3, stride=2)], "conv.relu")
    y = b.node("MaxPool", [b.conv(y, "dw", 3, 3, groups=3)], "pool", kernel_shape=[2, 2], strides=[1, 1])
    return b.build(b.gemm(b.node("Flatten", [y], "flatten", axis=1), "fc", 12, 4))


def classify(x: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the classifier's logits, written by hand."""
    y = functional.conv2d(x, p["conv.weight"], p["conv.bias"], stride=2, padding=1).relu()
    y = functional.conv2d(y, p["dw.weight"], p["dw.bias"], padding=1, groups=3)
    return functional.max_pool2d(y, 2, 1).flatten(1) @ p["fc.weight"].T + p["fc.bias"]


def autoencoder(seed: int = 0) -> Model:
    b = Builder((1, 5), seed)
    return b.build(b.gemm(b.node("Relu", [b.gemm("x", "down", 5, 3)], "relu"), "up", 3, 5))


def reconstruct(x: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the autoencoder's output, written by hand."""
    return (x @ p["down.weight"].T + p["down.bias"]).relu() @ p["up.weight"].T + p["up.bias"]


def samples(model: Model, count: int = 6, seed: int = 1) -> np.ndarray:
    shape = Graph(model.onnx).shape("x")
    return np.random.default_rng(seed).normal(0, 1, (count, *shape[1:])).astype(np.float32)


def constants(model: Model) -> dict[str, torch.Tensor]:
    return {
        name: torch.tensor(value, dtype=torch.float64)
        for name, value in Graph(model.onnx).constants.items()
        if value.dtype == np.float32
    }


def dense_hessian(
    function: Function, model: Model, layer: str, x: np.ndarray, label: torch.Tensor | None = None
) -> np.ndarray:
    """Return the Hessian of the mean loss against the network's own answer, or against given labels."""
    p, inputs = constants(model), torch.tensor(x, dtype=torch.float64)
    own = function(inputs, p)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        out = function(inputs, p | {f"{layer}.weight": flat.reshape(p[f"{layer}.weight"].shape)})
        if function is reconstruct:
            return 0.5 * (out - own).square().sum(1).mean()
        return functional.cross_entropy(out, own.argmax(1) if label is None else label)

    return torch.autograd.functional.hessian(loss, p[f"{layer}.weight"].flatten()).numpy()


CASES = [
    *((classifier(), classify, name) for name in ("conv", "dw", "fc")),
    *((autoencoder(), reconstruct, name) for name in ("down", "up")),
]
IDS = [case[2] for case in CASES]


@pytest.mark.parametrize(("model", "function", "layer"), CASES, ids=IDS)
def test_exact_curvature_is_the_dense_hessian(model: Model, function: Function, layer: str) -> None:
    x = samples(model)
    hessian = dense_hessian(function, model, layer, x)
    for dtype, rel in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        curvature = Curvature(Graph(model.onnx), x, dtype=dtype)
        assert curvature.exact
        assert curvature.fisher[layer].ravel() == pytest.approx(np.diag(hessian), rel=rel, abs=rel * hessian.max())
        assert curvature.fisher[layer].sum() == pytest.approx(np.trace(hessian), rel=rel)
        assert curvature.top_eigenvalue()[layer] == pytest.approx(np.linalg.eigh(hessian)[0][-1], rel=rel)


@pytest.mark.parametrize(("model", "function", "layer"), CASES, ids=IDS)
def test_estimates_approach_the_dense_hessian(model: Model, function: Function, layer: str) -> None:
    x = samples(model)
    hessian = dense_hessian(function, model, layer, x)
    curvature = Curvature(Graph(model.onnx), x, exact_rows=0)
    assert not curvature.exact
    # Power iteration approaches the largest eigenvalue from below.
    assert curvature.top_eigenvalue()[layer] == pytest.approx(np.linalg.eigh(hessian)[0][-1], rel=0.01)
    assert curvature.top_eigenvalue()[layer] <= np.linalg.eigh(hessian)[0][-1] * 1.0001
    means = np.mean([Curvature(Graph(model.onnx), x, seed=s, exact_rows=0).fisher[layer] for s in range(20)], axis=0)
    assert means.sum() == pytest.approx(np.trace(hessian), rel=0.1)
    assert np.abs(means.ravel() - np.diag(hessian)).max() < 0.15 * np.diag(hessian).max()


def test_the_hessian_does_not_depend_on_the_label() -> None:
    model = classifier()
    x = samples(model)
    hessians = [dense_hessian(classify, model, "conv", x, torch.full((len(x),), label)) for label in range(4)]
    for other in hessians[1:]:
        assert np.abs(other - hessians[0]).max() < 1e-12 * np.abs(hessians[0]).max()


@pytest.mark.parametrize("layer", ["dw", "grouped", "fc1", "fc2"])
def test_fisher_is_the_expected_squared_gradient_over_the_models_own_labels(layer: str) -> None:
    """One label and one sample at a time, through the Softmax that ends the network."""
    model = everything()
    x = samples(model, 3)
    net = TorchGraph(Graph(model.onnx), torch.float64)
    weight = net.weights()[layer]
    expected = torch.zeros_like(weight)
    for sample in torch.tensor(x, dtype=torch.float64):
        for label in range(4):
            probability = net(sample[None])[0, label]
            (gradient,) = torch.autograd.grad(probability.log(), weight)
            expected += probability.detach() * gradient.square() / len(x)
    actual = Curvature(Graph(model.onnx), x, dtype=torch.float64).fisher[layer]
    assert actual == pytest.approx(expected.numpy(), rel=1e-9, abs=1e-12)


def test_half_the_fisher_form_is_the_divergence_of_small_perturbations() -> None:
    """Random signs: their mean divergence is 1/2 sum F_ii d_i^2, whatever the rest of the matrix."""
    model = classifier()
    x = samples(model)
    fisher = Curvature(Graph(model.onnx), x).fisher["dw"]
    p, inputs = constants(model), torch.tensor(x, dtype=torch.float64)
    exact = classify(inputs, p).log_softmax(1)
    rng = np.random.default_rng(0)
    size = 1e-3 * rng.random(fisher.shape)
    divergences = []
    for _ in range(400):
        step = torch.tensor(rng.choice([-1.0, 1.0], fisher.shape) * size)
        moved = classify(inputs, p | {"dw.weight": p["dw.weight"] + step}).log_softmax(1)
        divergences.append((exact.exp() * (exact - moved)).sum(1).mean().item())
    assert np.mean(divergences) == pytest.approx(0.5 * (fisher * size**2).sum(), rel=0.1)


def test_how_outputs_are_read() -> None:
    assert prediction(Graph(everything().onnx)).tensors == ("fc2_out",)
    assert prediction(Graph(everything().onnx)).kind == "categorical"
    assert prediction(Graph(classifier().onnx)).kind == "categorical"
    assert prediction(Graph(autoencoder().onnx)).kind == "gaussian"
    b = Builder((1, 8))
    assert prediction(Graph(b.build(b.gemm("x", "fc", 8, 1)).onnx)).kind == "gaussian"
    b = Builder((1, 2, 6, 6))
    assert prediction(Graph(b.build(b.conv("x", "conv", 2, 1)).onnx)).kind == "gaussian"


def test_a_map_as_output_is_read_as_gaussian() -> None:
    """The weights enter linearly, so that F_ii is the summed square of what the weight is multiplied with."""
    b = Builder((1, 2, 4, 4))
    model = b.build(b.conv("x", "conv", 2, 3, kernel=1))
    x = samples(model)
    power = np.square(x.astype(np.float64)).sum(axis=(2, 3)).mean(axis=0)
    for rows in (0, 4096):
        fisher = Curvature(Graph(model.onnx), x, exact_rows=rows).fisher["conv"]
        assert fisher[:, :, 0, 0] == pytest.approx(np.tile(power, (3, 1)), rel=0.6 if rows == 0 else 1e-6)


def test_same_seed_same_numbers_and_threads_are_left_alone() -> None:
    model = autoencoder()
    x = samples(model)
    torch.set_num_threads(2)
    first, again, other = (Curvature(Graph(model.onnx), x, seed=seed, exact_rows=0) for seed in (3, 3, 4))
    assert np.array_equal(first.fisher["up"], again.fisher["up"])
    assert not np.array_equal(first.fisher["up"], other.fisher["up"])
    assert first.top_eigenvalue() == again.top_eigenvalue()
    assert torch.get_num_threads() == 2


def test_network_derivatives() -> None:
    model = classifier()
    x = samples(model, 20)
    told = []
    derivatives = NetworkDerivatives(model.onnx, x, advance=lambda done, total: told.append((done, total)))
    direct = Curvature(Graph(model.onnx), x[:16])
    for layer in ("conv", "dw", "fc"):
        assert np.array_equal(derivatives.fisher()[layer], direct.fisher[layer])
        assert derivatives.trace()[layer] == direct.fisher[layer].sum()
    assert derivatives.top_eigenvalue() == direct.top_eigenvalue()
    assert told == [(i + 1, 16) for i in range(16)]


def test_samples_that_cannot_be_used_are_refused() -> None:
    model = classifier()
    with pytest.raises(DataError, match="at least one sample"):
        NetworkDerivatives(model.onnx, samples(model, 0))
    with pytest.raises(DataError, match="NaN"):
        NetworkDerivatives(model.onnx, np.full((2, 2, 6, 6), np.nan, np.float32))
    b = Builder((1, 2))
    for name in ("one", "two"):
        b.constant(f"{name}.w", np.full((2, 2), 1e20, np.float32))
    model = b.build(b.node("Gemm", [b.node("Gemm", ["x", "one.w"], "one", transB=1), "two.w"], "two", transB=1))
    for rows in (0, 4096):
        huge = Curvature(Graph(model.onnx), np.full((2, 2), 1e20, np.float32), exact_rows=rows)
        with pytest.raises(DataError, match=r"layer '(one|two)': its derivatives overflow"):
            _ = huge.fisher
        with pytest.raises(DataError, match=r"layer '(one|two)': its derivatives overflow"):
            huge.top_eigenvalue()


def test_torch_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, tapc.quantize.derivatives; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
