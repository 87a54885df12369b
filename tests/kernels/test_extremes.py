"""Kernels of extreme width, depth and window are accepted by the assembler of every core."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kernels.programs import conv_op, program, tensor
from tapc.hardware.target import load_target
from tapc.ir.program import Program
from tapc.kernels.intrinsics import header
from tapc.lower.steps import steps_of
from tapc.operators.pool import Pool
from thorough import thorough

pytestmark = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None, reason="needs the cross compiler arm-none-eabi-gcc"
)

# Height, width, channels; kernel; stride; activation and weight bits.
DEPTHWISE = [
    ((6, 300, 2), (3, 3), 1, 8, 8),
    ((4, 4000, 3), (3, 3), 1, 4, 2),
    ((2, 4000, 2), (1, 17), 2, 8, 4),
    ((12, 96, 2), (7, 7), 1, 8, 8),
    ((70, 520, 2), (5, 5), 3, 4, 8),
    ((1, 1200, 2), (1, 150), 1, 8, 8),
    ((600, 2, 2), (90, 1), 1, 8, 8),
    ((40, 40, 2), (11, 11), 1, 8, 4),
    ((8, 8, 3000), (3, 3), 1, 8, 8),
]
CONVOLUTIONS = [
    ((1, 1, 9000), (1, 1), 1, 8, 8),
    ((1, 3, 5003), (1, 1), 1, 8, 2),
    ((2, 3, 4096), (1, 1), 1, 4, 4),
    ((3, 5000, 3), (3, 3), 1, 8, 8),
    ((1, 1200, 5), (1, 401), 1, 8, 8),
    ((40, 40, 1), (31, 31), 1, 4, 8),
    ((4, 4, 257), (4, 4), 1, 8, 4),
]


def programs(mode: str, isa: str) -> list[Program]:
    rng = np.random.default_rng(0)
    found = []
    for layers, depthwise in ((DEPTHWISE, True), (CONVOLUTIONS, False)):
        for shape, kernel, stride, bits, w_bits in layers:
            height, width, channels = shape
            pads = tuple(size // 2 if size < 9 else 0 for size in kernel * 2)
            rows = (height + pads[0] + pads[2] - kernel[0]) // stride + 1
            columns = (width + pads[1] + pads[3] - kernel[1]) // stride + 1
            x, y = tensor("x", shape, bits, rng), tensor("y", (rows, columns, channels if depthwise else 5), bits, rng)
            groups = channels if depthwise else 1
            op = conv_op(rng, x, y, kernel, (stride, stride), pads, groups, w_bits)  # type: ignore[arg-type]
            found.append(program([op], [x, y], mode, isa))
    x, y = tensor("x", (64, 900, 3), 8, rng), tensor("y", (1, 1, 3), 8, rng)
    ratios = np.full(64 * 900, 1e-4, np.float32)
    pool = Pool("pool", ("x",), "y", "average", (64, 900), (1, 1), (0,) * 4, False, ratios, y.low, y.high)
    return [*found, program([pool], [x, y], mode, isa)]


@pytest.mark.parametrize(("core", "mode"), [
    ("cortex-m0plus", ""), ("cortex-m4", ""), ("cortex-m55", ""), thorough("cortex-m7", ""),
    thorough("cortex-m55", "tflite"),
])  # fmt: skip
def test_extreme_layers_are_assembled(core: str, mode: str, tmp_path: Path) -> None:
    target = load_target(core)
    steps = [step for p in programs(mode or target.requantize, target.isa) for step in steps_of(p)]
    sources = [step.spec.kernel(f"k{i}").source for i, step in enumerate(steps)]
    source = "\n".join(['#include "intrinsics.h"', *sources])
    (tmp_path / "intrinsics.h").write_text(header(source))
    (tmp_path / "kernels.c").write_text(source)
    flags = [*target.cflags, *target.optimization, "-std=c11", "-Wall", "-Wextra", "-Werror"]
    command = ["arm-none-eabi-gcc", *flags, "-c", "kernels.c", "-o", "kernels.o"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:2000]
