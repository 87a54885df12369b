"""What the arithmetic `tflite` has integers of its own for, in C on the host: what the reference executor gives."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from kernels.programs import program, run_on_host, tensor
from tapc.base.arithmetic import softmax_table
from tapc.ir.program import Op, Tensor
from tapc.lower.reference import execute
from tapc.operators.log_softmax import LogSoftmax
from tapc.operators.lp_norm import Unit


def check(op: Op, x: Tensor, y: Tensor, folder: Path) -> None:
    """Compare on codes of every size: those of a long vector reach beyond 2^29 in their squares' sum."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    rng = np.random.default_rng(0)
    p = program([op], [x, y], "tflite")
    spread = rng.choice([0, 1, 3, 20, 255], (40, *x.shape[:2], 1))
    codes = np.clip(x.zero + rng.integers(-spread, spread + 1, (40, *x.shape)), -128, 127).astype(np.int64)
    codes[:2] = np.array([-128, 127]).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(run_on_host(p, codes, folder), execute(p, codes))


@pytest.mark.parametrize("channels", [1, 3, 9000])
def test_vectors_of_length_1(channels: int, tmp_path: Path) -> None:
    x = tensor("x", (1, 2, channels), 8, np.random.default_rng(1))
    x = Tensor("x", x.shape, 8, x.scale, -128 if channels > 3 else 5)
    check(Unit("n", ("x",), "y"), x, Tensor("y", x.shape, 8, 1 / 128, 0), tmp_path)


@pytest.mark.parametrize(("channels", "scale"), [(1, 0.05), (7, 0.3), (2000, 0.002), (11, 9.0)])
def test_logarithms_of_a_softmax(channels: int, scale: float, tmp_path: Path) -> None:
    x, y = Tensor("x", (1, 2, channels), 8, scale, 5), Tensor("y", (1, 2, channels), 8, 1 / 16, 127)
    check(LogSoftmax("n", ("x",), "y", softmax_table(scale, channels, form="tflite")), x, y, tmp_path)
