"""Columns and products of weights of which two share a half-word; see `tapc.kernels.nested`.

Words are loaded one by one. On a core that issues two instructions at once (Cortex-M7) a load or an unpacking stands
right before each product. On another (Cortex-M4) loads that follow each other take a cycle each, and the first of
them one more, but each LDRD three: there all words of four taps are loaded in turn.
"""

from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.halves import join
from tapc.kernels.nested import LEAD
from tapc.kernels.schedule import Schedule

BEYOND = 4
"""Words of weights, and of the columns, that are loaded ahead beyond the last and not used, at most."""
AHEAD = {
    (2, 2): ("w1", "t3", "x0", "t0+", "x1", "t1+", "w0+", "t2+"),
    (4, 1): ("w3", "t1", "x0", "x1", "t0+ x2", "x3", "w0+", "w1+ w2+"),
    (2, 1): ("w1", "t1", "t0+ x0", "x1 w0+"),
}
"""Channels and pixels of a tile -> what stands before each product of four taps, those of u first.

`w1`: load the word of channel 1, `t3`: that of the columns, `x0`: unpack; with a plus, of the next four taps.
"""
_OFFSET = join(-LEAD, -LEAD)
_TOP = join(-256, -256)


def outer_of_bytes(b: Body, word: Any) -> Any:
    """Return u of the even bytes of a word of codes."""
    return b.call("t_sxtab16", _OFFSET, word)


def inner_of_bytes(b: Body, word: Any, outer: Any) -> Any:
    """Return t of the odd bytes."""
    return b.call("t_ssub16", b.call("t_top_fields", _TOP, word, 0), outer)


def outer(b: Body, pair: Any) -> Any:
    """Return u of a pair of codes."""
    return b.call("t_sadd16", pair, _OFFSET)


def inner(b: Body, pair: Any, outer: Any) -> Any:
    """Return t of a pair of codes."""
    return b.call("t_ssub16", b.call("t_top_fields", _TOP, pair, 8), outer)


class Products:
    """The products of one tile.

    Parameters
    ----------
    b : Body
    schedule : Schedule
    acc : array
        Accumulators: [channel][pixel].
    start : expression
        First word of the tile's weights.
    """

    def __init__(self, b: Body, schedule: Schedule, acc: Any, start: Any) -> None:
        self.b, self.schedule, self.acc, self.start = b, schedule, acc, start
        rows, pixels = schedule.rows, schedule.pixels
        self._words = {"w": b.array("weights", rows), "t": b.array("taps", 2 * pixels)}
        self._base: dict[str, Any] = {}
        self._each = {"w": rows, "t": 2 * pixels}
        self._order = [(pair, row, j) for pair in range(2) for row in range(rows) for j in range(pixels)]
        if schedule.single:
            self._plan = [entry.split() for entry in AHEAD[rows, pixels]]
        else:
            loads = [f"{kind}{i}" for kind, count in self._each.items() for i in range(count)]
            unpacked = {len(self._order) // 2 + row * pixels: [f"x{row}"] for row in range(rows)}
            self._plan = [loads if i == 0 else unpacked.get(i, []) for i in range(len(self._order))]

    def emit(self, words: int) -> None:
        """Multiply so many words of each channel."""
        unroll = self.schedule.unroll
        if self.schedule.single or words <= unroll:
            self._point(0)
        for what in (what for entry in self._plan for what in entry if what.endswith("+")):
            self._do(what, -1)
        if words <= unroll:
            for word in range(words):
                self._word(word, ahead=word + 1 < words)
            return
        with self.b.loop(words // unroll) as outer:
            self._point(outer * unroll)
            for word in range(unroll):
                self._word(word, ahead=True)
        rest = words % unroll
        if rest:
            self._point(words - rest)
        for word in range(rest):
            self._word(word, ahead=word + 1 < rest)

    def _point(self, word: Any) -> None:
        b, first = self.b, {"w": self.start, "t": 0}
        for kind, name in (("w", "w"), ("t", "col")):
            self._base[kind] = b.bind(b.address(b[name], first[kind] + word * self._each[kind]))

    def _word(self, word: int, *, ahead: bool) -> None:
        """Multiply a word of each channel; `ahead`: others follow."""
        pixels = self.schedule.pixels
        for entry, (pair, row, j) in zip(self._plan, self._order, strict=True):
            for what in entry:
                if ahead or not what.endswith("+"):
                    self._do(what, word)
            b, at = self.b, row * pixels + j
            weights, taps = self._words["w"][row], self._words["t"][pair * pixels + j]
            b.store(self.acc, at, b.call("t_smlad", weights, taps, self.acc[at]))

    def _do(self, what: str, word: int) -> None:
        b, kind, index, word = self.b, what[0], int(what[1]), word + what.endswith("+")
        if kind == "x":
            b.store(self._words["w"], index, b.call("t_sxtb16", self._words["w"][index]))
        else:
            offset = word * self._each[kind] + index
            b.store(self._words[kind], index, b.call("t_load1", self._base[kind], offset))
