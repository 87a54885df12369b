"""Elements in another order, of bytes and of halves of bytes: what the kernel writes is what numpy takes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.programs import program, random_codes, run_together_on_host, tensor
from tapc.kernels.gather import GatherSpec
from tapc.lower.steps import steps_of
from tapc.operators.move import Move
from thorough import thorough

COUNT = 42


def taken(rng: np.random.Generator, kind: int) -> tuple[tuple[int, int, int], NDArray[np.int64]]:
    height, width, channels = (int(rng.integers(1, most)) for most in (5, 6, 11))
    index = np.arange(height * width * channels).reshape(height, width, channels)
    if kind == 0:
        taken = index.transpose(*rng.permutation(3))
    elif kind == 1:
        taken = index[:, :: int(rng.integers(1, 3)), int(rng.integers(channels)) :]
    elif kind == 2:
        taken = index[:, rng.integers(0, width, 5)]
    elif kind == 3:
        taken = rng.permutation(index.reshape(-1)).reshape(index.shape)
    elif kind == 4:
        taken = index[:, :, rng.integers(0, channels, int(rng.integers(1, 12)))]
    elif kind == 5:
        depth = int(rng.integers(1, min(index.size, 7) + 1))
        taken = index.reshape(-1)[: index.size // depth * depth].reshape(1, -1, depth)
    else:
        taken = index[:: int(rng.integers(1, 3)), :, :: int(rng.integers(1, 3))].transpose(*rng.permutation(3))
    return index.shape, taken


@pytest.mark.parametrize("bits", [4, thorough(8)])
def test_any_order(bits, tmp_path):
    rng = np.random.default_rng(bits)
    cases, wanted = [], []
    for case in range(COUNT):
        shape, index = taken(rng, case % 7)
        x, y = tensor("x", shape, bits, rng), tensor("y", index.shape, bits, rng)
        codes = random_codes(x, 2, rng)
        cases.append((program([Move("move", ("x",), "y", index.astype(np.int32), False)], [x, y]), codes, None))
        wanted.append(codes.reshape(2, -1)[:, index])
    for found, expected in zip(run_together_on_host(cases, tmp_path), wanted, strict=True):
        np.testing.assert_array_equal(found, expected)


def spec_of(index, channels, bits=4) -> GatherSpec:
    rng = np.random.default_rng(0)
    shape = (1, int(index.max()) // channels + 1, channels)
    x, y = tensor("x", shape, bits, rng), tensor("y", index.shape, bits, rng)
    (step,) = steps_of(program([Move("move", ("x",), "y", index.astype(np.int32), False)], [x, y]))
    return step.spec


def test_pairs_of_codes_that_stay_together_are_bytes():
    index = np.arange(48).reshape(1, 6, 8)[:, ::2, 2:6]
    assert spec_of(index, 8).x.bits == 8
    assert spec_of(index, 8).loops == ((3, 8), (2, 1))
    assert spec_of(index + 1, 8).x.bits == 4


def test_whole_pixels_of_an_odd_number_of_codes_are_bytes():
    index = np.arange(45).reshape(1, 9, 5)
    assert spec_of(index[:, [4, 0, 7]], 5).x.bits == 8
    assert spec_of(index[:, ::2], 5).loops[-1] == (3, 1)


def test_halves_that_are_known():
    across = np.arange(32).reshape(1, 2, 16).transpose(0, 2, 1)
    assert spec_of(across, 16).sides == (False, True)  # a loop over channels, which lie half a byte apart
    assert spec_of(np.arange(64).reshape(1, 8, 8)[:, :, ::2], 8).sides == (True, True)
