"""Ratios of scales that float32 makes halves or quarters of whole numbers, so that sums lie between two codes.

TFLite-Micro divides in float64, where they do not: one rounding more and codes differ.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize.kept import assert_kept
from tflite_micro_files import Int8Builder, Quantization

MAP = (1, 4, 5, 3)


def tie(sign: int, factor: float = 1.0) -> tuple[Quantization, Quantization]:
    """Return scales of which the ratio is 3 / 4 in float32, and above or below in float64."""
    given = np.float32(factor)
    for scale in np.linspace(0.02, 0.1, 5000, dtype=np.float32):
        product = np.float32(scale * given)
        over = np.float32(product / np.float32(0.75))
        exact = float(scale) * float(given) / float(over)
        if product / over == np.float32(0.75) and sign * (exact - 0.75) > 0:
            return Quantization(float(scale), 3), Quantization(float(over), -2)
    raise AssertionError


UNARY: dict[str, tuple[str, dict[str, Any]]] = {
    "QUANTIZE": ("QuantizeOptions", {}),
    "RELU": ("", {}),
    "LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.3}),
    "ABS": ("AbsOptions", {}),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("factor", [1.0, 0.3])
@pytest.mark.parametrize("kind", UNARY)
def test_functions(kind: str, factor: float, sign: int, tmp_path: Path) -> None:
    x, y = tie(sign, factor)
    table, options = UNARY[kind]
    b = Int8Builder(*MAP, quantization=x)
    assert_kept(b, b.node(kind, [b.input], MAP, y, table, **options), x.zero, tmp_path)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["rows", "vector", "convolution", "matrices"])
def test_layers_of_one_scale(kind: str, sign: int, tmp_path: Path) -> None:
    own = np.float32(0.0137)
    scales = np.linspace(0.02, 0.1, 500, dtype=np.float32)
    chosen = next(s for s in scales if sign * (float(s) * float(own) - float(s * own)) > 0)
    x, y = Quantization(float(chosen), 3), Quantization(float(chosen * own * np.float32(2)), -2)
    shape = (1, 60) if kind == "vector" else MAP
    b = Int8Builder(*shape, quantization=x)
    few = (b.rng.integers(0, 40, (7, shape[-1])) == 0).astype(np.int8)
    scale, target = np.array([own]), (*shape[:-1], 7)
    if kind == "matrices":
        weights = b.constant(few.T)
        b.quantize(weights, scale, 0)
        out = b.node("BATCH_MATMUL", [b.input, weights], target, y, "BatchMatMulOptions")
    elif kind == "convolution":
        options = {"padding": 1, "strideW": 1, "strideH": 1}
        wide = few.reshape(7, 1, 1, 3)
        out = b.layer(
            "CONV_2D", b.input, wide, scale, 0, target, y, "Conv2DOptions", np.arange(7, dtype=np.int32), **options
        )
    else:
        options = {"keepNumDims": kind == "rows"}
        bias = np.arange(7, dtype=np.int32)
        out = b.layer("FULLY_CONNECTED", b.input, few, scale, 0, target, y, "FullyConnectedOptions", bias, **options)
    assert_kept(b, out, x.zero, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_differences(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    x = Quantization(float(np.float32(rng.uniform(0.01, 0.1))), 0)
    other = Quantization(float(np.float32(x.scale) * np.float32(1.5)), 0)
    b = Int8Builder(1, 16, 16, 3, quantization=x, seed=seed)
    constant = b.constant(rng.integers(-128, 128, (1, 16, 16, 3)).astype(np.int8))
    b.scaled(constant, other)
    y = Quantization(float(np.float32(x.scale) / np.float32(0.375)), 0)
    out = b.node("SUB", [b.input, constant], (1, 16, 16, 3), y, "SubOptions")
    assert_kept(b, out, x.zero, tmp_path)
