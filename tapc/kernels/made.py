"""Frequencies of weights that a call makes from packed weights, before all else: no more flash than a direct form.

A pair of weights is one number, b 65536 + a, which sums and multiples keep; its halves become half-words at the end.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.winograd import Transform


@dataclass(frozen=True)
class Made:
    """Pairs of weights, and where their frequencies go.

    Attributes
    ----------
    transform : Transform
    bits : {2, 4, 8}
        Of a weight.
    rows, pairs : int
        Pairs of each row.
    """

    transform: Transform
    bits: int
    rows: int
    pairs: int

    @property
    def per_word(self) -> int:
        """Pairs of a word."""
        return 16 // self.bits

    @property
    def groups(self) -> int:
        """Words of each tap of a row."""
        return -(-self.pairs // self.per_word)

    @property
    def taps(self) -> int:
        """Of a kernel."""
        return self.transform.taps if self.transform.flat else self.transform.taps**2

    @property
    def words(self) -> int:
        """Words of all."""
        return self.rows * self.groups * self.taps

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Lay weights (rows, pairs, 2, height, width) out: a word has a tap of some pairs, codes without signs."""
        codes = np.pad(weights.astype(np.int64), ((0, 0), (0, -self.pairs % self.per_word), *((0, 0),) * 3))
        codes = (codes + (1 << (self.bits - 1))).reshape(self.rows, self.groups, self.per_word, 2, self.taps)
        fields = np.arange(self.per_word)[:, None, None] * self.bits + np.array([0, 16])[:, None]
        words: NDArray[np.uint32] = (codes << fields).sum(axis=(2, 3)).astype(np.uint32).ravel()
        return words

    def emit(self, b: Body, first: int, pitch: int, place: Any) -> None:
        """Write the statements.

        Parameters
        ----------
        b : Body
            With parameter w.
        first, pitch : int
            Word of the scratch memory where the frequencies go, and words from one to the next.
        place : callable
            Of a row and a pair: where the first of its frequencies goes.
        """
        n, order, flat = self.transform.frequencies, self.transform.order.index, self.transform.flat
        fields, half = ((1 << self.bits) - 1) * 0x10001, (1 << (self.bits - 1)) * 0x10001

        def load(row: Any, group: Any, field: Any, tap: Any) -> Any:
            word = b["w"][(row * self.groups + group) * self.taps + tap]
            return b.bind(b.T.bitwise_and(word >> (field * self.bits), fields) - half)

        def store(row: Any, pair: Any, line: Any, taps: list[Any]) -> None:
            target = b.bind(b.address(b["col"], first + place(row, pair) + line * (n * pitch)))
            for k, value in enumerate(self._frequencies(b, taps)):
                both = b.bind(value)
                # Where the lower half is negative it has taken one from the upper half.
                b.do("t_storew", target, order(k) * pitch, both + b.T.bitwise_and(both, 0x8000) * 2)

        def pair_of(row: Any, group: Any, field: Any, pair: Any) -> None:
            if flat:
                store(row, pair, 0, [load(row, group, field, tap) for tap in range(self.taps)])
                return
            columns = b.array("columns", 3 * n)
            with b.loop(3) as column:
                taps = [load(row, group, field, 3 * tap + column) for tap in range(3)]
                for k, value in enumerate(self._frequencies(b, taps)):
                    b.store(columns, column * n + order(k), value)
            with b.loop(n) as i:
                store(row, pair, i, [b.bind(columns[tap * n + i]) for tap in range(3)])

        with b.loop(self.rows) as row, b.loop(self.groups) as group, b.loop(self.per_word) as field:
            pair = b.bind(group * self.per_word + field)
            body = functools.partial(pair_of, row, group, field, pair)
            if self.pairs % self.per_word:
                b.when(pair < self.pairs, body)
            else:
                body()

    def _frequencies(self, b: Body, g: list[Any]) -> tuple[Any, ...]:
        """Return the frequencies of some weights: their products with `Transform.rows`."""
        if len(g) == 5:
            total, odd = b.bind(g[0] + g[2] + g[4]), b.bind(g[1] + g[3])
            even, twice = b.bind(g[0] + g[2] * 4 + g[4] * 16), b.bind(g[1] * 2 + g[3] * 8)
            return g[0] * 6, (total + odd) * -4, (total - odd) * -4, even + twice, even - twice, g[4] * 12
        total = b.bind(g[0] + g[2])
        if self.transform.size == 2:
            return g[0] * 2, total + g[1], total - g[1], g[2] * -2
        even = b.bind(g[0] + g[2] * 4)
        return g[0] * 6, (total + g[1]) * -4, (total - g[1]) * -4, even + g[1] * 2, even - g[1] * 2, g[2] * 12
