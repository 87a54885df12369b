"""Detections: C equals the reference, the reference what real numbers say, and what 32 bits do not hold is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.programs import run_together_on_host
from tapc.base.detector import Detector, decoded
from tapc.base.errors import UnsupportedError
from tapc.ir.program import Program, Tensor
from tapc.lower.codes import detections
from tapc.lower.reference import execute
from tapc.operators.detect import with_detections

KEYS = {"scores": "s", "sides": "d"}


def maps(own: Detector, shape: tuple[int, int, int], isa: str = "dsp", sides: float = 0.25, bits: int = 8) -> Program:
    """Return a program that gives its two maps and their detections."""
    height, width, _ = shape
    tensors = {
        "s": Tensor("s", shape, bits, 1 / 256, {4: 0, 8: -128, 16: 0}[bits]),
        "d": Tensor("d", (height, width, 4), 8, sides, -120),
    }
    names = ("s", "d")
    whole = Program("test", "float", tensors, (), names, names, isa, output_names=("scores", "sides"))  # type: ignore[arg-type]
    return with_detections(whole, own, KEYS)


def codes_of(program: Program, count: int, rng: np.random.Generator, spread: int) -> NDArray[np.int64]:
    """Return rows of codes; few different scores, so that many are equal."""
    scores, sides = program.tensors["s"], program.tensors["d"]
    a = scores.low + rng.integers(0, spread, (count, int(np.prod(scores.shape)))) * (
        (scores.high - scores.low) // spread
    )
    b = rng.integers(sides.low, sides.high + 1, (count, int(np.prod(sides.shape))))
    return np.concatenate([a, b], axis=1)


CASES: list[tuple[Detector, tuple[int, int, int], str, float, int, int]] = [
    (Detector("scores", "sides", 4, 2.0, 0.3, 0.5, 16), (6, 5, 3), "dsp", 0.125, 8, 200),
    (Detector("scores", "sides", 8, 4.0, 0.0, 0.3, 5), (4, 7, 2), "scalar", 0.0625, 8, 6),
    (Detector("scores", "sides", 3, 1.0, 0.5, 0.9, 1), (1, 1, 1), "dsp", 0.25, 8, 3),
    (Detector("scores", "sides", 64, 64.0, 0.01, 0.4, 64), (9, 11, 2), "mve", 0.01, 4, 15),
    (Detector("scores", "sides", 5, 0.7, 0.2, 0.2, 9), (3, 1, 6), "dsp", 1.7, 8, 40),
    (Detector("scores", "sides", 4, 2.0, -9.0, 0.5, 8), (5, 4, 2), "dsp", 0.125, 16, 500),
]


def test_c_equals_the_reference(tmp_path: Any) -> None:
    rng, cases = np.random.default_rng(0), []
    for own, shape, isa, sides, bits, spread in CASES:
        program = maps(own, shape, isa, sides, bits)
        cases.append((program, codes_of(program, 8, rng, spread), None))
    for (program, codes, _), found in zip(cases, run_together_on_host(cases, tmp_path), strict=True):
        wanted = execute(program, codes)
        np.testing.assert_array_equal(found, wanted)
        rows = detections(program, wanted)
        assert rows is not None
        assert (rows[:, :, 0] >= 0).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_reference_is_what_real_numbers_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = Detector("scores", "sides", 8, 4.0, 0.25, 0.5, 12)
    program = maps(own, (7, 6, 3), sides=1 / 16)  # a quarter of a pixel: exact in 16ths
    codes = codes_of(program, 20, rng, 30)
    found = detections(program, execute(program, codes))
    assert found is not None
    scores = ((codes[:, : 7 * 6 * 3] + 128) / 256).reshape(20, 7, 6, 3).transpose(0, 3, 1, 2)
    sides = ((codes[:, 7 * 6 * 3 :] + 120) / 16).reshape(20, 7, 6, 4).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found, [decoded(own, *pair) for pair in zip(scores, sides, strict=True)])
    assert ((found[:, :, 0] >= 0).sum(axis=1) < 12).any()


def test_what_32_bits_do_not_hold() -> None:
    own = Detector("scores", "sides", 64, 4.0)
    assert maps(own, (9, 11, 2)).tensors["detections"].scale == 1 / 4  # 704 pixels
    with pytest.raises(UnsupportedError, match="at most 2896 pixels wide and high; it is 2944"):
        maps(own, (2, 46, 2))
    with pytest.raises(UnsupportedError, match=r"each code; from 2\^-16 to 8 are computed"):
        maps(replace(own, cell=4, unit=64.0), (4, 4, 2))
