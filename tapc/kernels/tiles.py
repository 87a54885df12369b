"""What Winograd convolutions share: tiles of the output, the lines that a row of them reads, and where results go."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body
from tapc.kernels.conv import Runs, Whole, add_residual
from tapc.kernels.copies import copy_run, filling
from tapc.kernels.layout import requantize_each
from tapc.kernels.made import Made
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import Features
from tapc.kernels.winograd import Transform, transform_of

TILES = 2
"""Side by side."""


@dataclass(frozen=True)
class Tiles(Whole):
    """The geometry of a convolution that is computed by a transform."""

    buffered = True
    runs: Runs | None = None

    def candidates(self) -> tuple[Schedule, ...]:
        """Return no other schedules."""
        return ()

    @property
    def schedule(self) -> Schedule:
        """That which asks for the transform."""
        assert self.spec.tuned is not None
        return self.spec.tuned

    @property
    def made(self) -> Made | None:
        """How a call makes the weights' frequencies; None where they are constants."""
        raise NotImplementedError

    @property
    def stored_bits(self) -> int:
        """Bits of a frequency, or of a weight where a call makes them of it."""
        return self.spec.w_bits if self.schedule.made else 16

    @property
    def frequency_words(self) -> int:
        """Words of the weights' frequencies."""
        raise NotImplementedError

    @property
    def input_words(self) -> int:
        """Words of the scratch memory before the weights' frequencies: of the lines, and of a pair of tiles."""
        raise NotImplementedError

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory."""
        return 4 * (self.input_words + (self.frequency_words if self.schedule.made else 0))

    @property
    def weight_words(self) -> int:
        """Words of the weights in flash."""
        return self.made.words if self.made is not None else self.frequency_words

    def frequencies(self, b: Body, index: Any) -> Any:
        """Return the address of a word of the weights' frequencies."""
        return b.address(b["col"], self.input_words + index) if self.schedule.made else b.address(b["w"], index)

    @property
    def transform(self) -> Transform:
        """The transform."""
        found = transform_of(self.schedule.algorithm, self.spec.window.height, self.spec.window.width)
        assert found is not None
        return found

    @property
    def shift(self) -> int:
        """Power of two that the accumulators are multiplied by."""
        return self.transform.shift

    @property
    def together(self) -> int:
        """Output pixels before whose first the input of all is copied: a row of tiles, a pair of them in a line."""
        if self.transform.flat:
            return min(TILES * self.parts[1], self.spec.stored.pixels)
        return min(self.parts[0] * self.spec.stored.width, self.spec.stored.pixels)

    @property
    def parts(self) -> tuple[int, int]:
        """Results of a tile that are stored, along each side."""
        down, across = self.spec.pool
        return self.transform.height // down, self.transform.size // across

    @property
    def passes(self) -> int:
        """How often all weights are read from memory: for each pair of tiles, or once."""
        return 1 if self.schedule.made else self.down * self.across

    @property
    def lines(self) -> int:
        """Lines of results that a call stores."""
        return self.spec.lines or self.spec.stored.height

    @property
    def down(self) -> int:
        """Rows of tiles."""
        return -(-self.lines // self.parts[0])

    @property
    def across(self) -> int:
        """Pairs of tiles in a row."""
        return -(-self.spec.y.width // (TILES * self.transform.size))

    @property
    def blocks(self) -> int:
        """Pairs of output channels."""
        return -(-self.spec.y.channels // 2)

    @property
    def depth(self) -> int:
        """Input channels, filled up to whole words."""
        return -(-self.spec.x.channels // 4) * 4

    @property
    def columns(self) -> int:
        """Columns of a copied line, of which a transform along it takes those of a pair of tiles."""
        pairs = 1 if self.transform.flat else self.across
        return TILES * self.transform.size * pairs + self.transform.taps - 1

    @property
    def line(self) -> int:
        """Bytes of a copied line."""
        return self.columns * self.depth

    @property
    def inputs(self) -> int:
        """Words of the scratch memory before the transformed inputs."""
        return self.transform.lines * self.line // 4

    @property
    def ragged(self) -> bool:
        """Whether tiles reach over the output's ends."""
        high, wide = self.parts
        return bool(self.spec.stored.width % (TILES * wide) or self.lines % high)

    def shared_features(self, inputs: float) -> Features:
        """Count what is done for each tile, with so many transforms of inputs of each pair of them, and the lines."""
        key, tiles = self.transform.key, self.down * self.across
        return {
            f"{key}_in": tiles * inputs,
            f"{key}_block": tiles * self.blocks,
            f"{key}_tile": tiles,
            f"{key}_result": self.results,
            f"{key}_make": self.made.rows * self.made.pairs if self.made is not None else 0,
            f"{key}_max": self.results * (math.prod(self.spec.pool) - 1),
            f"{key}_ragged": self.results if self.ragged else 0,
            **self._copy_features(),
            **self.spec.result_features(self.results),
            "call": 1,
        }

    def shared_code(self, steps: int) -> Features:
        """Return parts of the machine code: products spelled out, and what is done at the output's ends."""
        key = f"code_{self.transform.key}"
        return {
            f"{key}_step": steps,
            f"{key}_ragged": 1 if self.ragged else 0,
            f"{key}_max": math.prod(self.spec.pool) - 1,
            f"{key}_make": 1 if self.schedule.made else 0,
            "code_f_odd": self.spec.y.channels % 2,
        }

    def _copy_features(self) -> Features:
        x, n, size = self.spec.x, self.transform.frequencies, self.transform.size
        top, plain = self.spec.window.top, x.channels % 4 == 0
        if self.transform.flat:
            pixels = self.across * self.columns
            return {
                "line_word": pixels * self.depth / 4 if plain else 0,
                "line_byte": 0 if plain else pixels * x.channels,
                "line_pixel": 0 if plain else pixels,
            }
        inside = sum(0 <= size * row - top + line < x.height for row in range(self.down) for line in range(n))
        return {
            "line_word": inside * x.width * self.depth / 4 if plain else 0,
            "line_byte": 0 if plain else inside * x.width * x.channels,
            "line_pixel": 0 if plain else inside * x.width,
            "line_fill": (self.down * n - inside) * x.width * self.depth / 4,
            "line": self.down * n,
        }

    @property
    def results(self) -> int:
        """Results that are requantized, those outside the image with them."""
        return int(self.down * self.across * TILES * math.prod(self.parts) * self.blocks * 2)


class Lines:
    """The lines that a row of tiles reads, as bytes at the head of the scratch memory."""

    def __init__(self, form: Tiles, b: Body) -> None:
        self.form, self.b = form, b
        self.word = filling(b, b["pad"])

    def _at(self, line: Any, column: int, offset: Any = 0) -> Any:
        place = line * self.form.line + column * self.form.depth + offset
        return self.b.call("t_to", self.b.address(self.b["col"], 0), place, dtype="handle")

    def strip(self, pair: Any) -> None:
        """Copy what a pair of tiles in a line reads; what lies outside the image is the zero point."""
        form, b, x = self.form, self.b, self.form.spec.x
        first = b.bind(pair * (TILES * form.transform.size) - form.spec.window.left)

        def whole() -> None:
            to = functools.partial(self._at, 0, 0)
            copy_run(b, 0, first * x.channels, form.columns * x.channels, words=True, place=to)

        def each() -> None:
            with b.loop(form.columns) as column:
                source, at = b.bind(first + column), b.bind(column * form.depth)

                def inside() -> None:
                    if x.channels % 4 == 0:
                        to = functools.partial(self._at, 0, 0)
                        copy_run(b, 0, source * x.channels, x.channels, words=True, place=lambda i: to(at + i))
                        return
                    with b.loop(x.channels) as channel:
                        code = b.T.Cast("int32", b["x"][source * x.channels + channel])
                        b.do("t_store8", self._at(0, 0), at + channel, code)

                def outside() -> None:
                    with b.loop(form.depth // 4) as i:
                        b.do("t_setw4", self._at(0, 0, at + i * 4), self.word)

                b.when(b.T.And(source >= 0, source < x.width), inside, outside)

        if x.channels % 4 == 0 and x.width >= form.columns:
            b.when(b.T.And(first >= 0, first + form.columns <= x.width), whole, each)
        else:
            each()

    def _fill(self, line: Any, first: int, columns: int) -> None:
        """Let columns of a line hold the zero point."""
        count = columns * self.form.depth // 4
        if count > 0:
            with self.b.loop(count) as i:
                self.b.do("t_setw4", self._at(line, first, i * 4), self.word)

    def border(self) -> None:
        """Fill what lies left and right of the image, once."""
        form, left = self.form, self.form.spec.window.left
        end = left + form.spec.x.width
        with self.b.loop(form.transform.frequencies) as line:
            self._fill(line, 0, left)
            self._fill(line, end, form.columns - end)

    def copy(self, row: Any) -> None:
        """Copy the lines of a row of tiles; those outside the image hold the zero point."""
        form, b, x = self.form, self.b, self.form.spec.x
        left, top = form.spec.window.left, form.spec.window.top
        with b.loop(form.transform.frequencies) as line:
            first = b["first"] if form.spec.lines else 0
            source = b.bind(row * form.transform.size - top + line + first)

            def inside() -> None:
                start = source * (x.width * x.channels)
                if x.channels % 4 == 0:
                    to = functools.partial(self._at, line, left)
                    copy_run(b, 0, start, x.width * x.channels, words=True, place=to)
                    return
                with b.loop(x.width) as column, b.loop(x.channels) as channel:
                    code = b.T.Cast("int32", b["x"][start + column * x.channels + channel])
                    b.do("t_store8", self._at(line, left), column * form.depth + channel, code)

            in_image = b.T.And(source >= 0, source < x.height)
            b.when(in_image, inside, lambda: self._fill(line, left, x.width))


@dataclass(frozen=True)
class Results:
    """Where a block's results go; `looped`: those of a tile one by one."""

    form: Tiles
    b: Body
    row: Any
    pair: Any
    block: Any
    looped: bool = False

    def store(self, sums: Any, places: list[tuple[int, int]], channel: Any, line: Any, column: Any) -> None:
        """Requantize sums of a channel and store those inside the image.

        Parameters
        ----------
        sums : array
        places : list of (int, int)
            Lines and columns of each behind the first.
        channel, line, column : expression
            Of the first, of what is stored.
        """
        b, spec = self.b, self.form.spec
        y, count = spec.stored, len(places)
        code, bits = b.array("code", count), 0 if spec.clamped else spec.y.bits
        requantize_each(b, spec.mode, [sums[i] for i in range(count)], [channel] * count, bits, spec.quick, code)
        first = b.bind(line * y.width + column)
        if spec.residual_bits:
            for i, (down, right) in enumerate(places):

                def add(i: int = i, at: int = down * y.width + right) -> None:
                    add_residual(spec, b, code, i, first + at, channel)

                self._if_inside(line, column, down, right, add)
        place = b.bind(b.address(b["y"], first * y.row + channel)) if y.bits == 8 else None
        for i, (down, right) in enumerate(places):

            def write(i: int = i, at: int = down * y.width + right) -> None:
                if place is None:
                    y.store(b, b["y"], first + at, channel, code[i])
                else:
                    b.do("t_store8", place, at * y.row, code[i])

            self._if_inside(line, column, down, right, write)

    def _if_inside(self, line: Any, column: Any, down: int, right: int, body: Callable[[], None]) -> None:
        """Do what is only for results inside the image."""
        b, lines, width, (high, wide) = self.b, self.form.lines, self.form.spec.stored.width, self.form.parts
        # Of a line that is no constant distance from the tile's first it is not known which it is.
        below = line + down < lines if lines % high and (self.looped or down >= lines % high) else None
        beside = column + right < width if width % (TILES * wide) else None
        if below is not None and beside is not None:
            b.when(b.T.And(below, beside), body)
        elif below is not None or beside is not None:
            b.when(beside if below is None else below, body)
        else:
            body()


def each_channel(results: Results, body: Callable[[Any, Any], None]) -> None:
    """Visit the two output channels of a block, a last odd one alone: `body(index, channel)`."""
    b, channels = results.b, results.form.spec.y.channels
    with b.loop(2) as r:
        channel = b.bind(results.block * 2 + r)
        if channels % 2:
            b.when(channel < channels, lambda: body(r, channel))
        else:
            body(r, channel)


def greatest(b: Body, into: Any, index: int, values: list[Any]) -> None:
    """Store the greatest of some values."""
    b.store(into, index, values[0])
    for value in values[1:]:
        # Bound: TVM would print what has changed meanwhile, and a call twice.
        b.store(into, index, b.T.max(b.bind(into[index]), b.bind(value)))


def two_outputs(b: Body, at: list[Any], out: Callable[[int, Any], None]) -> None:
    """Transform four frequencies, in order, to two outputs of F(2x2, 3x3)."""
    first, second = b.bind(at[0]), b.bind(at[1])
    out(0, b.call("t_wadd", b.call("t_wadd", first, second), at[2]))
    out(1, b.call("t_wadd", b.call("t_wsub", first, second), at[3]))


def line_outputs(b: Body, size: int, at: list[Any], out: Callable[[int, Any], None]) -> None:
    """Transform six frequencies, in order, to the outputs of F(4, 3) or F(2, 5)."""
    if size == 4:
        four_outputs(b, at, out, doubled=False)
        return
    at = [b.bind(value) for value in at]
    out(0, functools.reduce(lambda a, c: b.call("t_wadd", a, c), at[:5]))
    k, d = b.bind(b.call("t_wsub", at[0], at[1])), b.bind(b.call("t_wsub", at[2], at[3]))
    out(1, b.call("t_wadd", b.call("t_waddl", k, d, 1), at[5]))


def four_outputs(b: Body, at: list[Any], out: Callable[[int, Any], None], *, doubled: bool) -> None:
    """Transform six frequencies, in order, to four outputs of F(4x4, 3x3); `doubled`: the last one is yet to be."""
    at = [b.bind(value) for value in at]
    p, k = b.bind(b.call("t_wadd", at[0], at[1])), b.bind(b.call("t_wsub", at[0], at[1]))
    q, d = b.bind(b.call("t_wadd", at[2], at[3])), b.bind(b.call("t_wsub", at[2], at[3]))
    out(0, b.call("t_wadd", b.call("t_wadd", p, q), at[4]))
    out(1, b.call("t_waddl", k, d, 1))
    out(2, b.call("t_waddl", p, q, 2))
    out(3, b.call("t_waddl", b.call("t_waddl", k, d, 3), at[5], int(doubled)))
