"""What is copied to fast memories: against every possible choice."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lower.test_place import CACHE, step
from tapc.hardware.board import Board, load_board
from tapc.ir.program import Program, Tensor
from tapc.lower.fast import Fast, choose_fast, fast_region, moved
from tapc.lower.place import constant_bytes, place

BOARD = load_board("stm32h7")
HZ = BOARD.clocks.cpu_hz


def rate(name: str) -> float:
    return BOARD.region(name).bandwidth.at(HZ)


def program(steps: int) -> Program:
    tensors = {name: Tensor(name, (1, 6, 8), 8, 1.0, 0) for name in "xy"}
    return Program("net", "float", tensors, (), ("x",), ("y",), "dsp")


def chosen(
    shapes: list[tuple[int, int]], sizes: list[int], arena: int, room: dict[str, int], most: int | None = None,
    board: Board = BOARD,
) -> tuple[Fast, float]:  # fmt: skip
    """Choose, and the most that any choice saves."""
    steps = [step(f"l{i}", words, side) for i, (words, side) in enumerate(shapes)]
    placed = place(steps, board, 1 << 20, CACHE, external=True)
    code = {own.spec: size for own, size in zip(steps, sizes, strict=True)}
    found = choose_fast(steps, program(len(steps)), placed, board, code, arena, room, most)
    specs = list(code)
    gains = {spec: code[spec] * sum(s.spec == spec for s in steps) * (1 / rate("flash") - 1 / rate("itcm"))
             for spec in specs}  # fmt: skip
    items = [(constant_bytes(s), p.fetched * (1 / rate("flash") - 1 / rate("dtcm")))
             for s, p in zip(steps, placed, strict=True)]  # fmt: skip
    items.append((arena, len(steps) * 2 * 48 * (1 / rate("axi_sram") - 1 / rate("dtcm"))))

    def best(pairs: list[tuple[int, float]], free: int) -> float:
        subsets = itertools.product([0, 1], repeat=len(pairs))
        fitting = (s for s in subsets if sum(k * size for k, (size, _) in zip(s, pairs, strict=True)) <= free)
        return max(sum(k * gain for k, (_, gain) in zip(s, pairs, strict=True)) for s in fitting)

    free = room["itcm"] if most is None else min(room["itcm"], most)
    wanted = best([(code[spec], gains[spec]) for spec in specs], free)
    left = most if most is None else most - sum(code[spec] for spec in found.functions)
    return found, wanted + best(items, room["dtcm"] if left is None else min(room["dtcm"], left))


sizes = st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 6)), min_size=1, max_size=5)


@settings(max_examples=25)
@given(
    sizes,
    st.integers(0, 20_000),
    st.integers(0, 6000),
    st.integers(1, 20_000),
    st.one_of(st.none(), st.integers(0, 20_000)),
)
def test_no_choice_saves_more(
    shapes: list[tuple[int, int]], dtcm: int, itcm: int, arena: int, most: int | None
) -> None:
    code = [500 + 700 * i for i in range(len(shapes))]
    found, best = chosen(shapes, code, arena, {"itcm": itcm, "dtcm": dtcm}, most)
    assert found.saved == pytest.approx(best, rel=1e-5, abs=1e-3)
    assert set(found.functions.values()) <= {"itcm"}
    assert set(found.constants.values()) <= {"dtcm"}
    assert found.arena in (None, "dtcm")


def test_what_is_copied_is_read_from_there() -> None:
    steps = [step("a", 100, 2), step("b", 200, 2)]
    placed = place(steps, BOARD, 1 << 20, CACHE, external=True)
    found = moved(placed, Fast(constants={1: "dtcm"}), BOARD)
    assert [own.region for own in found] == ["flash", "dtcm"]
    assert found[0] == placed[0]
    assert found[1].stalls == pytest.approx(found[1].fetched / 8)


def test_boards_without_fast_memories() -> None:
    for name in ("pico", "mps3-an547", "hifive1"):
        board = load_board(name)
        assert fast_region(board, "code", board.flash) is None
        assert fast_region(board, "arena", board.arena_region) is None
        assert fast_region(board, "weights", board.flash) is None
    instruction = fast_region(BOARD, "code", BOARD.flash)
    assert instruction is not None
    assert instruction.name == "itcm"
