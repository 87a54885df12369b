"""Products whose words are loaded one by one, ahead of them: the same codes, nothing read that is not there."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kernels import oracle
from kernels.programs import conv_op, lowered, program, random_codes, run_together_on_host, side_by_side, tensor
from kernels.strategies import conv_programs
from kernels.twin import run_twin
from tapc.base.ports import joined
from tapc.device.verify import device_inputs
from tapc.hardware.board import load_board
from tapc.ir.program import Program
from tapc.kernels.conv import ConvSpec
from tapc.kernels.dsp.conv import DspConv
from tapc.kernels.packing import unpack_activations
from tapc.kernels.schedule import Schedule
from tapc.operators.weighted import Conv


def schedule(p: Program) -> dict[str, Schedule]:
    """Return the default schedule, with words loaded one by one."""
    (step,) = lowered(p).steps
    assert isinstance(step.spec, ConvSpec)
    return {p.ops[0].name: replace(step.spec.form.schedule, single=True)}


def is_ahead(p: Program) -> bool:
    (step,) = lowered(p).steps
    if not isinstance(step.spec, ConvSpec):
        return False
    (step,) = lowered(p, schedule(p)).steps
    assert isinstance(step.spec, ConvSpec)
    return isinstance(step.spec.form, DspConv) and step.spec.form.single


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.reuse, Phase.generate))
@given(st.lists(conv_programs("float", "dsp").filter(is_ahead), min_size=10, max_size=10))
def test_any_shape(tmp_path_factory: pytest.TempPathFactory, programs: list[Program]) -> None:
    codes = [random_codes(p.tensors["x"], 3, np.random.default_rng(1)) for p in programs]
    cases = [(p, x, schedule(p)) for p, x in zip(programs, codes, strict=True)]
    for (p, x, _), y in zip(cases, run_together_on_host(cases, tmp_path_factory.mktemp("host")), strict=True):
        op = p.ops[0]
        assert isinstance(op, Conv)
        np.testing.assert_array_equal(y, oracle.conv(p, op, x))


@pytest.mark.parametrize("board_name", ["stm32h7", "nrf52840dk"])
def test_on_cores(board_name: str) -> None:
    rng = np.random.default_rng(0)
    programs = []
    for w_bits, depth, size in ((8, 16, 3), (8, 3, 3), (4, 16, 3), (2, 32, 1), (8, 64, 1)):
        x, y = tensor("x", (5, 6, depth), 8, rng), tensor("y", (5, 6, 6), 8, rng)
        op = conv_op(rng, x, y, (size, size), (1, 1), (size // 2,) * 4, 1, w_bits)
        programs.append(program([replace(op, bias=np.zeros_like(op.bias))], [x, y]))
    assert all(map(is_ahead, programs))
    codes = [random_codes(p.tensors["x"], 3, rng) for p in programs]
    together = side_by_side(programs)
    schedules = {op.name: schedule(p)[p.ops[0].name] for op, p in zip(together.ops, programs, strict=True)}
    network = lowered(together, schedules)
    run = run_twin(network, load_board(board_name), device_inputs(network, joined(codes)), layers=3)
    for index, (p, x) in enumerate(zip(programs, codes, strict=True)):
        op = p.ops[0]
        assert isinstance(op, Conv)
        raw = np.stack([np.frombuffer(sample[index], np.uint8) for sample in run.layer_outputs])
        np.testing.assert_array_equal(unpack_activations(raw, p.tensors["y"].shape, 8), oracle.conv(p, op, x))
