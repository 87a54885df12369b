"""Which parts of a network are computed in bands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lower.banded import Chain, chain
from tapc.cost.model import CostModel, load_coefficients
from tapc.cost.patches import fitting, least
from tapc.hardware.target import load_target
from tapc.ir.program import Program
from tapc.kernels.schedule import Schedule
from tapc.lower import scheduled
from tapc.lower.codes import random_codes
from tapc.lower.reference import execute
from tapc.lower.steps import steps_of
from tapc.operators.weighted import Conv

COST = CostModel(load_coefficients(load_target("cortex-m7").cost))


def bottleneck() -> Program:
    """Return two blocks of MobileNetV2: maps of 4 channels between which there are 24."""
    made = Chain(np.random.default_rng(0), 32, 32, 4)
    for channels, stride in ((4, 1), (8, 2)):
        for outputs, size, step, groups in ((24, 1, 1, 1), (24, 3, stride, 24), (channels, 1, 1, 1)):
            x, (height, width, inputs) = made.at, made.at.shape
            y = made.tensor((height // step, width // step, outputs), 8)
            weights = made.rng.integers(-8, 8, (outputs, size, size, 1 if groups > 1 else inputs)).astype(np.int8)
            ratios, bias = np.full(outputs, 0.01, np.float32), np.zeros(outputs, np.int32)
            pads, strides = (size // 2,) * 4, (step, step)
            conv = Conv(made.name, (x.name,), y.name, weights, 8, bias, ratios, strides, pads, groups, y.low, y.high)
            made.add(conv, y)
    return made.program()


def test_what_fits_is_left_as_it_is() -> None:
    program = bottleneck()
    plain = scheduled(program, None)
    found = fitting(program, plain.plan.size, COST)
    assert found.patches == ()
    assert found.program is program
    assert found.arena == plain.plan.size


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_a_limit_is_kept_at_the_least_instructions(share: float) -> None:
    program = bottleneck()
    plain = scheduled(program, None)
    limit = int(share * plain.plan.size)
    found = fitting(program, limit, COST)
    assert found.arena <= limit
    assert found.patches
    total = COST.total_instructions(steps_of(program))
    extra = COST.total_instructions(steps_of(found.program)) - total
    assert found.instructions == pytest.approx(extra, rel=0.01, abs=50)
    looser = fitting(program, int(limit * 1.3), COST)
    assert looser.instructions <= found.instructions
    codes = random_codes(program, 1, 0)
    assert np.array_equal(execute(found.program, codes), execute(program, codes))


def test_where_nothing_fits_the_least_is_told() -> None:
    program = bottleneck()
    found = fitting(program, 100, COST)
    assert 100 < found.arena < 0.4 * scheduled(program, None).plan.size
    again = fitting(program, found.arena, COST)
    assert again.arena <= found.arena
    assert "bands of" in str(found)


def test_more_than_it_is_worth_is_left() -> None:
    program = bottleneck()
    limit = fitting(program, 100, COST).arena
    assert fitting(program, limit, COST, most=1.0).patches
    assert fitting(program, limit, COST, most=0.0001).patches == ()


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.floats(0.3, 1.0))
@settings(deadline=None, max_examples=40)
def test_any_network_in_patches_computes_the_same(seed: int, length: int, share: float) -> None:
    program = chain(seed, length)
    size = scheduled(program, None).plan.size
    found = fitting(program, int(share * size), COST)
    assert found.arena <= size
    assert scheduled(found.program, None).plan.size == found.arena
    codes = random_codes(program, 1, seed % 100)
    assert np.array_equal(execute(found.program, codes), execute(program, codes))


def test_the_least_arena_is_what_nothing_fits_below() -> None:
    """Without a limit of instructions it is what a search below any arena ends at; with one, it is kept."""
    program = bottleneck()
    total = COST.total_instructions(steps_of(program))
    free = least(program, COST, lambda found: True)
    assert free.arena <= fitting(program, 100, COST).arena
    assert fitting(program, free.arena - 4, COST).arena >= free.arena
    bounded = least(program, COST, lambda found: found.instructions <= 0.02 * total)
    assert free.arena < bounded.arena < scheduled(program, None).plan.size
    assert bounded.instructions <= 0.02 * total < free.instructions
    assert least(program, COST, lambda found: False).patches == ()


def test_the_least_arena_with_less_scratch_memory() -> None:
    program = bottleneck()
    tiles = {op.name: Schedule(4, 1, 1) for op in program.ops if isinstance(op, Conv) and op.groups == 1}
    found = least(program, COST, lambda found: True, tiles)
    assert found.arena == scheduled(found.program, tiles).plan.size
    places = {f"scratch {i}": step.op for i, step in enumerate(steps_of(found.program, tiles))}
    sizes = {b.size for b in found.plan.buffers if b.name in places and places[b.name].name in tiles}
    assert sizes == {2 * 4, 2 * 24}  # int16 columns of one pixel, of layers that read 4 and 24 channels
