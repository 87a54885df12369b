"""Transformers reach canonical form from both of torch's exporters, and what is not attention is refused."""

import io
import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from torch import Tensor, nn

from tapc.frontend.canonical import canonicalize
from tapc.zoo.vit import VisionTransformer

SHAPE = (1, 3, 8, 8)


def exported(module: nn.Module, *, dynamo: bool) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(module.eval(), (torch.zeros(SHAPE),), buffer, dynamo=dynamo, opset_version=20)  # type: ignore[arg-type]
    return onnx.load_from_string(buffer.getvalue())


def run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = InferenceSession(model.SerializeToString())
    result: NDArray[np.float32] = session.run(None, {model.graph.input[0].name: x})[0]
    return result


def check(model: onnx.ModelProto) -> onnx.ModelProto:
    canonical = canonicalize(model)
    x = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    np.testing.assert_allclose(run(canonical, x), run(model, x), rtol=1e-4, atol=1e-5)
    return canonical


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def random(module: nn.Module) -> nn.Module:
    """Every parameter random, so that none can be lost without notice."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


@pytest.mark.parametrize("dynamo", [True, False])
def test_vision_transformer(dynamo: bool) -> None:
    module = random(VisionTransformer(8, 2, 24, 2, 3, 2.0, 5, token=False))
    canonical = check(exported(module, dynamo=dynamo))
    found = operators(canonical)
    assert {name: found.count(name) for name in ("LayerNormalization", "Gelu", "Softmax", "MatMul")} == {
        "LayerNormalization": 5,
        "Gelu": 2,
        "Softmax": 2,
        "MatMul": 4,
    }
    # One convolution each for the patches, queries, keys, values, the projection and both layers of the MLP.
    assert found.count("Conv") == 1 + 2 * 6
    names = {node.name for node in canonical.graph.node if node.op_type == "Conv"}
    if not dynamo:
        assert {"blocks.1.attn.qkv.q", "blocks.1.attn.qkv.v", "blocks.0.mlp.fc2"} <= names


class Separate(nn.Module):
    """Attention with its own layer each, one head, scores scaled after the product, a mean that keeps its axis."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.norm = nn.LayerNorm(8)
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        q, k, v = self.q(y), self.k(y), self.v(y)
        x = x + ((q @ k.transpose(1, 2)) / math.sqrt(8)).softmax(-1) @ v
        result: Tensor = self.head(torch.relu(x).mean(1, keepdim=True)).flatten(1)
        return result


class Torch(nn.Module):
    """torch's own MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        y, _ = self.attention(x, x, x, need_weights=False)
        result: Tensor = self.head((x + y).mean(1))
        return result


class ChannelsLast(nn.Module):
    """Normalization and layers over the channels of an image, as in ConvNeXt."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = nn.functional.gelu) -> None:
        super().__init__()
        self.activation = activation
        self.depthwise = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.LayerNorm(6)
        self.wide, self.narrow = nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(x)
        y = self.narrow(self.activation(self.wide(self.norm(x.permute(0, 2, 3, 1)))))
        result: Tensor = (x + y.permute(0, 3, 1, 2)).mean((2, 3))
        return result


@pytest.mark.parametrize(("activation", "name"), [
    (torch.sigmoid, "Sigmoid"), (nn.LeakyReLU(0.2), "LeakyRelu"), (torch.tanh, "Tanh"), (nn.Hardswish(), "HardSwish"),
])  # fmt: skip
def test_any_function_of_an_element(activation: Callable[[Tensor], Tensor], name: str) -> None:
    canonical = check(exported(random(ChannelsLast(activation)), dynamo=False))
    assert operators(canonical).count(name) == 1


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("make", [Separate, Torch, ChannelsLast])
def test_other_spellings(make: Callable[[], nn.Module], dynamo: bool) -> None:
    canonical = check(exported(random(make()), dynamo=dynamo))
    assert "LayerNormalization" in operators(canonical) or make is Torch


def test_gelu_by_hand() -> None:
    for order in ("x * (erf + 1) * 0.5", "x * 0.5 * (erf + 1)"):

        class Net(nn.Module):
            def forward(self, x: Tensor, order: str = order) -> Tensor:
                plus = torch.erf(x / math.sqrt(2)) + 1
                return x * plus * 0.5 if "erf + 1) *" in order else x * 0.5 * plus

        assert operators(check(exported(Net(), dynamo=False))) == ["Gelu"]
