"""Kernels that visit each code once: addition, requantization, copies that move data, softmax."""

from dataclasses import dataclass
from math import log2
from typing import Any, Literal

from tapc.base.arithmetic import RATIO, SoftmaxForm
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.copies import copy_run, fill_run, filling, of_words, run_code, run_features
from tapc.kernels.layout import (
    LINEAR,
    SCALAR_RANGE,
    Plane,
    SoftmaxShares,
    SumForm,
    add_codes,
    add_parameters,
    copies_of,
    each_channel,
    softmax_features,
    sum_key,
    summed,
)
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class AddSpec(KernelSpec):
    """Addition of two tensors of one shape.

    Attributes
    ----------
    a, r, y : Plane
    form : SumForm
    clamped : bool
        The result's range is narrower than its codes.
    """

    a: Plane
    r: Plane
    y: Plane
    form: SumForm
    clamped: bool = True

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"add_a{self.a.bits}r{self.r.bits}o{self.y.bits}"

    @property
    def unroll(self) -> int:
        """Codes per iteration of the loop over whole bytes."""
        return largest_divisor(self.y.pixels * self.y.channels, 8) if self.whole else 1

    @property
    def whole(self) -> bool:
        """Whether all codes are bytes."""
        return self.a.bits == self.r.bits == self.y.bits == 8

    def instruction_features(self) -> Features:
        """Count codes, and what surrounds them."""
        count = self.y.pixels * self.y.channels
        # A loop of one turn is none.
        form, turns = sum_key(self.form), self.y.channels // 2
        whole = "" if self.whole else "4" if turns > 1 else "4once"
        return {
            # Integers take few instructions: more of them differ.
            f"add_{form}_o{self.y.bits}{whole}" if form == LINEAR else f"add_{form}": count,
            f"add_{form}c": count if self.clamped else 0,
            "add_load4": count * ((self.a.bits == 4) + (self.r.bits == 4)),
            "add_loop": count / self.unroll if self.whole and count > self.unroll else 0,
            f"add_pixel{whole}": 0 if self.whole else self.y.pixels,
            "add_turn": 0 if self.whole or turns < 2 else self.y.pixels * turns,
            **summed(self.form, count),
            f"add_{form}_call": 1,
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        narrow = (self.a.bits == 4) + (self.r.bits == 4)
        copies = self.unroll if self.whole else copies_of(self.y.channels)
        form = f"{sum_key(self.form)}{'c' if self.clamped else ''}"
        own = {} if self.form == LINEAR else {f"sum_{self.form}_code": copies}
        return {**own, f"code_add_{form}": copies, "code_add_a4": narrow * copies, f"code_add_o{self.y.bits}": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.a.parameter("x"), self.y.parameter("y", constant=False), self.r.parameter("r"))
        bits = 0 if self.clamped else self.y.bits

        def one(b: Body, p: Any, c: Any) -> None:
            codes = self.a.load(b, b["x"], p, c), self.r.load(b, b["r"], p, c)
            self.y.store(b, b["y"], p, c, add_codes(b, self.form, *codes, bits))

        def emit(b: Body) -> None:
            if not self.whole:
                with b.loop(self.y.pixels) as p:
                    each_channel(b, self.y.channels, lambda c: one(b, p, c))
                return
            with b.loop(self.y.pixels * self.y.channels // self.unroll) as outer:
                for i in range(self.unroll):
                    one(b, 0, outer * self.unroll + i)

        return build(name, (*planes, *add_parameters(self.form)), emit)


SHORT = 2  # turns of a loop that is spelled out


@dataclass(frozen=True)
class Border:
    """Runs of `length` bytes of a tensor, the first one at index `first`, in so many rows."""

    first: int
    rows: int
    length: int

    def words(self, y: Plane) -> bool:
        """Return whether every run begins at whole words."""
        return of_words((self.first, y.width * y.channels if self.rows > 1 else 0))


@dataclass(frozen=True)
class MoveSpec(KernelSpec):
    """Copy of a tensor into (part of) another, with other codes or the same.

    Attributes
    ----------
    x, y : Plane
    table : bool
        Codes of x become those of y by a table; else they are the same.
    order : {"place", "to_nchw", "from_nchw"}
        `place`: pixel (i, j), channel c goes to (i + row, j + column), c + channel; the rest of y keeps its
        value, or is filled with the zero point when `fill`. `to_nchw` flattens in channel, row, column order;
        `from_nchw` is its inverse.
    row, column, channel : int
    fill : bool
    value : bool
        What is filled is a code of its own.
    loose : bool
        x may begin at any byte.
    """

    x: Plane
    y: Plane
    table: bool
    order: Literal["place", "to_nchw", "from_nchw"] = "place"
    row: int = 0
    column: int = 0
    channel: int = 0
    fill: bool = False
    value: bool = False
    loose: bool = False

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        part = "table" if self.table else "copy"
        return f"{part}_{self.order}_a{self.x.bits}o{self.y.bits}" + ("_fill" if self.fill else "")

    @property
    def copied(self) -> bool:
        """Whether runs of bytes are copied as they are."""
        return self.order == "place" and not self.table and self.x.bits == self.y.bits == 8

    @property
    def runs(self) -> tuple[int, int]:
        """How many runs of bytes lie side by side in both tensors, and their length."""
        x, y = self.x, self.y
        if x.channels != y.channels:
            return x.pixels, x.channels
        return (x.height, x.width * x.channels) if x.width != y.width else (1, x.pixels * x.channels)

    @property
    def words(self) -> bool:
        """Whether every run begins at whole words in both tensors."""
        (count, length), y = self.runs, self.y
        steps = (y.channels if self.x.channels != y.channels else 0, y.width * y.channels, length) if count > 1 else ()
        return not self.loose and of_words(((self.row * y.width + self.column) * y.channels + self.channel, *steps))

    @property
    def borders(self) -> tuple[Border, ...]:
        """Runs of bytes of y around those of x, where they are filled."""
        x, y = self.x, self.y
        if not self.fill or y.bits != 8:
            return ()
        if x.channels != y.channels:
            return (Border(0, 1, y.bytes),)  # everything: runs of each pixel's own would cost more
        line = y.width * y.channels
        first = (self.row * y.width + self.column) * y.channels
        behind = first + x.width * y.channels  # the first row of x
        last = behind + (x.height - 1) * line
        found = (
            Border(0, 1, first),
            Border(behind, x.height - 1, line - x.width * y.channels),
            Border(last, 1, y.bytes - last),
        )
        return tuple(border for border in found if border.rows and border.length)

    @property
    def unroll(self) -> int:
        """Codes per iteration of the innermost loop."""
        return 2 if 4 in (self.x.bits, self.y.bits) else largest_divisor(self.x.channels, 4)

    def instruction_features(self) -> Features:
        """Count codes and pixels that are moved, and those that are filled."""
        x, y, order = self.x, self.y, self.order
        count, part = x.pixels * x.channels, "table" if self.table else "copy"
        # A lone pixel that stays alone keeps its order.
        order = "place" if x.pixels == y.pixels == 1 and 4 in (x.bits, y.bits) else order
        narrow = "4" if 4 in (x.bits, y.bits) else ""
        if self.copied:
            return run_features("copy", *self.runs, words=self.words) | self._filled(code=False) | {"call": 1}
        divisor = {"place": 1, "to_nchw": y.channels if y.pixels > 1 else 1, "from_nchw": y.pixels}[order]
        turns = x.channels // self.unroll
        # Few 4-bit codes are spelled out.
        short = "short" if narrow and turns <= SHORT else ""
        # What has one pixel or one channel has one order.
        flat = "flat" if order != "place" and (1 in (x.pixels, x.channels) and 1 in (y.pixels, y.channels)) else ""
        flat = flat if not narrow and (1 in (x.channels, y.channels) or x.pixels == y.pixels) else ""
        parts: Features = {
            f"copy_{flat or order}_a{min(x.bits, 8)}o{min(y.bits, 8)}{short}": count,
            f"copy_{part}_a{min(x.bits, 8)}": count,
            f"copy_call{narrow}": 1,
            # A loop of one turn is none.
            f"copy_{order}_loop{narrow}": x.pixels * turns if turns > 1 and not short else 0,
            f"copy_{order}_pixel{narrow}": x.pixels if x.pixels > 1 else 0,
            f"copy_{order}_row": x.height if x.height > 1 and x.width > 1 else 0,
            f"copy_{order}_odd": x.pixels * (x.channels % 2) if narrow else 0,
            # Of a division by what is no power of two.
            f"copy_{order}_quotient": count * log2(max(count / divisor, 1))
            if divisor & (divisor - 1) and not flat
            else 0,
            f"copy_{order}_divide": count if divisor & (divisor - 1) and not flat else 0,
        }
        fill: Features = {}
        if self.fill and y.bits == 4:
            few = "short" if y.channels // 2 <= SHORT else ""
            fill = {f"fill_o4{few}": y.pixels * y.channels, "fill_pixel": y.pixels}
        return {**parts, **fill, **self._filled(code=False), "call": 1}

    def _filled(self, *, code: bool) -> Features:
        """Sum up the features of the borders."""
        total: Features = {}
        for border in self.borders:
            words = border.words(self.y)
            one = (
                run_code("fill", border.length, words=words)
                if code
                else run_features("fill", border.rows, border.length, words=words)
            )
            total = {key: total.get(key, 0) + one.get(key, 0) for key in total | one}
        return total

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        if self.copied:
            own = run_code("run", self.runs[1], words=self.words)
            return {"code_copied": 1, "code_copied_rows": self.runs[0] > 1, **own, **self._filled(code=True)}
        part = f"code_copy_{self.order}_a{min(self.x.bits, 8)}o{min(self.y.bits, 8)}"  # two bytes move as one does
        copies = copies_of(self.x.channels) if 4 in (self.x.bits, self.y.bits) else self.unroll
        return {"code_copy": 1, part: copies, "code_copy_table": self.table * copies,
                "code_fill_o4": self.fill and self.y.bits == 4, **self._filled(code=True)}  # fmt: skip

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        table = (Parameter("table", "int8", 1 << self.x.bits),) if self.table else ()
        filled = (Parameter("value" if self.value else "zero", "int32"),) if self.fill else ()
        return build(name, (*planes, *table, *filled), lambda b: _emit_move(self, b))


def _emit_move(spec: MoveSpec, b: Body) -> None:
    x, y, T = spec.x, spec.y, b.T
    filled = b["value" if spec.value else "zero"] if spec.fill else None
    if spec.borders:
        word = filling(b, filled)
        for border in spec.borders:
            with b.loop(border.rows) as i:
                at = border.first + i * y.width * y.channels
                fill_run(b, at, word, border.length, words=border.words(y))
    elif spec.fill and y.bits == 4:
        with b.loop(y.pixels) as p:
            each_channel(b, y.channels, lambda c: y.store(b, b["y"], p, c, filled))
    if spec.copied:
        count, length = spec.runs
        first = (spec.row * y.width + spec.column) * y.channels + spec.channel
        width = count // x.height if count > 1 else 1
        with b.loop(count // width) as i, b.loop(width) as j:
            copy_run(b, first + (i * y.width + j) * y.channels, (i * width + j) * length, length, words=spec.words)
        return

    def target(i: Any, j: Any, c: Any) -> tuple[Any, Any]:
        """Return the pixel and the channel that a code goes to."""
        if spec.order == "place":
            return (i + spec.row) * y.width + j + spec.column, c + spec.channel
        if spec.order == "to_nchw":
            flat = (c * x.height + i) * x.width + j
            return T.truncdiv(flat, y.channels), T.truncmod(flat, y.channels)
        flat = (i * x.width + j) * x.channels + c
        return T.truncmod(flat, y.pixels), T.truncdiv(flat, y.pixels)

    with b.loop(x.height) as i, b.loop(x.width) as j:

        def move(c: Any) -> None:
            code = x.load(b, b["x"], i * x.width + j, c)
            if spec.table:
                code = T.Cast("int32", b["table"][code + (128 if x.bits == 8 else 0)])
            y.store(b, b["y"], *target(i, j, c), code)

        if 4 in (x.bits, y.bits):
            each_channel(b, x.channels, move)
        else:
            with b.loop(x.channels // spec.unroll) as outer:
                for u in range(spec.unroll):
                    move(outer * spec.unroll + u)


@dataclass(frozen=True)
class SoftmaxSpec(KernelSpec):
    """Softmax over the channels of each pixel, by table and integer division.

    Attributes
    ----------
    x, y : Plane
    span : int
        Entries of the table of exponentials: the largest difference of two codes, plus one.
    levels : int
        1 / scale of the output.
    form : SoftmaxForm
    """

    x: Plane
    y: Plane
    span: int
    levels: int
    form: SoftmaxForm = RATIO

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"softmax_a{self.x.bits}o{self.y.bits}"

    def instruction_features(self) -> Features:
        """Count codes and pixels."""
        count = self.x.pixels * self.x.channels
        part, channels = f"a{self.x.bits}", self.x.channels
        own: Features = {f"softmax_{part}": count, f"softmax_pixel_{part}": self.x.pixels, "call": 1}
        if channels <= SHORT:
            own = {f"softmax_{part}c{channels}": count, "call": 1}
        return own | softmax_features(self.form, count, self.x.pixels, self.levels)

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        few = f"c{self.x.channels}" if self.x.channels <= SHORT else ""
        return {f"code_softmax_{self.form}": 1, f"code_softmax_a{self.x.bits}{few}": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        parameters = (*planes, Parameter("table", "int32", self.span), *SCALAR_RANGE)
        return build(name, parameters, lambda b: _emit_softmax(self, b))


def _emit_softmax(spec: SoftmaxSpec, b: Body) -> None:
    x, y, T = spec.x, spec.y, b.T
    top, total = b.array("top", 1), b.array("total", 1)
    shares = SoftmaxShares(b, spec.form, spec.levels)
    with b.loop(x.pixels) as p:
        b.store(top, 0, -128)
        b.store(total, 0, 0)
        with b.loop(x.channels) as c:
            b.store(top, 0, T.max(top[0], x.load(b, b["x"], p, c)))
        with b.loop(x.channels) as c:
            b.store(total, 0, total[0] + shares.term(b["table"][top[0] - x.load(b, b["x"], p, c)]))
        shares.start(total[0])
        with b.loop(x.channels) as c:
            term = b["table"][top[0] - x.load(b, b["x"], p, c)]
            share = shares.share(term, total[0])
            y.store(b, b["y"], p, c, T.min(T.max(share + b["zero"], b["low"]), b["high"]))
