"""Logarithms in integers against those of float64."""

import numpy as np
import pytest

from tapc.base.arithmetic.logarithm import logarithms


@pytest.mark.parametrize("largest", [0.1, 3.0, 255.0, 1e4])
def test_logarithms_are_near(largest: float) -> None:
    values = np.unique(np.concatenate([np.arange(1, 2000), np.geomspace(1, 2**31 - 1, 5000).astype(np.int64)]))
    own = logarithms(largest)
    assert (largest + 22) * 2**own.fraction < 2**30
    found = own.of(values) / 2**own.fraction
    assert np.abs(found - np.log(values)).max() < 4e-5 + 64 / 2**own.fraction
