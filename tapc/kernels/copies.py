"""Runs of bytes that are copied or filled as they are: sixteen at once, then words, then single bytes."""

from collections.abc import Callable
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.spec import Features

BLOCK, WORD = 16, 4


def copy_run(b: Body, target: Any, source: Any, count: int) -> None:
    """Copy `count` bytes of x from index `source` on to `target` of y, below it or elsewhere."""

    def some(size: int, at: Any) -> None:
        if size == 1:
            b.store(b["y"], target + at, b["x"][source + at])
        else:
            b.do(f"t_move{size}", b.address(b["y"], target + at), b.address(b["x"], source + at))

    _pieces(b, count, some)


def fill_run(b: Body, value: Any, count: int) -> None:
    """Fill the first `count` bytes of y, a multiple of four or few, with a code."""
    # In unsigned numbers: four times a code above 127 is no int32.
    word = b.bind(b.T.Cast("int32", b.T.Cast("uint32", b.T.bitwise_and(value, 255)) * b.T.Cast("uint32", 0x01010101)))

    def some(size: int, at: Any) -> None:
        if size == 1:
            b.store(b["y"], at, b.T.Cast("int8", value))
        else:
            b.do(f"t_set{size}", b.address(b["y"], at), word)

    _pieces(b, count, some)


def _pieces(b: Body, count: int, some: Callable[[int, Any], None]) -> None:
    blocks, rest = divmod(count, BLOCK)
    if blocks:
        with b.loop(blocks) as block:
            some(BLOCK, block * BLOCK)
    first = blocks * BLOCK
    for word in range(rest // WORD):
        some(WORD, first + word * WORD)
    for at in range(rest // WORD * WORD, rest):
        some(1, first + at)


def run_code(count: int) -> Features:
    """Return the parts of the machine code of runs of `count` bytes."""
    blocks, rest = divmod(count, BLOCK)
    return {
        "code_run_block": blocks > 0,
        "code_run_loop": blocks > 1,
        "code_run_word": rest // WORD,
        "code_run_byte": rest % WORD,
    }


def run_features(part: str, runs: float, count: int) -> Features:
    """Count the pieces of so many runs of `count` bytes."""
    blocks, rest = divmod(count, BLOCK)
    return {
        f"{part}_block": runs * blocks,
        # A loop of one turn is none.
        f"{part}_loop": runs * blocks if blocks > 1 else 0,
        f"{part}_word": runs * (rest // WORD),
        f"{part}_byte": runs * (rest % WORD),
        f"{part}_run": runs if runs > 1 else 0,
        f"{part}_start": 1,
    }
