"""Generated kernels on simulated Cortex-M cores against the independent oracle."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernels import oracle
from kernels.programs import lowered, random_codes
from kernels.strategies import conv_programs

from tapc.board import load_board
from tapc.device import QemuRunner
from tapc.firmware import build_firmware
from tapc.kernels.packing import pack_activations, unpack_activations
from tapc.lower.program import Conv
from tapc.target import load_target


@pytest.mark.parametrize("board_name", ["stm32h7", "nrf52840dk", "pico", "mps3-an547"])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_chains_of_convolutions(board_name: str, data: st.DataObject) -> None:
    board = load_board(board_name)
    target = load_target(board.core)
    program = data.draw(conv_programs(target.requantize, target.isa, layers=4))
    network = lowered(program)
    codes = random_codes(program.tensors["x"], 3, np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lib").mkdir()
        network.library().write(folder / "lib")
        images = build_firmware(folder / "lib", board, target, folder, work=folder / "work")
        inputs = np.stack([pack_activations(c, program.tensors["x"].bits).ravel() for c in codes]).view(np.int8)
        run = QemuRunner().run(images.twin, target, inputs, layers=len(codes))
    values = codes
    for index, op in enumerate(program.ops):
        assert isinstance(op, Conv)
        values = oracle.conv(program, op, values)
        y = program.tensors[op.output]
        raw = np.stack([np.frombuffer(sample[index], np.uint8) for sample in run.layer_outputs])
        np.testing.assert_array_equal(unpack_activations(raw, y.shape, y.bits), values)
    assert len(run.instructions_per_step) == len(program.ops)
