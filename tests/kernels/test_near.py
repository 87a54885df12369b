"""Codes of accumulators that need no wide product: C of the Cortex-M0+ and of other cores against the definition."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tapc.base.arithmetic import Multipliers, arithmetic_of
from tapc.kernels.intrinsics import header

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

_MAIN = """
#include "intrinsics.h"
#include <stdio.h>
int main(void) {
  int acc, factor, shift, zero, low, high;
  while (scanf("%d %d %d %d %d %d", &acc, &factor, &shift, &zero, &low, &high) == 6) {
    int32_t parts[4];
    t_near(factor, shift, zero, parts);
    printf("%d %d\\n", low == -128 && high == 127 ? t_near_code8(acc, parts) : t_near_code4(acc, parts),
           t_near_code(acc, parts, low, high));
  }
}
"""


@pytest.mark.parametrize("core", ["", "-D__ARM_ARCH_6M__"])
def test_codes_are_those_of_the_definition(core: str, tmp_path: Path) -> None:
    rng, fixed = np.random.default_rng(0), arithmetic_of("fixed")
    ratios = (2.0 ** rng.uniform(-11.99, -2.01, 400)).astype(np.float32)
    rows, expected = [], []
    for ratio in ratios:
        m = fixed.multipliers(np.array([ratio]))
        # As large as can be, and next to every change of a code.
        most = next(n for n in (2**19 - 1, 2**18, 2**17, 2**16) if fixed.near(m, np.array([n])))
        low, high = (-128, 127) if rng.random() < 0.6 else (0, 15)
        zero = int(rng.integers(low, high + 1))
        steps = np.rint((np.arange(low, high + 2) - zero - 0.5) / float(ratio)).astype(np.int64)
        acc = np.concatenate([[-most, most], *(steps + i for i in (-1, 0, 1)), rng.integers(-most, most, 50)])
        acc = acc[np.abs(acc) <= most]
        rows += [(int(a), int(m.factor[0]), int(m.shift[0]), zero, low, high) for a in acc]
        expected += fixed.requantize(acc, m, zero, low, high).tolist()
    (tmp_path / "intrinsics.h").write_text(header(_MAIN))
    (tmp_path / "main.c").write_text(_MAIN)
    flags = ["-fsanitize=undefined", "-fno-sanitize-recover=all", "-O1", core or "-Wall"]
    subprocess.run(["gcc", *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    given = "\n".join(" ".join(map(str, row)) for row in rows)
    result = subprocess.run(["./main"], cwd=tmp_path, input=given, text=True, stdout=subprocess.PIPE, check=True)
    found = np.array([line.split() for line in result.stdout.splitlines()], np.int64)
    np.testing.assert_array_equal(found, np.stack([expected, expected], axis=1))


def test_what_does_not_fit_is_not_near() -> None:
    def near(factor: int, shift: int, largest: int, mode: str = "fixed") -> bool:
        m = Multipliers(mode, np.array([factor], np.int32), np.array([shift], np.int32))
        return arithmetic_of(mode).near(m, np.array([largest]))

    assert near(3 << 29, 40, 2**19 - 1)
    assert near(1 << 30, 33, 2**19 - 1)
    assert not near(3 << 29, 40, 2**19)
    assert not near((3 << 29) + 64, 40, 1000)
    assert not near(3 << 29, 32, 1000)
    assert not near(3 << 29, 43, 1000)
    assert not near((1 << 31) - 128, 42, 2**19 - 1)
    assert not near(3 << 29, 40, 1000, "tflite")
    assert not near(3 << 29, 40, 1000, "float")
