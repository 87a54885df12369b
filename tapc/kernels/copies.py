"""Runs of bytes that are copied or filled as they are: sixteen at once, then words, then single bytes."""

from collections.abc import Callable, Iterable
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.spec import Features

BLOCK, WORD = 16, 4
SPELLED = 3  # runs at most


def of_words(offsets: Iterable[int | None]) -> bool:
    """Return whether bytes at so many from a tensor's first, and multiples of that, begin words; None is unknown.

    Tensors begin at words (`tapc.lower.plan`).
    """
    return all(offset is not None and offset % WORD == 0 for offset in offsets)


def copy_run(
    b: Body, target: Any, source: Any, count: int, *, words: bool, place: Callable[[Any], Any] | None = None
) -> None:
    """Copy `count` bytes of x from index `source` on to `target` of y, below it or elsewhere.

    Parameters
    ----------
    b : Body
    target, source : expression
    count : int
    words : bool
        Both begin at whole words.
    place : callable, optional
        Returns the address that a target has where that is not in y; of whole words alone.
    """
    piece, place = "movew" if words else "move", place or (lambda at: b.address(b["y"], at))

    def blocks(count: int) -> None:
        if words:
            b.do("t_movew16", place(target), b.address(b["x"], source), count)
            return
        with b.loop(count) as block:
            at = block * BLOCK
            b.do("t_move16", place(target + at), b.address(b["x"], source + at))

    def some(size: int, at: int) -> None:
        if size == 1:
            b.store(b["y"], target + at, b["x"][source + at])
        else:
            b.do(f"t_{piece}4", place(target + at), b.address(b["x"], source + at))

    _pieces(count, blocks, some)


def filling(b: Body, value: Any) -> Any:
    """Return a word of four times a code, for `fill_run`."""
    # In unsigned numbers: four times a code above 127 is no int32.
    return b.bind(b.T.Cast("int32", b.T.Cast("uint32", b.T.bitwise_and(value, 255)) * b.T.Cast("uint32", 0x01010101)))


def fill_run(b: Body, target: Any, word: Any, count: int, *, words: bool) -> None:
    """Fill `count` bytes of y from index `target` on, a whole word's first byte or not, with a word's."""
    piece = "setw" if words else "set"

    def blocks(count: int) -> None:
        with b.loop(count) as block:
            b.do(f"t_{piece}16", b.address(b["y"], target + block * BLOCK), word)

    def some(size: int, at: int) -> None:
        if size == 1:
            b.store(b["y"], target + at, b.T.Cast("int8", word))
        else:
            b.do(f"t_{piece}4", b.address(b["y"], target + at), word)

    _pieces(count, blocks, some)


def _pieces(count: int, blocks: Callable[[int], None], some: Callable[[int, int], None]) -> None:
    whole, rest = divmod(count, BLOCK)
    if whole:
        blocks(whole)
    first = whole * BLOCK
    for word in range(rest // WORD):
        some(WORD, first + word * WORD)
    for at in range(rest // WORD * WORD, rest):
        some(1, first + at)


def run_code(part: str, count: int, *, words: bool) -> Features:
    """Return the parts of the machine code of runs of `count` bytes."""
    blocks, rest = divmod(count, BLOCK)
    key = f"code_{part}{'w' if words else ''}"
    return {
        f"{key}_block": blocks > 0,
        f"{key}_loop": blocks > 1,
        f"{key}_word": rest // WORD,
        f"{key}_byte": rest % WORD,
    }


def run_features(part: str, runs: float, count: int, *, words: bool) -> Features:
    """Count the pieces of so many runs of `count` bytes."""
    blocks, rest = divmod(count, BLOCK)
    key = f"{part}{'w' if words else ''}"
    # A few of a word or two are spelled out.
    spelled = not blocks and runs <= SPELLED and runs * (rest // WORD + rest % WORD) <= 2 * SPELLED
    return {
        f"{key}_block": runs * blocks,
        # A loop of one turn is none.
        f"{part}_loop": runs if blocks > 1 else 0,
        f"{key}_word": runs * (rest // WORD),
        f"{key}_byte": runs * (rest % WORD),
        f"{part}_run": 0 if spelled else runs if runs > 1 else 0,
    }
