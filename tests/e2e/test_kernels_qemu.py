"""Generated kernels on simulated Cortex-M cores against the independent oracle."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernels import oracle
from kernels.programs import conv_op, lowered, program, random_codes, tensor
from kernels.strategies import conv_programs

from tapc.device import device_for
from tapc.firmware import build_firmware
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.ir.program import Program
from tapc.kernels.packing import pack_activations, unpack_activations
from tapc.operators.weighted import Conv


@pytest.mark.parametrize("board_name", ["stm32h7", "nrf52840dk", "pico", "mps3-an547"])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_chains_of_convolutions(board_name: str, data: st.DataObject) -> None:
    board = load_board(board_name)
    target = load_target(board.core)
    check(data.draw(conv_programs(target.requantize, target.isa, layers=4)), board_name)


def test_neighbours_that_lie_far_apart() -> None:
    """Lanes along the columns of a wide image of many channels: eight codes span more than 16 bits can count."""
    rng = np.random.default_rng(0)
    x, y = tensor("x", (8, 70, 150), 8, rng), tensor("y", (8, 70, 150), 8, rng)
    check(program([conv_op(rng, x, y, (3, 3), (1, 1), (1,) * 4, 150, 8)], [x, y], "float", "mve"), "mps3-an547", 1)


def check(p: Program, board_name: str, samples: int = 3) -> None:
    """Compare every layer of a chain of convolutions with the oracle."""
    board = load_board(board_name)
    target = load_target(board.core)
    network = lowered(p)
    codes = random_codes(p.tensors["x"], samples, np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lib").mkdir()
        network.library().write(folder / "lib")
        images = build_firmware(folder / "lib", board, target, folder, work=folder / "work")
        inputs = np.stack([pack_activations(c, p.tensors["x"].bits).ravel() for c in codes]).view(np.int8)
        run = device_for(target).load(images).run(inputs, layers=len(codes))
    values = codes
    for index, op in enumerate(p.ops):
        assert isinstance(op, Conv)
        values = oracle.conv(p, op, values)
        y = p.tensors[op.output]
        raw = np.stack([np.frombuffer(sample[index], np.uint8) for sample in run.layer_outputs])
        np.testing.assert_array_equal(unpack_activations(raw, y.shape, y.bits), values)
    assert len(run.instructions_per_step) == len(p.ops)
