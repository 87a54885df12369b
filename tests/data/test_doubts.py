"""What is doubtful about samples is said."""

import numpy as np
import pytest

from tapc.data import Samples
from tapc.data.doubts import FEW, few, uneven


def samples(x: np.ndarray) -> Samples:
    return Samples(x.astype(np.float32), None, "drawn")


def test_few_calibration_samples() -> None:
    assert few(samples(np.zeros((FEW, 2)))) == ()
    assert few(samples(np.zeros((1, 2))))[0].startswith("calibrated on 1 sample:")


@pytest.mark.parametrize(("shape", "axis", "told"), [
    ((30, 6, 1, 128), 1, True), ((30, 1, 6, 128), 2, True), ((30, 6), 1, True), ((30, 1, 49, 10), 2, False),
    ((30, 784), 1, False),
])  # fmt: skip
def test_channels_of_different_ranges(shape: tuple[int, ...], axis: int, told: bool) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, shape)
    assert uneven(samples(x)) == ()
    scales = np.ones(shape[axis])
    scales[2] = 1 / 30
    x = x * scales.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    found = uneven(samples(x))
    assert bool(found) == told
    assert all("channel 2 of the input spans 0.06" in text and "of 256 codes" in text for text in found)
    constant = np.where(np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]) == 2, 0, 1)
    assert uneven(samples(np.random.default_rng(0).uniform(-1, 1, shape) * constant)) == ()
