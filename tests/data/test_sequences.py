"""Samples in sequences: steps in their order, whole sequences for each use, labels of steps or of sequences."""

from pathlib import Path

import numpy as np
import pytest

from tapc.base.ports import Port
from tapc.data import PixelUnits, Samples, load_samples
from tapc.data.metrics import Metric, measure

PORTS = (Port("x", (1, 3)),)


def loaded(data: object, split: str, count: int | None = None, ports: tuple[Port, ...] = PORTS) -> Samples:
    return load_samples(data, ports, pixel_scale=PixelUnits(), count=count, split=split, sequences=True)  # type: ignore[arg-type]


def test_steps_of_one_sequence_are_divided_in_its_middle() -> None:
    x = np.arange(36, dtype=np.float32).reshape(12, 3)
    first, second = loaded(x, "calibration"), loaded(x, "test", 4)
    np.testing.assert_array_equal(first.x, x[:6])
    np.testing.assert_array_equal(second.x, x[6:10])
    assert (first.steps, second.steps) == (6, 4)


@pytest.mark.parametrize("file", [True, False])
def test_sequences_stay_whole(file: bool, tmp_path: Path) -> None:
    x = np.arange(8 * 5 * 3, dtype=np.float32).reshape(8, 5, 3)
    data: object = {"x": x, "y": np.arange(8)}
    if file:
        np.savez(tmp_path / "d.npz", x=x, y=np.arange(8))
        data = tmp_path / "d.npz"
    seen = []
    for split in ("calibration", "test"):
        samples = loaded(data, split)
        assert samples.steps == samples.labelled == 5
        assert samples.y is not None
        for rows, y in zip(samples.x.reshape(-1, 5, 3), samples.y.reshape(-1, 5), strict=True):
            np.testing.assert_array_equal(rows, x[y[0]])
            assert len(set(y.tolist())) == 1
            seen.append(int(y[0]))
    assert sorted(seen) == list(range(8))


def test_a_few_steps_of_long_sequences() -> None:
    x = np.arange(4 * 100 * 3, dtype=np.float32).reshape(4, 100, 3)
    samples = loaded(x, "test", 40)
    assert samples.steps == len(samples.x) == 40
    assert samples.x[0, 0] % 300 == 0
    assert len(loaded({"x": x, "y": np.arange(4)}, "test", 40).x) == 100  # its label is about its end


def test_labels_of_steps_and_of_sequences() -> None:
    x, rng = np.zeros((4, 5, 3), np.float32), np.random.default_rng(0)
    y = rng.integers(0, 3, (4, 5))
    each = loaded({"x": x, "y": y}, "all")
    assert each.y is not None
    np.testing.assert_array_equal(each.y, y.reshape(-1))
    outputs = np.eye(3)[y.reshape(-1)]
    metric = Metric("top1", 3)
    assert measure(metric, outputs, each).share == 100.0
    ends = loaded({"x": x, "y": y[:, -1]}, "all")
    assert measure(metric, outputs, ends).share == 100.0  # what steps before say does not count
    wrong = outputs.copy()
    wrong[4::5] = np.roll(wrong[4::5], 1, axis=1)
    assert measure(metric, wrong, ends).share == 0.0


def test_several_inputs() -> None:
    ports = (*PORTS, Port("z", (1, 2)))
    x, z = np.arange(30.0).reshape(2, 5, 3), np.arange(20.0).reshape(2, 5, 2)
    samples = loaded({"x": x, "z": z}, "all", ports=ports)
    assert samples.steps == 5
    np.testing.assert_array_equal(samples.x[:, :3], x.reshape(10, 3))
    np.testing.assert_array_equal(samples.x[:, 3:], z.reshape(10, 2))
