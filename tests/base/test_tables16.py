"""Tables of 16-bit codes: no further from a function than they say, and in C what they are in numpy, code by code."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapc.base.arithmetic.tables16 import SIDE, Table16, table16
from tapc.kernels.intrinsics import header

CODES = np.arange(-(2**15), 2**15)
FUNCTIONS = {
    "square root of what is positive": lambda v: np.sqrt(np.maximum(v, 0)),
    "logarithm": lambda v: np.log(np.maximum(v, 1e-4)),
    "exp": lambda v: np.exp(np.minimum(v, 3)),
    "tanh": np.tanh,
    "sine": np.sin,
    "square": np.square,
    "cube": lambda v: v**3,
    "reciprocal": lambda v: 1 / np.maximum(np.abs(v), 0.05),
    "nothing": np.zeros_like,
}
MOST = {"exp": 2, "tanh": 2, "sine": 2, "square": 1.5, "cube": 3, "nothing": 0.5}
"""Codes of 2^-15 of the largest value, for codes that reach to 4."""


def made(name: str, reach: float, bits: int) -> tuple[Table16, np.ndarray]:
    """Return a table, and what the function is in steps of the result, without numpy's help but for the function."""
    function = FUNCTIONS[name]
    x = float(np.float32(reach / 2**15))
    values = function(CODES * x)
    y = float(np.float32(max(np.abs(values).max(), 1e-3) / (2 ** (bits - 1) - 1)))
    return table16(function, (x, 0), (y, 0), 16, bits, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1), values / y


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=8)
@given(reach=st.floats(0.01, 30))
def test_the_error_is_what_it_says(name: str, bits: int, reach: float) -> None:
    table, exact = made(name, reach, bits)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    distance = np.abs(table(CODES, low, high) - np.clip(exact, low, high)).max()
    assert distance <= table.error + 1e-9
    assert table.error <= distance + 1e-6


@pytest.mark.parametrize("name", MOST)
def test_smooth_functions_lose_little(name: str) -> None:
    assert made(name, 4.0, 16)[0].error <= MOST[name]


def test_roots_near_zero_keep_their_precision() -> None:
    table, exact = made("square root of what is positive", 4.0, 16)
    assert table.form == "octaves"
    assert len(table.entries) == SIDE + 1
    assert table.error <= 3
    assert math.isclose(table(np.array([1]), -(2**15), 2**15 - 1)[0], exact[2**15 + 1], abs_tol=0.5)


@given(st.lists(st.floats(-4, 4), min_size=256, max_size=256))
def test_each_of_8_bits_has_its_own_entry(values: list[float]) -> None:
    own = np.array(values)
    table = table16(lambda v: own[np.rint(v).astype(int) + 128], (1.0, 0), (2.0**-12, 0), 8, 16, -(2**15), 2**15 - 1)
    wanted = [min(max(round(v * 2**12), -(2**15)), 2**15 - 1) for v in values]
    assert table(np.arange(-128, 128), -(2**15), 2**15 - 1).tolist() == wanted


_MAIN = """
#include "intrinsics.h"
#include <stdio.h>
int main(void) {
  static int16_t lines[513], octaves[%d];
  if (fread(lines, 2, 513, stdin) != 513 || fread(octaves, 2, %d, stdin) != %d) return 1;
  for (int32_t x = -32768; x < 32768; ++x) {
    int32_t m = x < 0 ? -x : x;
    int32_t both[2] = {t_lines16(x, lines), t_octaves16(m > 32767 ? 32767 : m, octaves + (x < 0 ? %d : 0))};
    fwrite(both, 4, 2, stdout);
  }
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("seed", [0, 1])
def test_c_is_the_reference(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    lines, octaves = (rng.integers(-(2**15), 2**15, size).astype(np.int16) for size in (513, 2 * SIDE))
    if seed:  # as far apart as can be
        lines[::2], lines[1::2], octaves[::2], octaves[1::2] = -(2**15), 2**15 - 1, -(2**15), 2**15 - 1
    main = _MAIN % (2 * SIDE, 2 * SIDE, 2 * SIDE, SIDE)
    (tmp_path / "intrinsics.h").write_text(header(main))
    (tmp_path / "main.c").write_text(main)
    flags = ["-fsanitize=undefined", "-fno-sanitize-recover=all", "-O1", "-Wall"]
    subprocess.run(["gcc", *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    result = subprocess.run(
        ["./main"], cwd=tmp_path, input=lines.tobytes() + octaves.tobytes(), stdout=subprocess.PIPE, check=True
    )
    found = np.frombuffer(result.stdout, np.int32).reshape(-1, 2)
    for form, entries, column in (("lines", lines, 0), ("octaves", octaves, 1)):
        wanted = Table16(form, entries, 16)(CODES, -(2**31), 2**31 - 1)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found[:, column], wanted)
