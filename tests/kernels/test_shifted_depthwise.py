"""Depthwise layers of large ratios: sums 256 times as large are requantized in two instructions, to the same codes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels import oracle
from kernels.programs import conv_op, lowered, program, random_codes, run_together_on_host, side_by_side, tensor
from kernels.twin import run_twin
from tapc.base.arithmetic.smm import shift_of
from tapc.base.ports import joined
from tapc.device.verify import device_inputs
from tapc.hardware.board import load_board
from tapc.ir.program import Program
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.packing import unpack_activations
from tapc.operators.weighted import Conv


def layers() -> list[Program]:
    """Return layers with ratios of a quarter to a half; weights of 8 bits reach -128, which still fits 16 bits."""
    programs = []
    for number, (w_bits, size, stride) in enumerate(((8, 3, 1), (4, 3, 1), (2, 3, 2), (4, 1, 1))):
        rng = np.random.default_rng(number)
        side = (6 + stride - 1) // stride
        x, y = tensor("x", (6, 6, 5), 8, rng), tensor("y", (side, side, 5), 8, rng)
        op = conv_op(rng, x, y, (size, size), (stride, stride), (size // 2,) * 4, 5, w_bits)
        op = replace(op, ratios=rng.uniform(0.26, 0.5, 5).astype(np.float32), bias=np.zeros_like(op.bias))
        programs.append(program([op], [x, y]))
    return programs


def test_sums_are_larger_and_codes_the_same(tmp_path: Path) -> None:
    cases = [(p, random_codes(p.tensors["x"], 4, np.random.default_rng(1)), {}) for p in layers()]
    specs = [lowered(p).steps[0].spec for p, *_ in cases]
    assert all(isinstance(spec, DepthwiseSpec) and spec.shift == 8 and shift_of(spec.quick) for spec in specs)
    for (p, x, _), y in zip(cases, run_together_on_host(cases, tmp_path), strict=True):
        (op,) = p.ops
        assert isinstance(op, Conv)
        np.testing.assert_array_equal(y, oracle.conv(p, op, x))


def test_small_ratios_need_none() -> None:
    (op,) = (p := layers()[0]).ops
    assert isinstance(op, Conv)
    for ratio in np.linspace(0.001, 0.003, 20, dtype=np.float32):
        small = p.with_ops((replace(op, ratios=np.full(5, ratio)),))
        spec = lowered(small).steps[0].spec
        assert isinstance(spec, DepthwiseSpec)
        if spec.shift == 0 and shift_of(spec.quick):
            return
    pytest.fail("none of these ratios has two instructions")


@pytest.mark.parametrize("board_name", ["stm32h7", "nrf52840dk"])
def test_on_cores(board_name: str) -> None:
    programs = layers()
    codes = [random_codes(p.tensors["x"], 3, np.random.default_rng(2)) for p in programs]
    network = lowered(side_by_side(programs), {})
    run = run_twin(network, load_board(board_name), device_inputs(network, joined(codes)), layers=len(codes[0]))
    for index, (p, x) in enumerate(zip(programs, codes, strict=True)):
        (op,) = p.ops
        assert isinstance(op, Conv)
        raw = np.stack([np.frombuffer(sample[index], np.uint8) for sample in run.layer_outputs])
        np.testing.assert_array_equal(unpack_activations(raw, p.tensors["y"].shape, 8), oracle.conv(p, op, x))
