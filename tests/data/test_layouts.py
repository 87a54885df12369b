"""Samples in the shape that the source network takes are brought into the order of the canonical input."""

import numpy as np

from tapc.base.ports import Port
from tapc.data import load_samples


def test_a_sequence() -> None:
    """(N, time, features) of the source is (N, features, 1, time) in the canonical graph."""
    port = Port("x", (1, 3, 1, 4), source=(1, 4, 3), loops=((3, 1), (4, 3)))
    x = np.random.default_rng(0).random((6, 4, 3), np.float32)
    for given in (x, x.transpose(0, 2, 1).reshape(6, 3, 1, 4)):
        samples = load_samples({"x": given}, (port,), pixel_scale=1.0, count=None, split="all", seed=0)
        np.testing.assert_array_equal(samples.x[:, :, 0], x.transpose(0, 2, 1))


def test_restored_is_the_inverse() -> None:
    port = Port("x", (1, 3, 1, 4), source=(1, 4, 3), loops=((3, 1), (4, 3)))
    x = np.arange(24).reshape(2, 4, 3)
    np.testing.assert_array_equal(port.restored(port.canonical(x)), x)
