"""PRelu's slopes: exact values, and what has no kernel."""

import numpy as np
import pytest

from graph_builder import Builder
from kernels.programs import program
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import analyse
from tapc.ir.channels import Bounds
from tapc.ir.program import Tensor
from tapc.operators.prelu import PRelu


@pytest.mark.parametrize("mode", ["float", "fixed", "tflite"])
def test_each_channel_has_its_slope(mode: str) -> None:
    x, y = Tensor("x", (1, 1, 3), 8, 0.5, 10), Tensor("y", (1, 1, 3), 8, 0.25, -1)
    op = PRelu("p", ("x",), "y", np.array([64, -32, 0], np.int8), 1 / 64, 0, -128, 127)
    p = program([op], [x, y], mode)
    codes = np.array([[2, 2, 2], [20, 20, 20]], np.int64).reshape(2, 1, 1, 3)
    assert op.reference(p, [codes]).reshape(2, 3).tolist() == [[-17, 7, -1], [19, 19, 19]]
    # From -4 to 5, a slope of -1/2 is least in between.
    bound = Bounds(np.full((1, 1, 3), 2), np.full((1, 1, 3), 20))
    found = op.bounds(p, [bound])
    assert (found.low.ravel().tolist(), found.high.ravel().tolist()) == ([-17, -1, -1], [19, 19, 19])


def test_a_slope_for_each_pixel() -> None:
    b = Builder((1, 3, 6, 6))
    slope = b.constant("slope", np.ones((1, 6, 6), np.float32))
    with pytest.raises(UnsupportedError, match="'p': the slope of a PRelu is a constant of one value for each channel"):
        analyse(b.build(b.node("PRelu", ["x", slope], "p")).onnx, "net")
