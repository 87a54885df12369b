import numpy as np
import pytest
from onnx import helper

from frontend.canonical_form import build, save
from tapc.base.errors import DataError, UsageError
from tapc.frontend import load
from tapc.frontend.verify import source_error

RELU = build([helper.make_node("Relu", ["x"], ["y"])], (1, 3, 4, 4), "y")


@pytest.mark.parametrize("source", ["resnet9", "net.pb", "file.py", "a.py:", ""])
def test_unknown_source_lists_what_is_accepted(source: str) -> None:
    with pytest.raises(
        UsageError, match=r"zoo name \(resnet8, .*\), a torch module as file.py:callable, a file.onnx or"
    ):
        load(source)


@pytest.mark.parametrize("name", ["none.onnx", "none.tflite"])
def test_missing_file(name: str) -> None:
    with pytest.raises(DataError, match=f"{name}: no such file"):
        load(name)


def test_options_that_do_not_apply(tmp_path: pytest.TempPathFactory) -> None:
    with pytest.raises(UsageError, match="carries its own weights"):
        load("net.onnx", weights=tmp_path)
    with pytest.raises(UsageError, match=r"resnet8 has input shape \(1, 3, 32, 32\)"):
        load("resnet8", input_shape=(1, 3, 64, 64))


def test_samples_are_checked(tmp_path: pytest.TempPathFactory) -> None:
    path = save(RELU, tmp_path)
    load(path, samples=np.zeros((2, 3, 4, 4), np.float32))
    with pytest.raises(DataError, match=r"samples have shape \(2, 4, 4, 3\); the network's input is \(1, 3, 4, 4\)"):
        load(path, samples=np.zeros((2, 4, 4, 3), np.float32))
    with pytest.raises(DataError, match="samples hold NaN"):
        load(path, samples=np.full((1, 3, 4, 4), np.nan, np.float32))


def test_source_error_is_the_largest_difference_as_a_share_of_the_largest_output() -> None:
    reference = lambda x: np.maximum(x, 0) + np.float32(2**-11)  # noqa: E731
    samples = np.full((1, 3, 4, 4), 4, np.float32)
    assert source_error(RELU, reference, samples, 0) == pytest.approx(2**-13, rel=1e-2)


def test_too_large_a_difference_is_refused() -> None:
    with pytest.raises(DataError, match=r"differs from its source by 0.01"):
        source_error(RELU, lambda x: np.maximum(x, 0) + np.float32(0.01), None, 0)


def test_what_has_a_fixed_range_is_judged_by_it() -> None:
    """A sigmoid of -20 is 2e-9: a difference of as much shows nothing."""
    nodes = [helper.make_node("Sub", ["x", "twenty"], ["d"]), helper.make_node("Sigmoid", ["d"], ["y"])]
    model = build(nodes, (1, 3, 4, 4), "y", {"twenty": np.array(20, np.float32)})
    assert source_error(model, lambda x: np.zeros_like(x), None, 0) < 1e-8
    with pytest.raises(DataError, match="differs"):
        source_error(model, lambda x: np.full_like(x, 0.01), None, 0)


def test_samples_find_differences_that_random_inputs_do_not() -> None:
    """Random inputs lie in [0, 1): a source without the Relu differs only on negative samples."""
    assert source_error(RELU, lambda x: x, None, 0) == 0.0
    with pytest.raises(DataError, match="differs"):
        source_error(RELU, lambda x: x, np.full((1, 3, 4, 4), -1, np.float32), 0)
