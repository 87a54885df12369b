"""A vision transformer in integers against onnxruntime."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tapc.frontend.canonical import canonicalize
from tapc.frontend.torch_source import import_module
from tapc.graph.analysis import analyse
from tapc.graph.network import Bits
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.lower.reference import execute
from tapc.quantize.calibration import calibrate
from tapc.quantize.model import QuantizedModel, quantize
from tapc.quantize.runtime import evaluate
from tapc.zoo.vit import VisionTransformer


@pytest.fixture(scope="module")
def quantized() -> tuple[QuantizedModel, np.ndarray]:
    """Random weights of 2, 4 and 8 bits; the samples that it was calibrated on."""
    torch.manual_seed(0)
    module = VisionTransformer(12, 3, 24, 2, 3, 2.0, 7, token=False)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if "norm" in name else 0.05))
    model = SimpleNamespace(onnx=canonicalize(import_module(module, (1, 3, 12, 12), "vit", "test").graph))
    network = analyse(model.onnx, "vit")
    assert all(group.interface for group in network.groups if any("attn" in name for name in group.tensors))
    widths = [8, 4, 2]
    bits = Bits(
        {layer.name: widths[i % 3] for i, layer in enumerate(network.layers)},
        dict.fromkeys(range(len(network.groups)), 8),
    )
    x = np.random.default_rng(0).random((16, 3, 12, 12), np.float32)
    return quantize(model, network, bits, calibrate(model, x, seed=0), x=x), x


@pytest.mark.parametrize("mode", ["float", "fixed"])
def test_reference_against_onnxruntime(mode: str, quantized: tuple[QuantizedModel, np.ndarray]) -> None:
    model, x = quantized
    program = lower(model.onnx, "vit", mode, "scalar").reference  # type: ignore[arg-type]
    y = program.tensors[program.output]
    mine = (execute(program, input_codes(program, x)).reshape(len(x), -1) - y.zero) * y.scale
    theirs = evaluate(model.onnx, x, optimized=False)
    # Steps of one code in the layers before may add up; the range of the output is 256 codes.
    assert np.abs(mine - theirs).max() <= 4.01 * y.scale
    assert np.abs(mine - theirs).mean() <= 0.7 * y.scale
