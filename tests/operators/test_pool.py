"""Poolings: windows that lie apart, and what has no element."""

import numpy as np
import pytest

from graph_builder import Builder
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import analyse


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_windows_beside_the_image_are_refused(op: str) -> None:
    b = Builder((1, 3, 6, 6))
    y = b.node(op, ["x"], "p", kernel_shape=[2, 2], strides=[1, 1], pads=[0, 2, 0, 0])
    with pytest.raises(
        UnsupportedError, match=r"'p': pads \[0, 2, 0, 0\] leave windows of \[2, 2\] without an element"
    ):
        analyse(b.build(y).onnx, "net")


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_windows_around_the_image_are_refused(op: str) -> None:
    given = {"kernel_shape": [1, 2], "dilations": [1, 2], "pads": [0, 1, 0, 1]}
    wide, narrow = Builder((1, 3, 4, 2)), Builder((1, 3, 4, 1))
    analyse(wide.build(wide.node(op, ["x"], "p", **given)).onnx, "net")
    with pytest.raises(UnsupportedError, match="without an element"):  # one lies before it, the other behind
        analyse(narrow.build(narrow.node(op, ["x"], "p", **given)).onnx, "net")


@pytest.mark.parametrize("mode", ["float", "fixed"])
def test_a_dilated_pooling_is_not_fused_behind_a_convolution(mode: str) -> None:
    from kernels.programs import conv_op, program, tensor
    from tapc.lower.fuse import fuse
    from tapc.operators.pool import Pool

    rng = np.random.default_rng(0)
    x, m, y = tensor("x", (8, 8, 2), 8, rng), tensor("m", (8, 8, 16), 8, rng), tensor("y", (3, 4, 16), 8, rng)
    conv = conv_op(rng, x, m, (3, 3), (1, 1), (1, 1, 1, 1), 1, 8)
    pools = [
        Pool("p", ("m",), "y", "max", (2, 2), (2, 2), (0,) * 4, False, np.ones(1, np.float32), -128, 127, False, d)
        for d in ((1, 1), (2, 1))
    ]
    counts = [len(fuse(program([conv, pool], [x, m, y], mode)).ops) for pool in pools]
    assert counts == [1, 2]
