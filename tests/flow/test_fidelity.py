"""A network is compared with its source, in the source's own runtime, after every transformation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from graph_builder import Builder
from tapc.base.errors import DataError, MismatchError
from tapc.flow.fidelity import affordable, check_on, imprecise, source_outputs, transformed, unmoved
from tapc.frontend import FloatModel, load
from tapc.quantize.runtime import Float


def loaded(folder: Path) -> FloatModel:
    b = Builder((1, 4, 6, 6))
    model = b.build(b.node("Relu", [b.conv("x", "one", 4, 5)], "relu"))
    onnx.save(model.onnx, folder / "net.onnx")
    return load(str(folder / "net.onnx"))


def draw(count: int = 20) -> Float:
    return np.random.default_rng(1).normal(0, 1, (count, 4, 6, 6)).astype(np.float32)


def scaled(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(factor), tensor.name)
        )
    return copy


def test_what_the_source_gives_does_not_follow_the_graph(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    before = source_outputs(model, draw())
    assert before.shape == (20, 5, 6, 6)
    assert np.array_equal(source_outputs(replace(model, onnx=scaled(model.onnx, 2)), draw()), before)


def test_where_the_runtime_is_missing_the_graph_stands_for_the_source(tmp_path: Path) -> None:
    model = replace(loaded(tmp_path), run=None, source_error=None)
    checked = check_on(model, draw())
    assert checked.source_error is None
    assert np.allclose(source_outputs(model, draw()), source_outputs(loaded(tmp_path), draw()), atol=1e-6)
    with pytest.raises(MismatchError, match="stretching"):
        transformed(checked, scaled(model.onnx, 1.01), "stretching", draw())


def test_a_transformation_that_changes_the_network_is_an_error_that_names_it(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    with pytest.raises(MismatchError, match="stretching changed what the network computes"):
        transformed(model, scaled(model.onnx, 1.01), "stretching", draw())
    same = transformed(model, scaled(model.onnx, 1.0), "stretching", draw())
    assert same.source_error is not None
    assert same.source_error < 1e-5


def test_more_than_rounding_is_told(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    assert not imprecise(check_on(model, draw()))
    run = model.run
    assert run is not None
    odd = check_on(replace(model, run=lambda x: run(x) * np.float32(1 + 3e-4)), draw())
    assert odd.source_error == pytest.approx(3e-4, rel=1e-2)
    (warning,) = imprecise(odd)
    assert "differs from its source by 3.0e-04 of the largest output" in warning


def test_a_graph_that_differs_on_the_samples_alone_is_an_error(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    assert model.run is not None
    run = model.run
    odd = replace(model, run=lambda x: run(x) + (np.abs(x).max(axis=(1, 2, 3)) > 4).reshape(-1, 1, 1, 1))
    with pytest.raises(DataError, match="canonicalization"):
        check_on(odd, 3 * draw())


def test_outputs_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        check_on(loaded(tmp_path), np.full((2, 4, 6, 6), np.nan, np.float32))


def test_all_samples_of_small_networks_are_taken(tmp_path: Path) -> None:
    assert affordable(loaded(tmp_path), 1000).tolist() == list(range(1000))


def test_samples_of_large_networks_are_spread_over_all(tmp_path: Path) -> None:
    b = Builder((1, 64, 256, 256))
    large = b.build(b.conv("x", "one", 64, 64)).onnx
    chosen = affordable(replace(loaded(tmp_path), onnx=large), 80)
    assert len(chosen) == 8
    assert chosen[0] == 0
    assert chosen[-1] == 79


def test_a_network_that_no_sample_moves_is_told(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    assert unmoved(check_on(model, draw())) == ()
    still = replace(model, run=lambda x: np.zeros((len(x), 5, 6, 6), np.float32), onnx=scaled(model.onnx, 0))
    (warning,) = unmoved(check_on(still, draw()))
    assert "same output for all 20 calibration samples: it does not react" in warning
