"""Averages and interpolations of codes as they are: C on the host equals the reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kernels.programs import program, random_codes, run_on_host, tensor
from tapc.lower.reference import execute
from tapc.operators.pool import Pool
from tapc.operators.resize import Resize


def test_poolings_and_interpolations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = tensor("x", (5, 6, 5), 8, rng)
    middle, y = replace(x, name="middle", shape=(3, 3, 5)), replace(x, name="y", shape=(7, 8, 5))
    ops = [
        Pool("pool", ("x",), "middle", "average", (3, 2), (2, 2), (1, 0, 1, 0), False, np.ones(6), -100, 120),
        Resize("resize", ("middle",), "y", "half_pixel"),
    ]
    p = program(ops, [x, middle, y], "tflite", "scalar")
    codes = random_codes(x, 6, rng)
    codes[1] = -128
    expected = execute(p, codes)
    np.testing.assert_array_equal(run_on_host(p, codes, tmp_path), expected)
    other = program(ops, [x, middle, y], "fixed", "scalar")
    assert (execute(other, codes) != expected).any()
