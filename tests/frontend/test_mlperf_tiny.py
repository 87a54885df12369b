"""The MLPerf Tiny float networks."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from frontend.canonical_form import assert_canonical, operators, run
from frontend.tflite_builder import litert
from tapc.frontend import load

NETWORKS = {
    "pretrainedResnet": ((1, 3, 32, 32), (1, 10), 9, 1),
    "kws_ref_model_float32": ((1, 1, 49, 10), (1, 12), 9, 1),
    "vww_96_float": ((1, 3, 96, 96), (1, 2), 27, 1),
    "ad01_fp32": ((1, 640), (1, 640), 0, 10),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str, shared_data: Path) -> None:
    path = shared_data / "mlperf-tiny" / f"{name}.tflite"
    loaded = load(str(path))
    assert_canonical(loaded.onnx)
    inputs, outputs, convolutions, dense = NETWORKS[name]
    assert (loaded.input_shape, loaded.output_shape) == (inputs, outputs)
    assert operators(loaded.onnx).count("Conv") == convolutions
    assert operators(loaded.onnx).count("Gemm") == dense
    assert loaded.source_error is not None
    x = np.random.default_rng(1).random(inputs, np.float32)
    y = run(loaded.onnx, x)
    assert loaded.source_error < 1e-4
    # LiteRT runs the keyword network's int8 weights in 8-bit arithmetic.
    tolerance = 0.02 if name.startswith("kws") else 1e-4
    expected = litert(path.read_bytes(), x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)
    assert np.abs(y - expected).max() < tolerance * np.abs(expected).max()


def test_resnet_accuracy_on_original_pixels(shared_data: Path) -> None:
    """88.0 % is what the TFLite interpreter reaches; layout or colour order gone wrong would show here."""
    model = load(str(shared_data / "mlperf-tiny" / "pretrainedResnet.tflite"))
    session = ort.InferenceSession(model.onnx.SerializeToString())
    with np.load(shared_data / "cifar10-original-subset.npz") as data:
        x, y = data["test_x"][:200].astype(np.float32), data["test_y"][:200]
    guesses = [int(session.run(None, {model.input_name: image[None]})[0].argmax()) for image in x]
    assert np.mean(guesses == y) > 0.83


def test_real_samples_are_compared_too(shared_data: Path) -> None:
    with np.load(shared_data / "kws01-mfcc-dev.npz") as data:
        scale, zero = float(data["scale"]), int(data["zero_point"])
        x = ((data["x"][:8].astype(np.float32) - zero) * scale).reshape(-1, 1, 49, 10)
    loaded = load(str(shared_data / "mlperf-tiny" / "kws_ref_model_float32.tflite"), samples=x)
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-4
