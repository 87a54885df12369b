"""Copies of runs of bytes, and what is filled around them: at whole words and beside them, of every length."""

from pathlib import Path

import numpy as np
import pytest

from kernels.programs import program, random_codes, run_together_on_host
from tapc.ir.program import Program, Tensor
from tapc.kernels.intrinsics import header
from tapc.lower.steps import steps_of
from tapc.operators.concat import Concat
from tapc.operators.pad import Pad
from tapc.operators.requantize import Requantize

ONE = np.float32(1)


def plain(name: str, *shape: int) -> Tensor:
    return Tensor(name, (shape[0], shape[1], shape[2]), 8, 0.05, -4)


def padded(shape: tuple[int, int, int], pads: tuple[int, int, int, int], channels: tuple[int, int]) -> Program:
    height, width, depth = shape
    y = plain("y", height + pads[0] + pads[2], width + pads[1] + pads[3], depth + sum(channels))
    return program([Pad("pad", ("x",), "y", pads, ONE, channels, 77)], [plain("x", *shape), y])


PADS = [
    ((5, 6, 16), (1, 1, 1, 1), (0, 0)),
    ((5, 6, 3), (1, 2, 0, 1), (0, 0)),
    ((4, 4, 17), (0, 1, 2, 0), (0, 0)),
    ((3, 4, 8), (0, 0, 2, 0), (0, 0)),
    ((1, 1, 64), (1, 1, 1, 1), (0, 0)),
    ((1, 7, 5), (0, 3, 0, 0), (0, 0)),
    ((3, 2, 8), (1, 0, 1, 1), (2, 6)),
    ((3, 2, 3), (0, 0, 0, 0), (0, 1)),
]


def test_padding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    programs = [padded(*given) for given in PADS]
    codes = [random_codes(p.tensors["x"], 2, rng) for p in programs]
    found = run_together_on_host([(p, x, None) for p, x in zip(programs, codes, strict=True)], tmp_path)
    for (_, (top, left, bottom, right), channels), x, y in zip(PADS, codes, found, strict=True):
        around = ((0, 0), (top, bottom), (left, right), channels)
        np.testing.assert_array_equal(y.reshape(len(y), -1), np.pad(x, around, constant_values=77).reshape(len(y), -1))


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 17, 20, 31, 32, 48])
def test_channels_side_by_side(channels: int, tmp_path: Path) -> None:
    x = plain("x", 3, 2, channels)
    p = program([Concat("join", ("x", "x"), "y", (ONE, ONE), -128, 127)], [x, plain("y", 3, 2, 2 * channels)])
    codes = random_codes(x, 2, np.random.default_rng(1))
    (y,) = run_together_on_host([(p, codes, None)], tmp_path)
    np.testing.assert_array_equal(y, np.concatenate([codes, codes], axis=-1))


def test_runs_at_whole_words_are_known() -> None:
    """Words that begin anywhere are slow everywhere, and fault on a Cortex-M0+."""
    assert [_words(padded(*given)) for given in PADS] == [True, False, False, True, True, False, False, False]
    assert _words(
        program([Requantize("copy", ("x",), "y", ONE, -128, 127)], [plain("x", 3, 3, 7), plain("y", 3, 3, 7)])
    )


def _words(p: Program) -> bool:
    (step,) = steps_of(p)
    return bool(step.spec.words)  # type: ignore[attr-defined]


def test_only_the_border_is_filled() -> None:
    (step,) = steps_of(padded((32, 32, 16), (1, 1, 1, 1), (0, 0)))
    filled = step.spec.borders  # type: ignore[attr-defined]
    assert sum(border.rows * border.length for border in filled) == 34 * 34 * 16 - 32 * 32 * 16


def test_a_core_with_helium_takes_its_own_form_first() -> None:
    kernel = steps_of(padded((5, 6, 16), (1, 1, 1, 1), (0, 0)))[0].spec.kernel("k")
    text = header(kernel.source)
    body = text[text.index(" t_movew16(") :]
    assert body.index("__ARM_FEATURE_MVE") < body.index("__ARM_ARCH_6M__") < body.index("__ARM_FEATURE_DSP")
