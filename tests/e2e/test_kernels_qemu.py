"""Generated kernels on simulated cores against the independent oracle."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels import oracle
from kernels.programs import conv_op, lowered, program, random_codes, side_by_side, tensor
from kernels.strategies import conv_programs, depthwise_extremes, extreme_codes
from kernels.twin import run_twin
from tapc.base.ports import joined
from tapc.device.qemu import QemuDevice
from tapc.device.verify import device_inputs
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.ir.program import Op, Program
from tapc.kernels.packing import unpack_activations
from tapc.lower.fuse import fuse
from tapc.lower.reference import execute
from tapc.operators.add import Add
from tapc.operators.weighted import Conv
from thorough import thorough


@pytest.mark.parametrize(("board_name", "mode"), [
    ("stm32h7", ""), thorough("nrf52840dk", ""), ("pico", ""), ("mps3-an547", ""), ("hifive1", ""), ("pico", "tflite"),
    thorough("mps3-an547", "tflite"), thorough("nrf52840dk", "tflite"), thorough("nucleo-u575zi-q", ""),
])  # fmt: skip
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_chains_of_convolutions(board_name: str, mode: str, data: st.DataObject) -> None:
    """Four of them in one image, which takes half the time of four images."""
    target = load_target(load_board(board_name).core)
    chains = conv_programs(mode or target.requantize, target.isa, layers=4)
    check([data.draw(chains) for _ in range(4)], board_name)


@pytest.mark.parametrize("board_name", ["mps3-an547", *map(thorough, ("pico", "hifive1"))])
def test_depthwise_sums_at_the_ends_of_half_words(board_name: str) -> None:
    target = load_target(load_board(board_name).core)
    cases = depthwise_extremes(target.requantize, target.isa)
    check(cases, board_name, codes=[extreme_codes(p.tensors["x"]) for p in cases])


def test_neighbours_that_lie_far_apart() -> None:
    """Lanes along the columns of a wide image of many channels: eight codes span more than 16 bits can count."""
    rng = np.random.default_rng(0)
    x, y = tensor("x", (8, 70, 150), 8, rng), tensor("y", (8, 70, 150), 8, rng)
    check([program([conv_op(rng, x, y, (3, 3), (1, 1), (1,) * 4, 150, 8)], [x, y], "float", "mve")], "mps3-an547", 1)


def test_lanes_shift_both_ways_in_the_integers_of_tflite() -> None:
    """Factors far above and below 1, sums close to the ends of 32 bits, of channels and of neighbouring pixels."""
    rng = np.random.default_rng(3)
    x, y, z = (tensor(name, (4, 9, 8), 8, rng) for name in "xyz")
    layers = [
        conv_op(rng, x, y, (1, 1), (1, 1), (0,) * 4, 1, 8, "a"),
        conv_op(rng, y, z, (3, 3), (1, 1), (1,) * 4, 8, 8, "b"),
    ]
    steep = np.array([700, 3, 1, 0.5, 1e-3, 3e-5, 2e-7, 4e-8], np.float64)
    biases = np.array([3 << 20, 7, -9, 50, -(1 << 16), 1 << 21, -(1 << 29), (3 << 28) + (3 << 20)], np.int32)
    turned = (biases, biases[::-1].copy())
    ops: list[Op] = [replace(op, ratios=steep, bias=bias) for op, bias in zip(layers, turned, strict=True)]
    check([program(ops, [x, y, z], "tflite", "mve")], "mps3-an547")


@pytest.mark.parametrize("swapped", [False, True])
def test_residuals_on_lanes_in_the_integers_of_tflite(swapped: bool) -> None:
    rng = np.random.default_rng(swapped)
    x, c, y = (tensor(name, (4, 5, 8), 8, rng) for name in "xcy")
    conv = conv_op(rng, x, c, (3, 3), (1, 1), (1,) * 4, 1, 8)
    add = Add("add", ("x", "c") if swapped else ("c", "x"), "y", y.low, y.high)
    p = program([conv, add], [x, c, y], "tflite", "mve")
    fused = fuse(p)
    assert len(fused.ops) == 1
    codes = random_codes(x, 4, rng)
    (found,) = on_device(fused, codes, "mps3-an547")
    np.testing.assert_array_equal(found, execute(p, codes))


def test_eight_sums_of_few_fields_and_an_addition() -> None:
    """GCC 12.2 stops or never ends where it has to find registers for these sums itself, two tiles in one loop."""
    rng = np.random.default_rng(1)
    x, c, d, y = (
        tensor(n, (4, 5, size), 4 if n == "c" else 8, rng) for n, size in (("x", 6), ("c", 64), ("d", 64), ("y", 64))
    )
    ops: list[Op] = [
        conv_op(rng, x, c, (1, 1), (1, 1), (0,) * 4, 1, 8, "a"),
        conv_op(rng, x, d, (3, 3), (1, 1), (1,) * 4, 2, 2, "b"),
        Add("add", ("d", "c"), "y", y.low, y.high),
    ]
    p = program(ops, [x, c, d, y], "fixed", "mve")
    fused = fuse(p)
    assert len(fused.ops) == 2
    codes = random_codes(x, 4, rng)
    np.testing.assert_array_equal(on_device(fused, codes, "mps3-an547")[-1], execute(p, codes))


def check(
    chains: Sequence[Program], board_name: str, samples: int = 3, codes: list[NDArray[np.int64]] | None = None
) -> None:
    """Compare every layer of chains of convolutions with the oracle, on random codes unless some are given."""
    codes = codes or [random_codes(p.tensors["x"], samples, np.random.default_rng(1)) for p in chains]
    found = iter(on_device(side_by_side(chains), joined(codes), board_name))
    for p, values in zip(chains, codes, strict=True):
        for op in p.ops:
            assert isinstance(op, Conv)
            values = oracle.conv(p, op, values)
            np.testing.assert_array_equal(next(found), values)


def on_device(p: Program, codes: NDArray[np.int64], board_name: str) -> list[NDArray[np.int64]]:
    """Return each layer's codes."""
    network = lowered(p)
    board = load_board(board_name)
    if board.name == "hifive1":  # whose 16K hold few chains
        board = QemuDevice(load_target(board.core)).roomy_board()
    run = run_twin(network, board, device_inputs(network, codes), layers=len(codes))
    assert len(run.instructions_per_step) == len(p.ops)
    found = []
    for index, op in enumerate(p.ops):
        y = p.tensors[op.output]
        raw = np.stack([np.frombuffer(sample[index], np.uint8) for sample in run.layer_outputs])
        found.append(unpack_activations(raw, y.shape, y.bits))
    return found
