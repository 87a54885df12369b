"""Layers whose sums, as codes, leave 32 bits before they are clamped: C gives what exact integers give."""

from pathlib import Path

import numpy as np
import pytest

from kernels.programs import program, run_on_host
from tapc.ir.program import Tensor
from tapc.lower.reference import execute
from tapc.lower.steps import steps_of
from tapc.operators.wide_layers import WideLayer

DEPTH, OUTPUTS = 300, 5


@pytest.mark.parametrize(("bits", "ratio", "sums"), [(8, 900.0, "far"), (16, 300.0, "far"), (8, 40.0, "wide")])
@pytest.mark.parametrize("isa", ["dsp", "scalar"])
def test_results_far_beyond_the_clamp(bits: int, ratio: float, sums: str, isa: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (OUTPUTS, 1, 1, DEPTH)).astype(np.int8)
    weights[0] = 127
    x = Tensor("x", (1, 1, DEPTH), bits, 0.01, 0 if bits == 16 else -7)
    y = Tensor("y", (1, 1, OUTPUTS), 16, 0.01, 0)
    bias = rng.integers(-(2**20), 2**20, OUTPUTS).astype(np.int32)
    op = WideLayer("n", ("x",), "y", weights, 8, bias, np.full(OUTPUTS, ratio), (1, 1), (0,) * 4, 1, y.low, y.high)
    p = program([op], [x, y], "float", isa)
    assert steps_of(p)[0].spec.sums == sums  # type: ignore[attr-defined]
    codes = rng.integers(x.low, x.high + 1, (40, *x.shape))
    codes[:2] = np.array([x.low, x.high]).reshape(2, 1, 1, 1)
    codes[2:12] = x.zero  # small sums, some of which are not clamped
    for i in range(10):
        codes[2 + i, 0, 0, i] += 1
    found = run_on_host(p, codes, tmp_path)
    np.testing.assert_array_equal(found, execute(p, codes))
    # A ratio of whole numbers times whole sums needs no rounding but the factor's, of 2^-16.
    exact = ((codes - x.zero)[:, 0, 0, :].astype(object) @ weights[:, 0, 0].T.astype(object) + bias) * int(ratio)
    wanted = np.clip(exact, y.low, y.high).astype(np.int64)
    assert (np.abs(found.reshape(wanted.shape) - wanted) <= 1 + np.abs(wanted) / 2**15).all()
