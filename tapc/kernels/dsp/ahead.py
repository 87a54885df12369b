"""Products of a tile of two channels by two pixels whose words are loaded one by one, between the products before.

A core that issues a load and a product at once (Cortex-M7) loads two words by LDRD in a cycle of their own, and one
beside a product in none: more instructions, fewer cycles.
"""

from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.dsp.columns import top_fields

AHEAD = 2
"""Words of weights, and of the columns, that are loaded beyond the last and not used."""


class ProductsAhead:
    """The products of one tile.

    Parameters
    ----------
    b : Body
    w_bits : {2, 4, 8}
    acc : array
        Accumulators: [channel][pixel].
    start : expression
        First word of the tile's weights.
    """

    def __init__(self, b: Body, w_bits: int, acc: Any, start: Any) -> None:
        self.b, self.bits, self.acc, self.start = b, w_bits, acc, start
        self.halves = 16 // w_bits
        """Pairs of taps of a word."""
        self.weights, self.taps, self.pairs = b.array("weights", 2), b.array("taps", 2), b.array("pairs", 2)
        self.turn = 0
        self.base: tuple[Any, Any] = (None, None)

    def emit(self, words: int, rest: int, unroll: int) -> None:
        """Multiply whole words, and `rest` pairs of taps of another.

        Parameters
        ----------
        words, rest : int
        unroll : int
            Words that are spelled out, a divisor of `words`.
        """
        self._point(0)
        for row in range(2):
            self._load(self.weights, row, 0, row)
        self._load(self.taps, 0, 1, 0)
        self._unpack(0, 0)
        if words > unroll:
            with self.b.loop(words // unroll) as outer:
                self._point(outer * unroll)
                self._words(unroll, 0, more=True)
            if rest:  # all of its weights are loaded
                self.base = self.base[0], self._column(words)
            words = 0
        self._words(words, rest, more=False)

    def _point(self, word: Any) -> None:
        b = self.b
        self.base = b.bind(b.address(b["w"], self.start + word * 2)), self._column(word)

    def _column(self, word: Any) -> Any:
        return self.b.bind(self.b.address(self.b["col"], word * (self.halves * 2)))

    def _load(self, into: Any, at: int, of: int, offset: int) -> None:
        self.b.store(into, at, self.b.call("t_load1", self.base[of], offset))

    def _words(self, count: int, rest: int, *, more: bool) -> None:
        """Multiply so many words, then the first pairs of another; `more`: others follow."""
        pairs = count * self.halves + rest
        for pair in range(pairs):
            self._pair(pair, ahead=pairs + self.halves if more else pairs)

    def _unpack(self, row: int, pair: int) -> None:
        self.b.store(self.pairs, row, top_fields(self.b, self.weights[row], self.bits, pair % self.halves))

    def _pair(self, pair: int, *, ahead: int) -> None:
        """Multiply a pair of taps of two channels by two pixels; `ahead`: so many pairs there are.

        Of a pair the channel is first that was last of the one before, so that no value is held longer than for two
        products: with the sums, pointers and mask these are fourteen registers, all that there are.
        """
        following, word = pair + 1, pair // self.halves
        place, more = pair % self.halves, following < ahead
        others = (word + 1) * self.halves < ahead  # words of weights
        one, other = self.turn, 1 - self.turn  # channels
        self._unpack(other, pair)
        self._multiply(one, 0)
        self._load(self.taps, 1, 1, 2 * pair + 1)
        if others and place == self.halves - 1:
            for row in range(2):
                self._load(self.weights, row, 0, 2 * (word + 1) + row)
        self._multiply(other, 0)
        if more:
            self._load(self.taps, 0, 1, 2 * following)
        self._multiply(other, 1)
        if more:
            self._unpack(other, following)
        self._multiply(one, 1)
        self.turn = other

    def _multiply(self, channel: int, pixel: int) -> None:
        b, at = self.b, 2 * channel + pixel
        b.store(self.acc, at, b.call("t_smlad", self.pairs[channel], self.taps[pixel], self.acc[at]))
