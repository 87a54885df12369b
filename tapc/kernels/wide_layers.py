"""Convolutions, dense layers and sums of codes of which some have 16 bits: portable, by SMLAD where there is one."""

from dataclasses import dataclass
from typing import Any, Literal

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.wide import LONG
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.im2col import Im2col
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantized, scaled
from tapc.kernels.packing import weights_per_word
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec
from tapc.kernels.window import Window, clip_window, dilated, inside_taps

CHUNK = {8: 127, 4: 512, 2: 1024}
"""Words of weights whose products with 16-bit codes fit 32 bits, by the weights' bits."""
Sums = Literal["short", "wide", "long", "far"]
"""Of 32 bits, scaled by the arithmetic's own factors (`short`) or by those of 15 bits (`wide`); of 64 bits."""


@dataclass(frozen=True)
class WideLayerSpec(KernelSpec):
    """A layer of which the input or the result has 16 bits.

    Attributes
    ----------
    x, y : Plane
    window : Window
    bits : {2, 4, 8}
        Of the weights.
    sums : {"short", "wide", "long", "far"}
        Of 32 bits, requantized in 32 or 64, or of 64, whose codes fit 32 before they are clamped or may not.
    mode : Mode
        Empty but where sums are short.
    """

    x: Plane
    y: Plane
    window: Window
    bits: int
    sums: Sums
    mode: Mode

    @property
    def words(self) -> int:
        """Words of weights."""
        raise NotImplementedError

    @property
    def bytewise(self) -> bool:
        """Whether weights are read one by one, as bytes."""
        return False

    @property
    def centred(self) -> bool:
        """Whether codes have a zero point, which those of 16 bits lack."""
        return self.x.bits != 16

    def parameters(self) -> tuple[Parameter, ...]:
        """Declare what all have."""
        count = self.y.channels
        factors = multiplier_parameter(self.mode, count) if self.mode else Parameter("s", "int32", 2 * count)
        return (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("w", "int8", 4 * self.words) if self.bytewise else Parameter("w", "int32", self.words),
            Parameter("bias", "int32", count),
            factors,
            *SCALAR_RANGE,
            *((Parameter("start", "int32"),) if self.centred else ()),
        )

    def code(self, b: Body, acc: Any, channel: Any) -> Any:
        """Return a sum without its bias as a code."""
        if self.mode:
            return scaled(b, self.mode, acc + b["bias"][channel], channel, b["zero"], b["low"], b["high"])
        whole = b.T.Cast("int64", acc) + b.T.Cast("int64", b["bias"][channel])
        factor = (b["s"][channel * 2 + i] for i in range(2))
        function = "t_requant_far" if self.sums == "far" else "t_requant_long"
        return b.call(function, whole, *factor, b["zero"], b["low"], b["high"])

    @property
    def long(self) -> bool:
        """Whether sums have 64 bits."""
        return self.sums in ("long", "far")

    def centre(self, b: Body, code: Any) -> Any:
        """Return a code less its zero point."""
        return code - b["start"] if self.centred else code

    def results(self) -> Features:
        """Count what makes codes of sums."""
        count = self.y.pixels * self.y.channels
        return requantized(self.mode, "", clamped=True, count=count) if self.mode else {f"wide_{LONG}": count}


@dataclass(frozen=True)
class WideConvSpec(WideLayerSpec):
    """A convolution or dense layer: each window in a row of 16-bit codes, then products of that row.

    Attributes
    ----------
    groups : int
    pairs : bool
        Two products at once.
    """

    groups: int = 1
    pairs: bool = True

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"wide_conv_a{self.x.bits}o{self.y.bits}w{self.bits}"

    @property
    def depth(self) -> int:
        """Codes of a tap."""
        return self.x.channels // self.groups

    @property
    def row_words(self) -> int:
        """Words of a row of weights, padded with zeros."""
        return -(-self.window.taps * self.depth // weights_per_word(self.bits))

    @property
    def words(self) -> int:
        """Words of weights."""
        return self.y.channels * self.row_words

    @property
    def outputs(self) -> int:
        """Results of a group."""
        return self.y.channels // self.groups

    @property
    def tile(self) -> int:
        """Results that are summed up together."""
        return largest_divisor(self.outputs, 4)

    @property
    def scratch_bytes(self) -> int:
        """A row of codes."""
        return 2 * self.row_words * weights_per_word(self.bits)

    @property
    def turned(self) -> bool:
        """Whether weights are kept without signs, half of their range too large: where two are taken at once."""
        return self.pairs and self.bits < 8

    def instruction_features(self) -> Features:
        """Count words of weights, rows, and codes of windows."""
        pixels, rows = self.y.pixels, self.y.pixels * self.y.channels
        form, chunks = "pairs" if self.pairs else "single", -(-self.row_words // CHUNK[self.bits])
        _, taps = inside_taps(self.x, self.y, self.window)
        part = "pair" if self.depth % 2 == 0 else "one"
        own: Features = {
            f"wide_{form}_word_w{self.bits}": rows * self.row_words,
            f"wide_{form}_turn_w{self.bits}": rows // self.tile * self.row_words,
            "wide_chunk": rows * chunks if self.long else 0,
            "wide_result": rows,
            "wide_tile": rows // self.tile,
            f"wide_gather_{part}_a{self.x.bits}": self.groups * taps * self.depth,
            f"wide_gather_{part}_none": self.groups * (pixels * self.window.taps - taps) * self.depth,
            "wide_gather_tap": self.groups * pixels * self.window.taps,
            "wide_total": self.groups * taps * self.depth if self.turned else 0,
            "wide_pixel": pixels * self.groups,
            "call": 1,
        }
        return own | self.results()

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        form = "pairs" if self.pairs else "single"
        return {
            f"code_wide_conv_{form}": 1,
            f"code_wide_word_{form}_w{self.bits}": self.tile,
            f"code_wide_{'long' if self.long else self.sums}": self.tile,
            "code_wide_border": not Im2col(self.x, self.y, self.window, self.groups, 1).inside,
        }

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        row = Parameter("row", "int32", self.scratch_bytes // 4, constant=False)
        return build(name, (*self.parameters(), row), self._emit)

    def _emit(self, b: Body) -> None:
        if (self.window.taps * self.depth) % weights_per_word(self.bits):
            for word in range(self.window.taps * self.depth // 2, self.scratch_bytes // 4):
                b.store(b["row"], word, 0)
        total = b.array("total", 1) if self.turned else None
        field = Im2col(self.x, self.y, self.window, self.groups, 1)
        with b.loop(self.groups) as g, b.loop(self.y.pixels) as p:
            if total is not None:
                b.store(total, 0, 0)
            origin = field.origin(b, p)
            self._gather(b, field, origin, g, total)
            with b.loop(self.outputs // self.tile) as outer:
                self._products(b, p, g * self.outputs + outer * self.tile, total)

    def _gather(self, b: Body, field: Im2col, origin: Any, g: Any, total: Any) -> None:
        depth, even = self.depth, self.depth % 2 == 0

        def put(tap: Any, code: Any) -> None:
            """Fill a tap by codes of channels."""
            count = depth // 2 if even else depth
            with b.loop(count) as i:
                own = [b.bind(code(2 * i + side)) for side in range(2)] if even else [b.bind(code(i))]
                if total is not None:
                    b.store(total, 0, total[0] + sum(own[1:], own[0]))
                if even:
                    b.store(b["row"], tap * count + i, b.call("t_pair", *own))
                else:
                    b.do("t_put16", b.address(b["row"], 0), tap * count + i, own[0])

        def inside(source: Any, tap: Any) -> None:
            put(tap, lambda i: self.centre(b, self.x.load(b, b["x"], source, g * depth + i)))

        def outside(tap: Any) -> None:
            count = depth // 2 if even else depth
            with b.loop(count) as i:
                if even:
                    b.store(b["row"], tap * count + i, 0)
                else:
                    b.do("t_put16", b.address(b["row"], 0), tap * count + i, 0)

        if field.inside:
            x, window = self.x, self.window
            with b.loop(window.height) as ky, b.loop(window.width) as kx:
                iy, ix = origin[0] + dilated(ky, window.dilation_y), origin[1] + dilated(kx, window.dilation_x)
                inside(iy * x.width + ix, ky * window.width + kx)
        else:
            field.each_tap(b, origin, inside, outside)

    def _products(self, b: Body, p: Any, first: Any, total: Any) -> None:
        long, half = self.long, 1 << (self.bits - 1)
        part = b.array("part", self.tile)
        acc = b.array("acc", self.tile, "int64") if long else part
        for u in range(self.tile):
            start = b.T.int32(0) if total is None else 0 - total[0] * half
            b.store(acc, u, b.T.Cast("int64", start) if long else start)
        if not long:
            with b.loop(self.row_words) as k:
                self._word(b, part, k, first)
        else:
            chunk, done = CHUNK[self.bits], 0
            while done < self.row_words:
                # All whole chunks in one loop, then what is left.
                count = max((self.row_words - done) // chunk, 1)
                size = min(chunk, self.row_words - done)
                with b.loop(count) as c:
                    for u in range(self.tile):
                        b.store(part, u, 0)
                    with b.loop(size) as k:
                        self._word(b, part, done + c * size + k, first)
                    for u in range(self.tile):
                        b.store(acc, u, acc[u] + b.T.Cast("int64", part[u]))
                done += count * size
        for u in range(self.tile):
            self.y.store(b, b["y"], p, first + u, self.code(b, acc[u], first + u))

    def _word(self, b: Body, part: Any, k: Any, first: Any) -> None:
        """Add the products of a word of each result's weights."""
        bits, per_word = self.bits, weights_per_word(self.bits)
        words = [b.bind(b["w"][(first + u) * self.row_words + k]) for u in range(self.tile)]
        for f in range(per_word // 2):
            codes = b.bind(b["row"][k * (per_word // 2) + f])
            for u, word in enumerate(words):
                if not self.pairs:
                    low, high = (b.call("t_signed", word, 32 - bits * (2 * f + i + 1), 32 - bits) for i in range(2))
                    b.store(part, u, b.call("t_mac", part[u], b.call("t_low", codes), low))
                    b.store(part, u, b.call("t_mac", part[u], b.call("t_top", codes), high))
                    continue
                if bits == 8:
                    pair = b.call(f"t_sxtb16{'_ror8' if f else ''}", word)
                else:
                    pair = b.call("t_fields", ((1 << bits) - 1) * 0x10001, word, f * bits)
                b.store(part, u, b.call("t_smlad", pair, codes, part[u]))


@dataclass(frozen=True)
class WideDepthwiseSpec(WideLayerSpec):
    """A depthwise convolution, result by result."""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"wide_depthwise_a{self.x.bits}o{self.y.bits}w{self.bits}"

    @property
    def words(self) -> int:
        """Words of weights."""
        return -(-self.window.taps * self.y.channels // weights_per_word(self.bits))

    @property
    def bytewise(self) -> bool:
        """Whether weights are read one by one, as bytes."""
        return self.bits == 8

    @property
    def inside(self) -> bool:
        """Whether no window reaches over the border."""
        return self.window.inside(self.x, self.y)

    def instruction_features(self) -> Features:
        """Count rows, taps and results of all windows."""
        rows, taps = inside_taps(self.x, self.y, self.window)
        channels, part = self.y.channels, "inside" if self.inside else "border"
        own: Features = {
            f"wide_filter_tap_a{self.x.bits}w{self.bits}": taps * channels,
            f"wide_filter_row_{part}": rows * channels,
            f"wide_filter_pixel_{part}": self.y.pixels,
            "wide_filter_result": self.y.pixels * channels,
            "call": 1,
        }
        return own | self.results()

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        multiple = self.y.channels // self.x.channels
        return {"code_wide_depthwise": 1, f"code_wide_filter_w{self.bits}": 1, f"code_wide_{self.sums}": 1,
                "code_wide_multiple": multiple > 1, "code_clip": 0 if self.inside else 1}  # fmt: skip

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        return build(name, self.parameters(), self._emit)

    def _emit(self, b: Body) -> None:
        window, x, y, bits = self.window, self.x, self.y, self.bits
        per_word, multiple = weights_per_word(bits), y.channels // x.channels
        acc = b.array("acc", 1)
        with b.loop(y.height) as oy, b.loop(y.width) as ox:
            first: tuple[Any, Any] = (0, 0)
            extents: tuple[Any, Any] = (window.height, window.width)
            top, left = oy * window.stride_y - window.top, ox * window.stride_x - window.left
            if not self.inside:
                bounds = b.array("bounds", 4)
                clip_window(b, top, window.height, x.height, bounds, 0, window.dilation_y)
                clip_window(b, left, window.width, x.width, bounds, 2, window.dilation_x)
                first, extents = (bounds[0], bounds[2]), (bounds[1] - bounds[0], bounds[3] - bounds[2])
            with b.loop(x.channels) as c, b.loop(multiple) as j:
                b.store(acc, 0, 0)
                with b.loop(extents[0]) as dy, b.loop(extents[1]) as dx:
                    ky, kx = first[0] + dy, first[1] + dx
                    row, column = top + dilated(ky, window.dilation_y), left + dilated(kx, window.dilation_x)
                    at = b.bind((ky * window.width + kx) * y.channels + c * multiple + j)
                    if self.bytewise:
                        weight = b.T.Cast("int32", b["w"][at])
                    else:
                        word = b["w"][b.T.shift_right(at, b.T.int32(per_word.bit_length() - 1))]
                        left = 32 - bits - b.T.bitwise_and(at, b.T.int32(per_word - 1)) * bits
                        weight = b.call("t_signed", word, left, 32 - bits)
                    code = self.centre(b, x.load(b, b["x"], row * x.width + column, c))
                    b.store(acc, 0, b.call("t_mac", acc[0], code, weight))
                channel = c * multiple + j
                y.store(b, b["y"], oy * y.width + ox, channel, self.code(b, acc[0], channel))
