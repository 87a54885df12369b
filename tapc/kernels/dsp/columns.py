"""im2col for the DSP kernels: receptive fields as pairs of int16, two pairs a pixel, the tile's pixels in turn.

A group holds four taps of each pixel of the tile: two words that LDRD loads at once. Within a group the taps have
the order that the widest loads give, so the order of the column is a permutation which the packed weights follow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.dsp import nested
from tapc.kernels.im2col import Im2col
from tapc.kernels.schedule import largest_divisor

LEFTOVERS = 32  # single taps that are spelled out; with more of them the field is gathered first


@dataclass(frozen=True)
class Columns(Im2col):
    """The column buffer of one convolution: a tile's fields, interleaved.

    Attributes
    ----------
    nested : bool
        Whether the weights are; see `tapc.kernels.dsp.nested`.
    """

    nested: bool = False

    @property
    def padded(self) -> int:
        """Length of the column: whole groups of four."""
        return -(-self.taps // 4) * 4

    @property
    def run(self) -> int:
        """Taps that lie side by side in memory."""
        return self.taps if self.kind == "gather" else self.row_taps

    @property
    def runs(self) -> int:
        """Runs of a receptive field."""
        return self.taps // self.run

    @property
    def kind(self) -> Literal["words", "runs", "gather"]:
        """How a field is read.

        `words`: each tap's channels are whole 32-bit words. `runs`: bytes, word by word as far as a run goes, then
        its last one to three taps one at a time; fields at the border are gathered first. `gather`: each field
        is first gathered as bytes.
        """
        if self.depth * self.x.bits % 32 == 0:
            return "words"
        single = self.row_taps % 4 * (self.taps // self.row_taps)
        regular = not self.scattered or self.inside  # a gathered field has nothing between its taps
        return "runs" if self.x.bits == 8 and single <= LEFTOVERS and regular else "gather"

    @property
    def source_bits(self) -> int:
        """Bits of the codes that are expanded: gathered codes have a byte each."""
        return 8 if self.kind == "gather" else self.x.bits

    @property
    def gathers(self) -> bool:
        """Whether some field needs the gather buffer."""
        return self.kind == "gather" or (self.kind == "runs" and not self.inside)

    @property
    def column_words(self) -> int:
        """Words of the interleaved columns."""
        return self.padded // 2 * self.pixels

    @property
    def bytes(self) -> int:
        """Bytes of the columns and of the gather buffer behind them."""
        return 4 * (self.column_words + (-(-self.taps // 4) if self.gathers else 0))

    def order(self) -> NDArray[np.int64]:
        """Return, for each element of the column, its index in (kernel y, kernel x, channel) order; -1 is padding."""
        if self.kind == "words" and self.x.bits == 4:
            order = (np.arange(0, self.taps, 8)[:, None] + [0, 4, 1, 5, 2, 6, 3, 7]).ravel()
        else:
            whole = self.run // 4 * 4
            starts = np.arange(self.runs)[:, None] * self.run
            quads = (np.arange(0, whole, 4)[:, None] + [0, 2, 1, 3]).ravel()  # as SXTB16 gives them
            order = np.concatenate([(starts + quads).ravel(), (starts + np.arange(whole, self.run)).ravel()])
        return np.pad(order, (0, self.padded - self.taps), constant_values=-1)

    def word(self, index: Any, slot: int) -> Any:
        """Return the offset of a pixel's word (two taps) `index`, a Python integer or the first of a group."""
        return index * self.pixels + slot

    def clear(self, b: Body) -> None:
        """Zero the padding words once; fields never write them."""
        for word in range(-(-self.taps // 2), self.padded // 2):
            for slot in range(self.pixels):
                b.store(b["col"], self.word(word, slot), 0)

    def emit(self, b: Body, pixel: Any, slot: int, group: Any) -> None:
        """Write one pixel's field to its slot.

        Parameters
        ----------
        b : Body
            With parameters x, col and pad.
        pixel : expression
            Output pixel.
        slot : int
        group : expression
        """
        _Writer(self, b, slot).field(pixel, group)


@dataclass(frozen=True)
class _Writer:
    columns: Columns
    b: Body
    slot: int

    def store(self, first: Any, low: Any, high: Any) -> None:
        """Store the two words of a group, whose first word is `first`."""
        words = self.b.array("words", 2)
        self.b.store(words, 0, low)
        self.b.store(words, 1, high)
        place = self.columns.word(first, self.slot)
        if self.columns.pixels == 1:
            self.b.do("t_store2", self.b.address(self.b["col"], place), words[0], words[1])
        for i in range(2):
            if self.columns.pixels > 1:
                self.b.store(self.b["col"], place + i * self.columns.pixels, words[i])

    def words(self, address: Callable[[Any], Any], first: Any, bytes_: int) -> None:
        """Expand a run of whole words; `first` is its first column word."""
        b, bits = self.b, self.columns.source_bits
        per_load = 32 // bits
        step = largest_divisor(bytes_ // 4, 4)
        with b.loop(bytes_ // 4 // step) as outer:
            for i in range(step):
                load = outer * step + i
                word = b.array("word", 1)
                b.store(word, 0, b.call("t_load32", address(load * 4)))
                at = first + load * (per_load // 2)
                for pair in range(0, per_load // 2, 2):
                    if self.columns.nested:
                        even = b.bind(nested.outer_of_bytes(b, word[0]))
                        self.store(at, even, nested.inner_of_bytes(b, word[0], even))
                    else:
                        self.store(at + pair, fields(b, word[0], bits, pair), fields(b, word[0], bits, pair + 1))

    def field(self, pixel: Any, group: Any) -> None:
        c, b, T = self.columns, self.b, self.b.T
        window, x = c.window, c.x
        start = T.truncdiv(group * c.depth * x.bits, 8)
        if window.taps == 1 and c.inside and c.kind != "gather":
            source = pixel
            if (window.stride_y, window.stride_x) != (1, 1):
                row = T.truncdiv(pixel, c.y.width) * window.stride_y
                source = row * x.width + T.truncmod(pixel, c.y.width) * window.stride_x
            self.runs(lambda offset: b.address(b["x"], source * x.row + start + offset), 0)
            return
        origin = c.origin(b, pixel)
        first = (origin[0] * x.width + origin[1]) * x.row + start
        if c.kind == "words":
            c.whole_or_taps(
                b,
                origin,
                lambda: self.runs(lambda offset: b.address(b["x"], first + offset), c.pitch),
                lambda: self._taps(origin, group),
            )
            return
        if c.kind == "gather":
            self._gather(origin, group)
            self.runs(lambda offset: b.call("t_at", b.address(b["col"], c.column_words), offset, dtype="handle"), 0)
        elif c.inside:
            self.runs(lambda offset: b.address(b["x"], first + offset), c.pitch)
        else:
            at = b.array("at", 2)

            def whole() -> None:
                b.store(at, 0, first)
                b.store(at, 1, c.pitch)

            def border() -> None:
                b.store(at, 0, -1)
                b.store(at, 1, c.run)
                self._gather(origin, group)

            b.when(c.window.covers(b, origin, x), whole, border)
            buffer = b.address(b["col"], c.column_words)
            source = b.bind(b.call("t_source", b.address(b["x"], 0), at[0], buffer, dtype="handle"))
            self.runs(lambda offset: b.call("t_at", source, offset, dtype="handle"), at[1])

    def runs(self, address: Callable[[Any], Any], pitch: Any) -> None:
        """Expand all runs; `address(offset)` is the place of a byte, run r starts at r * pitch."""
        c, b, T = self.columns, self.b, self.b.T
        whole = c.run * c.source_bits // 32 * 4
        words = whole * 8 // c.source_bits // 2
        if not c.scattered or c.runs == 1:
            if whole:
                with b.loop(c.runs) as r:
                    self.words(lambda offset: address(r * pitch + offset), r * words, whole)
        elif whole:
            with b.loop(c.runs) as r:
                row, column = T.truncdiv(r, c.window.width), T.truncmod(r, c.window.width)
                self.words(lambda offset: address(row * pitch + column * c.step + offset), r * words, whole)
        self._leftovers(address, pitch, whole, c.runs * words)

    def _leftovers(self, address: Callable[[Any], Any], pitch: Any, whole: int, first: int) -> None:
        """Place the last one to three taps of all runs pair by pair."""
        c, b = self.columns, self.b
        if c.kind == "words":
            return
        places = []
        for r in range(c.runs):
            base = r * pitch
            if c.scattered and c.runs > 1:
                base = r // c.window.width * pitch + r % c.window.width * c.step
            places += [base + i for i in range(whole, c.run)]
        taps = [b.call("t_load8", address(place)) for place in places]
        outer: Any = None
        for i in range(0, len(taps), 2):
            pair = b.call("t_pair", taps[i], taps[i + 1]) if i + 1 < len(taps) else b.call("t_pair", taps[i], 0)
            word = b.array("word", 1)
            if c.nested and i % 4 == 0:
                pair = outer = b.bind(nested.outer(b, pair))
            elif c.nested:
                pair = nested.inner(b, pair, outer)
            b.store(word, 0, pair)
            b.store(b["col"], c.word(first + i // 2, self.slot), word[0])

    def _taps(self, origin: Any, group: Any) -> None:
        """Expand a field at the border tap by tap; outside the image lies the zero point."""
        c, b = self.columns, self.b
        start = b.T.truncdiv(group * c.depth * c.x.bits, 8)
        per_tap = c.depth // 2

        def inside(source: Any, tap: Any) -> None:
            place = source * c.x.row + start
            self.words(lambda o: b.address(b["x"], place + o), tap * per_tap, c.depth * c.x.bits // 8)

        def outside(tap: Any) -> None:
            pads = b.array("pads", 2)
            pair = b.bind(b.call("t_pair", b["pad"], b["pad"]))
            b.store(pads, 0, nested.outer(b, pair) if c.nested else pair)
            b.store(pads, 1, nested.inner(b, pair, pads[0]) if c.nested else pads[0])
            with b.loop(per_tap // 2) as i:
                self.store(tap * per_tap + i * 2, pads[0], pads[1])

        c.each_tap(b, origin, inside, outside)

    def _gather(self, origin: Any, group: Any) -> None:
        """Copy a field's codes, one a byte, to the buffer behind the columns."""
        c, b = self.columns, self.b
        buffer = b.address(b["col"], c.column_words)

        def inside(source: Any, tap: Any) -> None:
            with b.loop(c.depth) as channel:
                code = c.x.load(b, b["x"], source, group * c.depth + channel)
                b.do("t_store8", buffer, tap * c.depth + channel, code)

        def outside(tap: Any) -> None:
            with b.loop(c.depth) as channel:
                b.do("t_store8", buffer, tap * c.depth + channel, b["pad"])

        c.each_tap(b, origin, inside, outside)


def fields(b: Body, word: Any, bits: int, s: int) -> Any:
    """Return the s-th pair of a word of activations as two int16: bytes are signed, narrower fields unsigned."""
    if bits == 8:
        return b.call("t_sxtb16" if s == 0 else "t_sxtb16_ror8", word)
    return b.call("t_fields", ((1 << bits) - 1) * 0x10001, word, s * bits)


def top_fields(b: Body, word: Any, bits: int, s: int) -> Any:
    """Return the s-th pair of a word of weights as two int16, narrow ones multiplied by 2^(16 - bits)."""
    if bits == 8:
        return fields(b, word, bits, s)
    mask = ((1 << bits) - 1) << (16 - bits)
    signed = (mask | mask << 16) - (1 << 32)
    return b.call("t_top_fields", signed, word, 16 - bits - s * bits)
