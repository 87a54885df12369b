"""Accuracy of trained networks on real data, exported model in onnxruntime against the float model."""

from pathlib import Path

import numpy as np
import pytest

from tapc.data import Samples, load_samples
from tapc.frontend import FloatModel, load
from tapc.graph.analysis import analyse
from tapc.quantize import calibrate, evaluate, quantize, top1, uniform_bits


def prepare(shared_data: Path, network: str, data: str) -> tuple[FloatModel, Samples, Samples]:
    model = load(str(shared_data / "mlperf-tiny" / network))
    test, calibration = (
        load_samples(shared_data / data, model.input_shape, pixel_scale=model.pixel_scale, count=count, split=split)
        for count, split in ((None, "test" if data.startswith("cifar10") else "all"), (256, "calibration"))
    )
    return model, test, calibration


@pytest.mark.parametrize(
    ("network", "data", "count"),
    [
        ("pretrainedResnet.tflite", "cifar10-original-subset.npz", 508),
        ("kws_ref_model_float32.tflite", "kws01-mfcc-dev.npz", 500),
    ],
)
def test_w8a8_within_a_point_and_w4a8_within_seven(shared_data: Path, network: str, data: str, count: int) -> None:
    model, test, calibration = prepare(shared_data, network, data)
    assert len(test.x) == count
    assert test.y is not None
    layers = analyse(model.onnx, model.name)
    statistics = calibrate(model, calibration.x, seed=0)
    exact = top1(evaluate(model.onnx, test, optimized=True), test.y)
    assert exact > 0.88
    eight = quantize(model, layers, uniform_bits(layers, 8, 8), statistics, x=calibration.x)
    plain, fused = (evaluate(eight.onnx, test, optimized=optimized) for optimized in (False, True))
    assert top1(fused, test.y) >= exact - 0.01
    assert np.mean(plain.argmax(axis=1) == fused.argmax(axis=1)) >= 0.995
    four = quantize(model, layers, uniform_bits(layers, 4, 8), statistics, x=calibration.x)
    assert top1(evaluate(four.onnx, test, optimized=False), test.y) >= exact - 0.07
