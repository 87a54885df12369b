"""Which region a layer's constants get: against every possible placement."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapc.base.errors import BudgetError
from tapc.hardware.board import Board, load_board
from tapc.ir.program import Constant, Op, Step
from tapc.kernels.conv import ConvSpec
from tapc.kernels.elementwise import SoftmaxSpec
from tapc.kernels.layout import Plane
from tapc.kernels.window import Window
from tapc.lower.place import fetched_bytes, outside_steps, place

BOARD = load_board("stm32h7")
CACHE = 16 << 10


def step(name: str, words: int, side: int) -> Step:
    """A 1 x 1 convolution over side x side pixels whose weights take so many words."""
    channels = 8
    plane = Plane(side, side, channels, 8)
    spec = ConvSpec(plane, plane, Window(1, 1, 1, 1, 0, 0), 1, 8, "float")
    constant = Constant("w", words, lambda: np.zeros(words, np.uint32))
    return Step(Op(name, ("x",), "y"), spec, {"x": "x", "y": "y"}, {"w": constant})


def stalls(steps: list[Step], inside: tuple[bool, ...], board: Board) -> float:
    """Predicted stall cycles of a placement."""
    hz = board.clocks.cpu_hz
    outside = board.external_flash
    assert outside is not None
    rates = {True: board.flash.bandwidth.at(hz), False: outside.bandwidth.at(hz)}
    return sum(fetched_bytes(s, CACHE) / rates[where] for s, where in zip(steps, inside, strict=True))


sizes = st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 6)), min_size=1, max_size=6)


@given(sizes, st.integers(0, 100_000))
def test_no_placement_stalls_less(shapes: list[tuple[int, int]], room: int) -> None:
    steps = [step(f"l{i}", words, side) for i, (words, side) in enumerate(shapes)]
    placed = place(steps, BOARD, room, CACHE, external=True)
    inside = tuple(p.region == "flash" for p in placed)
    bytes_ = [p.bytes for p in placed]
    assert sum(b for b, where in zip(bytes_, inside, strict=True) if where) <= room
    possible = [
        stalls(steps, choice, BOARD)
        for choice in itertools.product([False, True], repeat=len(steps))
        if sum(b for b, where in zip(bytes_, choice, strict=True) if where) <= room
    ]
    assert stalls(steps, inside, BOARD) <= min(possible) * (1 + 1e-5) + 1e-6
    assert sum(p.stalls for p in placed) == pytest.approx(stalls(steps, inside, BOARD))
    if sum(bytes_) <= room:
        assert all(inside)
        assert not outside_steps(placed, BOARD)


def test_weights_are_read_once_per_tile_unless_the_cache_holds_them() -> None:
    small, large = step("a", 2000, 8), step("b", 2100, 8)
    assert fetched_bytes(small, CACHE) == 8000
    spec = large.spec
    assert isinstance(spec, ConvSpec)
    assert fetched_bytes(large, CACHE) == 8400 * -(-64 // spec.form.schedule.pixels)
    assert fetched_bytes(small, 0) > 8000


def test_what_fits_neither_is_refused() -> None:
    tiny = BOARD.model_copy(
        update={
            "memory": tuple(r.model_copy(update={"size": 4096}) if r.name == "qspi_flash" else r for r in BOARD.memory)
        }
    )
    with pytest.raises(
        BudgetError, match=r"40000 bytes, 5096 are free for them in flash and qspi_flash, 34904 too few"
    ):
        place([step("big", 10_000, 2)], tiny, 1000, CACHE, external=True)


def test_without_external_flash_everything_is_inside() -> None:
    steps = [step("big", 10_000, 2)]
    assert [p.region for p in place(steps, BOARD, 1000, CACHE, external=False)] == ["flash"]
    assert [p.region for p in place(steps, load_board("pico"), 1000, 0, external=True)] == ["flash"]


def test_steps_without_weights_read_their_tables_once() -> None:
    table = Constant("t", 256, lambda: np.zeros(256, np.uint32))
    spec: Any = SoftmaxSpec.__new__(SoftmaxSpec)
    assert fetched_bytes(Step(Op("s", ("x",), "y"), spec, {}, {"t": table}), CACHE) == 1024
