"""Products that have no kernel are refused with their reason."""

import numpy as np
import pytest
from graph_builder import Builder

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import analyse


def test_operands_of_another_rank() -> None:
    b = Builder((1, 3, 6, 6))
    flat = b.node("Flatten", [b.node("GlobalAveragePool", [b.conv("x", "c", 3, 6)], "pool")], "flat")
    with pytest.raises(UnsupportedError, match=r"'m' multiplies \[1, 3, 6, 6\] and \[1, 6\]: give both as many axes"):
        analyse(b.build(b.node("Mul", ["x", flat], "m")).onnx, "net")


def test_a_constant_map() -> None:
    b = Builder((1, 3, 6, 6))
    ones = b.constant("ones", np.ones((1, 1, 6, 6), np.float32))
    with pytest.raises(UnsupportedError, match="'m' multiplies by a constant that is not one value per channel"):
        analyse(b.build(b.node("Mul", [b.conv("x", "c", 3, 6), ones], "m")).onnx, "net")
