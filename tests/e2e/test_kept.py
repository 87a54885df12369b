"""Quantized TFLite networks kept as they are: the firmware gives what TFLite-Micro gives, byte for byte."""

from pathlib import Path

import numpy as np
import pytest

import tapc
from tapc.device.verify import device_outputs
from tapc.flow.rerun import open_build
from tflite_micro_files import Int8Builder, Quantization, run, samples

PIXELS = (1, 6, 5, 4)


def network() -> bytes:
    """Return a residual network whose layers round, divide, look up and normalize."""
    b = Int8Builder(*PIXELS, quantization=Quantization(0.05, 3))
    options = {"strideW": 1, "strideH": 1, "padding": 0}

    def conv(x: int, activation: int) -> int:
        weights = b.rng.integers(-127, 128, (4, 3, 3, 4)).astype(np.int8)
        scales = b.rng.uniform(0.001, 0.01, 4).astype(np.float32)
        own = {**options, "fusedActivationFunction": activation}
        return b.layer("CONV_2D", x, weights, scales, 0, PIXELS, Quantization(0.3, -9), "Conv2DOptions", **own)

    first = conv(b.input, 1)
    second = conv(first, 0)
    total = b.node("ADD", [first, second], PIXELS, Quantization(0.4, 20), "AddOptions")
    windows = {"strideW": 2, "strideH": 2, "padding": 0, "filterHeight": 3, "filterWidth": 2}
    pooled = b.node("AVERAGE_POOL_2D", [total], (1, 3, 3, 4), Quantization(0.4, 20), "Pool2DOptions", **windows)
    bent = b.node("HARD_SWISH", [pooled], (1, 3, 3, 4), Quantization(0.35, -70), "HardSwishOptions")
    axes = b.constant(np.array([1, 2], np.int32))
    mean = b.node("MEAN", [bent, axes], (1, 4), Quantization(0.1, -30), "ReducerOptions")
    return b.finish(b.node("SOFTMAX", [mean], (1, 4), Quantization(1 / 256, -128), "SoftmaxOptions", beta=1.0))


@pytest.mark.parametrize("board", ["stm32h7", "pico"])
def test_the_firmware_equals_tflite_micro(board: str, tmp_path: Path) -> None:
    blob = network()
    (tmp_path / "net.tflite").write_bytes(blob)
    options = tapc.Options(calibration=1, eval=1)
    result = tapc.compile(tmp_path / "net.tflite", board=board, data="random", output=tmp_path / "b", options=options)
    assert result.report.exact
    codes = samples(PIXELS[1:], 3, np.random.default_rng(0))
    expected = run(blob, codes)
    assert len(np.unique(expected)) > 20
    build = open_build(tmp_path / "b")
    lowered = build.lowered()
    found = device_outputs(lowered.program, build.run(lowered, codes.astype(np.int64)).outputs)
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
