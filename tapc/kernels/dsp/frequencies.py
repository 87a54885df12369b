"""Winograd's inner part with SMLAD: two tiles' inputs as frequencies, and their products with the weights'."""

import functools
from collections.abc import Callable
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.dsp.pairs import REACH, load2
from tapc.kernels.tiles import TILES
from tapc.kernels.winograd import Transform


def input_transform(b: Body, transform: Transform, depth: int, line: int, inputs: int, pair: Any) -> None:
    """Transform the inputs of a pair of tiles.

    Parameters
    ----------
    b : Body
    transform : Transform
    depth : int
        Bytes of a pixel of the copied lines.
    line : int
        Bytes of a line.
    inputs : int
        Word of the scratch memory where the frequencies go: [row][column][four channels][0 and 2, or 1 and 3][tile].
    pair : expression
        Which pair of tiles.
    """
    make = _of_line if transform.flat else _of_two if transform.size == 2 else _of_four
    with b.loop(depth // 4) as quad:
        start = pair * (TILES * transform.size * depth) + quad * 4
        source = b.bind(b.call("t_at", b.address(b["col"], 0), start, dtype="handle"))
        for half in range(2):

            def load(row: int, column: Any, half: int = half) -> Any:
                word = b.call("t_load32", b.call("t_at", source, row * line + column * depth, dtype="handle"))
                return b.call("t_sxtb16_ror8" if half else "t_sxtb16", word)

            make(b, transform, depth, load, inputs + quad * 4 + half * 2)


def _of_two(b: Body, transform: Transform, depth: int, load: Callable[[int, Any], Any], first: Any) -> None:
    """Transform one pair of channels for F(2x2, 3x3)."""
    d, t, at = b.array("d", 4), b.array("t", 24), transform.order.index
    target = b.bind(b.address(b["col"], first))

    def put(row: int, column: int, tile: int, value: Any) -> None:
        b.do("t_storew", target, (at(row) * 4 + at(column)) * depth + tile, value)

    for column in range(6):
        for row in range(4):
            b.store(d, row, load(row, column))
        for row, (name, left, right) in enumerate(_ROWS):
            b.store(t, 4 * column + row, b.call(name, d[left], d[right]))
        tile = column // 2 - 1
        for row in range(4):
            before = [t[4 * (column - i) + row] for i in range(3)] if column > 1 else []
            if column in (2, 4):
                put(row, 0, tile, b.call("t_ssub16", before[2], before[0]))
                put(row, 1, tile, b.call("t_sadd16", before[1], before[0]))
                put(row, 2, tile, b.call("t_ssub16", before[0], before[1]))
            elif column in (3, 5):
                put(row, 3, tile, b.call("t_ssub16", before[2], before[0]))


_ROWS = (("t_ssub16", 0, 2), ("t_sadd16", 1, 2), ("t_ssub16", 2, 1), ("t_ssub16", 1, 3))
"""What frequencies of F(2x2, 3x3) are made of four inputs."""


def _of_four(b: Body, transform: Transform, depth: int, load: Callable[[int, Any], Any], first: Any) -> None:
    """Transform one pair of channels for F(4x4, 3x3): columns, then the rows of both tiles."""
    d, t, at = b.array("d", 6), b.array("t", 60), transform.order.index
    with b.loop(10) as column:
        for row in range(6):
            b.store(d, row, load(row, column))
        _six(b, d, lambda k, value: b.store(t, column * 6 + at(k), value), doubled=False)
    for tile in range(TILES):
        with b.loop(6) as row:
            e = b.array("e", 6)
            for k in range(6):
                b.store(e, k, t[(4 * tile + k) * 6 + row])
            target = b.bind(b.address(b["col"], first + row * (6 * depth) + tile))
            put = functools.partial(_store, b, target, lambda k: at(k) * depth)
            _six(b, e, put, doubled=True)


def _of_line(b: Body, transform: Transform, depth: int, load: Callable[[int, Any], Any], first: Any) -> None:
    """Transform one pair of channels for F(4, 3) or F(2, 5)."""
    at, d = transform.order.index, b.array("d", transform.size + 6)
    for column in range(transform.size + 6):
        b.store(d, column, load(0, column))
    for tile in range(TILES):
        e = [d[tile * transform.size + k] for k in range(6)]
        target = b.bind(b.address(b["col"], first + tile))
        _six(b, e, functools.partial(_store, b, target, lambda k: at(k) * depth), doubled=True)


def _store(b: Body, target: Any, place: Callable[[int], int], k: int, value: Any) -> None:
    b.do("t_storew", target, place(k), value)


def _six(b: Body, d: Any, put: Callable[[int, Any], None], *, doubled: bool) -> None:
    """Make six frequencies of six inputs for F(4x4, 3x3); `doubled`: the last one is."""

    def plus(left: Any, right: Any) -> Any:
        return b.call("t_sadd16", left, right)

    def minus(left: Any, right: Any) -> Any:
        return b.call("t_ssub16", left, right)

    v = b.array("v", 5)
    b.store(v, 0, minus(d[4], d[2]))
    b.store(v, 1, minus(d[3], d[1]))
    b.store(v, 1, plus(v[1], v[1]))
    put(3, plus(v[0], v[1]))
    put(4, minus(v[0], v[1]))
    b.store(v, 1, plus(v[1], v[1]))
    b.store(v, 2, minus(minus(d[5], d[3]), v[1]))
    put(5, plus(v[2], v[2]) if doubled else v[2])
    b.store(v, 2, minus(d[0], d[2]))
    b.store(v, 2, plus(v[2], v[2]))
    put(0, plus(plus(v[2], v[2]), v[0]))
    b.store(v, 3, plus(d[2], d[2]))
    b.store(v, 3, minus(d[4], plus(v[3], v[3])))
    b.store(v, 4, plus(d[1], d[1]))
    b.store(v, 4, minus(d[3], plus(v[4], v[4])))
    put(1, plus(v[3], v[4]))
    put(2, minus(v[3], v[4]))


class Products:
    """The sums over all input channels of a block of two output channels, two tiles and all frequencies.

    Parameters
    ----------
    b : Body
    transform : Transform
    depth : int
        Input channels.
    unrolled : int
        Pairs of them that are spelled out.
    weights : callable
        Returns the address of a word of the weights' frequencies.
    single : bool
        Words are loaded one by one between the products of the pair before, for cores that issue a load and a product
        at once (Cortex-M7), not two by two.
    """

    def __init__(
        self, b: Body, transform: Transform, depth: int, unrolled: int, weights: Callable[[Any], Any], *, single: bool
    ) -> None:
        self.b, self.transform, self.depth = b, transform, depth
        self.unrolled, self.single, self.weights = unrolled, single, weights
        self._weights: Any = None
        self._inputs: Any = None
        self._words: Any = None
        self._start: tuple[Any, Any] = (0, 0)
        self._place = 0
        self._turn = False

    def emit(self, block: Any, inputs: int) -> Any:
        """Return the sums, of which the columns are transformed back: [row][column's output][channel][tile]."""
        b, n, size = self.b, self.transform.frequencies, self.transform.size
        sums = b.array("rows", self.transform.lines * 4 * size)
        with b.loop(self.transform.lines) as i:
            self._words = b.array("words", 6)
            row = n * self.depth
            self._start = (block * self.transform.lines + i) * row, inputs + i * row
            self._turn = False
            if self.single or self.unrolled == self.depth // 2:
                self._point(0)
            if self.single:
                self._load_first()
            m, q = b.array("m", 4), b.array("n", 4)

            def keep(acc: Any, output: int) -> None:
                for k in range(0, 4, 2):
                    at = b.address(sums, i * (4 * size) + 4 * output + k)
                    b.do("t_store2", at, acc[k], acc[k + 1])

            self._frequency(m, 0, fresh=True)
            self._frequency(q, 1, fresh=True)
            self._cross(m, q)
            if n == 4:
                self._frequency(m, 2, fresh=False)
                keep(m, 0)
                self._frequency(q, 3, fresh=False)
                keep(q, 1)
            else:
                even, odd = b.array("even", 4), b.array("odd", 4)
                for k in range(4):
                    b.store(even, k, m[k])
                    b.store(odd, k, q[k])
                self._frequency(m, 2, fresh=True)
                self._frequency(q, 3, fresh=True)
                self._cross(m, q)
                second, third = (b.array(name, 4) if size == 4 else None for name in ("second", "third"))
                for k in range(4):
                    if size == 4:
                        b.store(second, k, b.call("t_waddl", odd[k], q[k], 1))
                        b.store(third, k, b.call("t_waddl", even[k], m[k], 2))
                    b.store(m, k, b.call("t_wadd", even[k], m[k]))
                    b.store(q, k, b.call("t_waddl", odd[k], q[k], size - 1))
                if size == 4:
                    keep(second, 1)
                    keep(third, 2)
                self._frequency(m, 4, fresh=False)
                keep(m, 0)
                self._frequency(q, 5, fresh=False)
                keep(q, size - 1)
        return sums

    def _cross(self, m: Any, q: Any) -> None:
        """Replace m and q by their sum and their difference."""
        b = self.b
        for k in range(4):
            total = b.bind(b.call("t_wadd", m[k], q[k]))
            b.store(q, k, b.call("t_wsub", m[k], q[k]))
            b.store(m, k, total)

    def _point(self, words: Any) -> None:
        """Let the pointers be so many words behind the row's first."""
        b, (weights, inputs) = self.b, self._start
        self._weights = b.bind(self.weights(weights + words))
        self._inputs = b.bind(b.address(b["col"], inputs + words))
        self._place = words

    def _frequency(self, acc: Any, index: int, *, fresh: bool) -> None:
        """Add the products of a frequency to the accumulators, which hold nothing yet where they are `fresh`."""
        b, pairs, first = self.b, self.depth // 2, index * self.depth
        if pairs == self.unrolled:
            if first + self.depth + 2 - self._place > REACH:
                self._point(first)
            for k in range(pairs):
                last = index == self.transform.frequencies - 1 and k == pairs - 1
                self._step(acc, first + 2 * k - self._place, fresh=fresh and k == 0, last=last)
            return
        if fresh:
            for k in range(4):
                b.store(acc, k, 0)
        with b.loop(pairs // self.unrolled) as k:
            self._point(first + k * (2 * self.unrolled))
            for j in range(self.unrolled):
                self._step(acc, 2 * j, fresh=False, last=False)

    def _step(self, acc: Any, offset: int, *, fresh: bool, last: bool) -> None:
        """Multiply a pair of input channels: two output channels by two tiles."""
        if self.single:
            self._one_by_one(acc, offset, fresh=fresh, last=last)
            return
        b, words = self.b, self._words
        load2(b, self._weights, offset, b.address(words, 0))
        load2(b, self._inputs, offset, b.address(words, 2))
        for k in range(4):
            self._multiply(acc, k, words[k // 2], words[2 + k % 2], fresh=fresh)

    def _multiply(self, acc: Any, k: int, weights: Any, inputs: Any, *, fresh: bool) -> None:
        b = self.b
        value = b.call("t_smuad", weights, inputs) if fresh else b.call("t_smlad", weights, inputs, acc[k])
        b.store(acc, k, value)

    def _load(self, word: int, source: Any, offset: int) -> None:
        self.b.store(self._words, word, self.b.call("t_load1", source, offset))

    def _load_first(self) -> None:
        """Load the first pair of a row."""
        for word, source, offset in ((0, self._weights, 0), (2, self._inputs, 0), (5, self._inputs, 1),
                                     (4, self._weights, 1)):  # fmt: skip
            self._load(word, source, offset)

    def _one_by_one(self, acc: Any, offset: int, *, fresh: bool, last: bool) -> None:
        """Multiply what is loaded, and load the next pair in between; the first words of each take turns."""
        words, turn = self._words, int(self._turn)
        plan = (
            (0, turn, 2 + turn, 1 - turn, self._weights, 2),
            (1, turn, 5, 3 - turn, self._inputs, 2),
            (3, 4, 5, 5, self._inputs, 3),
            (2, 4, 2 + turn, 4, self._weights, 3),
        )
        for k, weights, inputs, word, source, ahead in plan:
            self._multiply(acc, k, words[weights], words[inputs], fresh=fresh)
            if not last:
                self._load(word, source, offset + ahead)
        self._turn = not self._turn
