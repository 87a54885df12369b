"""A compilation's samples: what they measure, what is said about them, what is refused before they are made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tapc.base.errors import BudgetError, DataError, UsageError
from tapc.base.options import Options
from tapc.base.ports import Port
from tapc.data import Samples, in_order
from tapc.flow.inputs import check_input, load_data, with_units
from tapc.flow.losses.identities import identities
from tapc.frontend import FloatModel, load
from tapc.frontend.identity import network_digest
from tapc.hardware.board import load_board

RNG = np.random.default_rng(2)


@pytest.fixture(scope="module")
def model() -> FloatModel:
    return load("resnet8")


def test_the_zoos_network_is_that_of_the_benchmark(model: FloatModel) -> None:
    assert network_digest(model.onnx) == identities()["resnet8"]


def images(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def test_arrays_are_data(model: FloatModel) -> None:
    x, y = images(60), np.arange(60) % 10
    found = load_data(model, (x, y), Options(eval=30))
    assert (found.metric.name, found.metric.outputs, found.warnings) == ("top1", 10, ())
    assert (len(found.calibration.x), len(found.test.x)) == (30, 30)
    assert found.calibration.pictures
    named = load_data(model, (x, np.array([f"c{i}" for i in y])), Options())
    assert named.labels == tuple(f"c{i}" for i in range(10))
    assert load_data(model, x, Options()).metric.reason == "only inputs were given"


def test_a_source_is_read_once(model: FloatModel) -> None:
    class Shuffled:
        batch_size = 10
        read = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            self.read += 1
            order = np.random.default_rng(self.read).permutation(60)
            return iter([(x[order[i : i + 10]], order[i : i + 10] % 10) for i in range(0, 60, 10)])

    x = images(60)
    source = Shuffled()
    found = load_data(model, source, Options())
    assert source.read == 1
    drawn = np.concatenate([found.calibration.x, found.test.x])
    assert len(np.unique(drawn.reshape(60, -1), axis=0)) == 60
    once = load_data(model, ((picture, i % 10) for i, picture in enumerate(x)), Options())
    assert (len(once.calibration.x), len(once.test.x)) == (30, 30)


def test_labels_that_do_not_fit_are_refused(model: FloatModel, tmp_path: Path) -> None:
    for y, message in ((np.arange(60) % 11, "10 outputs"), (np.arange(60) % 10 + 1, "subtract 1")):
        with pytest.raises(DataError, match=message):
            load_data(model, (images(60), y), Options())
    # The one wrong label is among the samples to calibrate with.
    np.savez(tmp_path / "d.npz", train_x=images(8), train_y=np.full(8, 10), test_x=images(4), test_y=np.zeros(4, int))
    with pytest.raises(DataError, match=r"labels from 10 to 10"):
        load_data(model, tmp_path / "d.npz", Options())


def test_few_samples_and_the_same_ones_are_doubtful(model: FloatModel) -> None:
    warnings = load_data(model, (images(1), np.array([3])), Options()).warnings
    assert any(text.startswith("calibrated on 1 sample:") for text in warnings)
    assert any(text.startswith("1 of 1 test samples were also calibrated on") for text in warnings)


def test_random_inputs_are_in_the_networks_units(model: FloatModel) -> None:
    found = load_data(model, "random", Options(calibration=4, eval=3))
    assert found.calibration.raw == (0, 255)
    assert found.calibration.x.max() <= 1
    assert found.metric.reason == "random inputs have no labels"


def test_units(model: FloatModel) -> None:
    assert not with_units(model, None, None, None).units_given
    given = with_units(model, 0.5, None, (2.0,))
    assert (given.units.scale, given.units.std, given.units.given) == (0.5, (2.0,), True)
    with pytest.raises(UsageError, match="must be positive"):
        load_data(with_units(model, None, None, (0.0,)), "random", Options())


def test_inputs_larger_than_the_memory_are_refused_before_samples_are_made(model: FloatModel) -> None:
    large = replace(model, inputs=(Port("x", (1, 3, 1024, 1024)),))
    with pytest.raises(BudgetError, match="takes 3,145,728 bytes; pico has"):
        check_input(large, load_board("pico"), Options())
    check_input(model, load_board("pico"), Options())


def test_classes_are_numbered_as_the_network_does(model: FloatModel) -> None:
    names = ("b", "c", "a")
    samples = Samples(np.zeros((3, 1), np.float32), np.array([0, 1, 2]), "d", ("a", "b", "c"))
    found = in_order(samples, names)
    assert (found.labels, found.warnings) == (names, ())
    assert found.y is not None
    assert [names[i] for i in found.y] == ["a", "b", "c"]
    assert in_order(samples, None) is samples
    other = in_order(samples, ("x", "y", "z"))
    assert other.labels == ("a", "b", "c")
    assert "numbered in their sorted order" in other.warnings[0]
    strange = load_data(model, (images(20), np.array([f"c{i % 10}" for i in range(20)])), Options())
    assert any("the network's are airplane" in text for text in strange.warnings)
