"""Kernels that visit each code once: addition, requantization, copies that move data, softmax."""

from dataclasses import dataclass
from typing import Any, Literal

from tapc.base.arithmetic import RATIO, SoftmaxForm
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import (
    SCALAR_RANGE,
    Plane,
    SoftmaxShares,
    SumForm,
    add_codes,
    add_parameters,
    each_channel,
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
        form = f"{self.form}{self.a.bits}{self.r.bits}{self.y.bits}{'c' if self.clamped else ''}"
        loops = count / self.unroll if self.whole else 0
        return {f"add_{form}": count, "add_loop": loops, "add_pixel": 0 if self.whole else self.y.pixels, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        form = f"{self.form}{'c' if self.clamped else ''}"
        narrow = (self.a.bits == 4) + (self.r.bits == 4)
        return {f"code_add_{form}": self.unroll, "code_add_a4": narrow, f"code_add_o{self.y.bits}": 1}

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

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        part = "table" if self.table else "copy"
        return f"{part}_{self.order}_a{self.x.bits}o{self.y.bits}" + ("_fill" if self.fill else "")

    @property
    def unroll(self) -> int:
        """Codes per iteration of the innermost loop."""
        return largest_divisor(self.x.channels, 4) if self.x.bits == self.y.bits == 8 else 2

    def instruction_features(self) -> Features:
        """Count codes and pixels that are moved, and those that are filled."""
        x, y, order = self.x, self.y, self.order
        count, part = x.pixels * x.channels, "table" if self.table else "copy"
        narrow = "4" if 4 in (x.bits, y.bits) else ""
        parts: Features = {
            f"{part}_{order}_a{x.bits}o{y.bits}": count,
            # A loop of one turn is none.
            f"copy_{order}_loop{narrow}": count / self.unroll if x.channels // self.unroll > 1 else 0,
            f"copy_{order}_pixel{narrow}": x.pixels if x.pixels > 1 else 0,
            f"copy_{order}_odd": x.pixels * (x.channels % 2) if narrow else 0,
        }
        fill = {f"fill_o{y.bits}": y.pixels * y.channels, "fill_pixel": y.pixels}
        return {**parts, **(fill if self.fill else {}), "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        part = f"code_copy_{self.order}_a{self.x.bits}o{self.y.bits}"
        return {"code_copy": 1, part: self.unroll, "code_copy_table": self.table * self.unroll,
                f"code_fill_o{self.y.bits}": self.fill}  # fmt: skip

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        table = (Parameter("table", "int8", 1 << self.x.bits),) if self.table else ()
        filled = (Parameter("value" if self.value else "zero", "int32"),) if self.fill else ()
        return build(name, (*planes, *table, *filled), lambda b: _emit_move(self, b))


def _emit_move(spec: MoveSpec, b: Body) -> None:
    x, y, T = spec.x, spec.y, b.T
    if spec.fill:
        with b.loop(y.pixels) as p:
            filled = b["value" if spec.value else "zero"]
            each_channel(b, y.channels, lambda c: y.store(b, b["y"], p, c, filled))

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
        return {f"softmax_a{self.x.bits}o{self.y.bits}": count, "softmax_pixel": self.x.pixels, "call": 1}

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
