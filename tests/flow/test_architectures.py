"""Architectures from torch, by both exporters: the same network, and in 8 bits nearly the same outputs."""

import os
from pathlib import Path

import numpy as np
import pytest

from architectures import ARCHITECTURES
from architectures.export import exported
from tapc.base.ports import joined, split
from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.lower.codes import input_codes, values
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.reference import execute
from tapc.quantize import calibrate, quantize, uniform_bits
from thorough import thorough

BOTH = list(ARCHITECTURES) if os.environ.get("TAPC_SOAK") else list(ARCHITECTURES)[::4]
"""torch's newer exporter takes seconds for each."""
LEAST = 20.0
"""Decibels of signal to noise at every output."""


SLOWEST = ("swin", "efficientnet", "ecg")


@pytest.mark.parametrize("name", [thorough(name) if name in SLOWEST else name for name in ARCHITECTURES])
def test_in_eight_bits(name: str, tmp_path: Path) -> None:
    first, rng = load(exported(name, tmp_path, dynamo=False)), np.random.default_rng(0)
    x = joined([rng.random((48, *port.shape[1:]), np.float32) for port in first.inputs])
    assert first.source_error is not None
    assert first.source_error < 1e-4
    assert first.run is not None
    exact = first.run(x)
    if name in BOTH:
        second = load(exported(name, tmp_path, dynamo=True))
        assert second.run is not None
        np.testing.assert_allclose(second.run(x), exact, rtol=1e-3, atol=1e-4)
    network = analyse(first.onnx, name)
    calibration = calibrate(first, x, seed=0)
    quantized = quantize(first, network, uniform_bits(network, 8, 8), calibration, x=x)
    for mode in ("float", "fixed"):
        program = program_from_onnx(quantized.onnx, "net", mode, "scalar")
        got = values(program, execute(program, input_codes(program, x)))
        for part, expected in zip(
            split(first.outputs, got).values(), split(first.outputs, exact.reshape(got.shape)).values(), strict=True
        ):
            noise = np.square(part.astype(np.float64) - expected).sum()
            signal = np.square(expected.astype(np.float64)).sum()
            assert name == "argmax" or 10 * np.log10(signal / noise) >= LEAST
