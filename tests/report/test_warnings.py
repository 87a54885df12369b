"""Warnings about what the firmware alone cannot put right."""

import pytest

from tapc.report.make import far_from_onnx, mpu_note


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
