"""Linear interpolation: where outputs lie, exact values, and what stays as it is in onnxruntime."""

import numpy as np
import pytest

from graph_builder import Builder
from kernels.programs import program
from operators.examples import Instance, case
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import analyse
from tapc.ir.program import Tensor
from tapc.operators.resize import Resize, places


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("half_pixel", [0, 0.25, 0.75, 1.25, 1.75, 2]),
        ("align_corners", [0, 0.4, 0.8, 1.2, 1.6, 2]),
        ("asymmetric", [0, 0.5, 1, 1.5, 2, 2]),
    ],
)
def test_places_of_three_pixels_in_six(mode: str, expected: list[float]) -> None:
    np.testing.assert_allclose(places(mode, 3, 6), expected)
    assert places("pytorch_half_pixel", 4, 1).tolist() == [0]
    assert places("half_pixel", 4, 1).tolist() == [1.5]


def test_one_output_is_the_first_pixel_in_every_arithmetic() -> None:
    x, y = Tensor("x", (1, 4, 1), 8, 0.1, 3), Tensor("y", (1, 1, 1), 8, 0.1, 3)
    op = Resize("r", ("x",), "y", "pytorch_half_pixel")
    for mode in ("float", "fixed", "tflite"):
        found = op.reference(program([op], [x, y], mode), [np.array([10, 20, 40, 80]).reshape(1, 1, 4, 1)])
        assert found.item() == 10


def test_exact_values_between_two_columns() -> None:
    x, y = Tensor("x", (1, 2, 1), 8, 0.1, 3), Tensor("y", (2, 4, 1), 8, 0.1, 3)
    op = Resize("r", ("x",), "y", "half_pixel")
    found = op.reference(program([op], [x, y]), [np.array([-8, 12]).reshape(1, 1, 2, 1)])
    assert found.reshape(2, 4).tolist() == [[-8, -3, 7, 12]] * 2


def test_sizes_of_all_axes_are_refused() -> None:
    b = Builder((1, 3, 6, 6))
    y = b.node("Resize", ["x", "", "", b.constant("sizes", np.array([1, 3, 12, 12]))], "r", mode="linear")
    with pytest.raises(UnsupportedError, match="'r': a canonical Resize is linear along axes 2 and 3"):
        analyse(b.build(y).onnx, "net")


def test_onnxruntime_leaves_a_network_with_it_as_it_is() -> None:
    assert not case([Instance("Resize", 0)]).quantized.optimizable
