"""Warnings about what the firmware alone cannot put right."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tapc.data import Samples
from tapc.data.metrics import Metric
from tapc.report.make import accuracy, far_from_onnx, mpu_note


def test_more_steps_than_rounding_explains_are_a_warning() -> None:
    (warning,) = far_from_onnx(128, 10)
    assert "128 steps" in warning
    assert far_from_onnx(10, 10) == far_from_onnx(None, 10) == ()
    assert far_from_onnx(5, 1)


@pytest.mark.parametrize(
    ("origin", "noted"), [(0x20000000, False), (0x60000000, False), (0x90000000, False), (0xD0000000, True)]
)
def test_device_memory_needs_an_mpu_region(origin: int, noted: bool) -> None:
    assert ("MPU" in mpu_note(origin)) == noted


def test_a_single_output_agrees_by_its_threshold() -> None:
    codes = np.array([-3, -1, 2, 4])
    logits = np.array([[-3.0], [1.0], [2.0], [4.0]], np.float32)
    y = SimpleNamespace(shape=(1, 1, 1), scale=1.0, zero=0)
    verification = SimpleNamespace(
        codes=codes.reshape(4, 1, 1, 1), outputs=lambda _: codes[:, None].astype(float), detections=lambda _: None
    )
    made: Any = SimpleNamespace(
        measured=SimpleNamespace(verification=verification, float_logits=logits, onnx_logits=logits),
        lowered=SimpleNamespace(program=SimpleNamespace(tensors={"y": y}, outputs=("y",))),
        test=Samples(np.zeros((4, 1), np.float32), np.array([0, 1, 1, 1]), "d"),
        metric=Metric("binary", 1, threshold=0.0),
        stream=None,
    )
    assert accuracy(made).float_agreement == 75.0
