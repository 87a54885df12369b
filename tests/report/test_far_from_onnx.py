"""A device that is far from model.onnx in onnxruntime is never passed over in silence."""

from tapc.report.make import far_from_onnx


def test_more_steps_than_rounding_explains_are_a_warning() -> None:
    (warning,) = far_from_onnx(128, 10)
    assert "128 steps" in warning
    assert far_from_onnx(10, 10) == far_from_onnx(None, 10) == ()
    assert far_from_onnx(5, 1)
