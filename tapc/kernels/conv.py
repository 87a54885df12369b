"""Convolution and dense layers: im2col to int16 pairs, then a register tile of output channels x pixels.

The column buffer holds the receptive fields of a tile's pixels, interleaved word by word (two int16 a word), in the
order that the widest loads give; the weights are laid out in that same order, so that each weight word is
read once, in sequence. 4- and 2-bit weights are stored with an offset of 2^(bits-1): the surplus offset * sum(x) is
the same for all output channels, so each pixel's column sum is taken once and subtracted from the accumulator.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.arithmetic import Mode
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import (
    SCALAR_RANGE,
    Plane,
    add_codes,
    add_parameters,
    multiplier_parameter,
    requantize,
)
from tapc.kernels.packing import pair_words, weights_per_word

CHANNEL_TILE = 2
UNROLL = (4, 3, 2, 1)  # weight words per loop iteration: the largest that divides them


@dataclass(frozen=True)
class Window:
    """A sliding window: kernel, stride and leading padding."""

    height: int
    width: int
    stride_y: int
    stride_x: int
    top: int
    left: int


@dataclass(frozen=True)
class ConvSpec:
    """A convolution kernel instance; everything that changes the generated code and nothing else.

    Attributes
    ----------
    x, y : Plane
        Input and output.
    window : Window
    groups : int
    w_bits : {2, 4, 8}
    mode : {"float", "fixed"}
    residual_bits : {0, 4, 8}
        Bits of a tensor of y's shape that is added after requantization; 0 for none.
    residual_first : bool
        The residual is the addition's first operand (the order of the two float additions matters).
    """

    x: Plane
    y: Plane
    window: Window
    groups: int
    w_bits: int
    mode: Mode
    residual_bits: int = 0
    residual_first: bool = False

    @property
    def kind(self) -> str:
        """Short name of the code shape, used in symbol names and the cost model."""
        shape = "dense" if self.y.pixels == 1 else "conv"
        return f"{shape}_w{self.w_bits}a{self.x.bits}o{self.y.bits}" + ("_add" if self.residual_bits else "")

    @property
    def group_inputs(self) -> int:
        """Input channels that one output channel reads."""
        return self.x.channels // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.y.channels // self.groups

    @property
    def chunk(self) -> int:
        """Channels that one 32-bit load brings, or 1 when they do not divide into such loads."""
        per_load = 32 // self.x.bits
        return per_load if self.group_inputs % per_load == 0 else 1

    @property
    def taps(self) -> int:
        """Length of the receptive field."""
        return self.window.height * self.window.width * self.group_inputs

    @property
    def padded_taps(self) -> int:
        """Receptive field rounded up to whole weight words."""
        per_word = weights_per_word(self.w_bits)
        return -(-self.taps // per_word) * per_word

    @property
    def pixel_tile(self) -> int:
        """Pixels that share each weight load."""
        return 2 if self.y.pixels > 1 else 1

    @property
    def unroll(self) -> int:
        """Weight words of one iteration of the inner loop."""
        words = self.padded_taps // weights_per_word(self.w_bits)
        return next(n for n in UNROLL if words % n == 0)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the column buffer."""
        return self.padded_taps * 2 * self.pixel_tile

    def column_order(self) -> NDArray[np.int64]:
        """Return, for each element of the column, its index in (kernel y, kernel x, channel) order; -1 is padding."""
        if self.chunk == 1:
            order = np.arange(self.taps)
        else:
            half = self.chunk // 2
            within = np.stack([np.arange(half), np.arange(half) + half], axis=1).ravel()
            if self.x.bits == 8:  # SXTB16 gives bytes 0 and 2, then 1 and 3
                within = np.array([0, 2, 1, 3])
            order = (np.arange(0, self.taps, self.chunk)[:, None] + within).ravel()
        return np.pad(order, (0, self.padded_taps - self.taps), constant_values=-1)

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Lay weights out in reading order.

        Parameters
        ----------
        weights : ndarray of int8, shape (outputs, kernel height, kernel width, inputs / groups)

        Returns
        -------
        ndarray of uint32
            Per group and pair of output channels: words of both channels, alternating.
        """
        order = self.column_order()
        flat = weights.reshape(self.groups, self.group_outputs, self.taps)
        column = np.where(order >= 0, flat[:, :, np.maximum(order, 0)], 0)
        column = np.pad(column, ((0, 0), (0, -self.group_outputs % CHANNEL_TILE), (0, 0)))
        words = pair_words(column, self.w_bits)
        words = words.reshape(self.groups, -1, CHANNEL_TILE, words.shape[-1]).swapaxes(2, 3)
        return words.ravel()

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        outputs = self.group_outputs + self.group_outputs % CHANNEL_TILE
        return self.groups * outputs * self.padded_taps // weights_per_word(self.w_bits)

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        parameters: tuple[Parameter, ...] = (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("col", "int32", self.scratch_bytes // 4, constant=False),
            Parameter("w", "int32", self.weight_words),
            Parameter("bias", "int32", self.y.channels),
            multiplier_parameter(self.mode, self.y.channels),
            Parameter("pad", "int32"),
            *SCALAR_RANGE,
        )
        if self.residual_bits:
            residual = Plane(self.y.height, self.y.width, self.y.channels, self.residual_bits)
            parameters += (residual.parameter("r"), *add_parameters(self.mode))
        return build(name, parameters, lambda b: _emit(self, b))


def _emit(spec: ConvSpec, b: Body) -> None:
    tile = spec.pixel_tile
    pixel = b.array("pixel", tile)
    total = b.array("total", tile) if spec.w_bits < 8 else None
    words = spec.padded_taps // 2
    for word in range(spec.taps // 2, words):
        for j in range(tile):
            b.store(b["col"], word * tile + j, 0)
    with b.loop(spec.groups) as group, b.loop(-(-spec.y.pixels // tile)) as step:
        for j in range(tile):
            # The last tile of an odd image computes its only pixel twice.
            index = step * tile + j
            b.store(pixel, j, b.T.min(index, spec.y.pixels - 1) if spec.y.pixels % tile and j else index)
        for j in range(tile):
            _column(spec, b, pixel[j], j, group)
        if total is not None:
            _column_sums(spec, b, total, words)
        _multiply(spec, b, pixel, total, group)


def _column(spec: ConvSpec, b: Body, pixel: Any, slot: int, group: Any) -> None:
    """Write one pixel's receptive field to the column buffer; taps outside the image read the zero point."""
    window, x, tile, T = spec.window, spec.x, spec.pixel_tile, b.T
    origin = b.array("origin", 2)
    b.store(origin, 0, T.truncdiv(pixel, spec.y.width) * window.stride_y - window.top)
    b.store(origin, 1, T.truncmod(pixel, spec.y.width) * window.stride_x - window.left)
    with b.loop(window.height) as ky, b.loop(window.width) as kx:
        iy, ix = origin[0] + ky, origin[1] + kx
        tap = (ky * window.width + kx) * spec.group_inputs

        def inside() -> None:
            _copy_tap(spec, b, iy * x.width + ix, group * spec.group_inputs, tap, slot)

        def outside() -> None:
            if spec.chunk == 1:
                with b.loop(spec.group_inputs) as c:
                    _store_half(b, tap + c, slot, tile, b["pad"])
            else:
                pair = b.call("t_pair", b["pad"], b["pad"])
                with b.loop(spec.group_inputs // 2) as c:
                    b.store(b["col"], (T.truncdiv(tap, 2) + c) * tile + slot, pair)

        if _always_inside(spec):
            inside()
        else:
            b.when(T.And(T.And(iy >= 0, iy < x.height), T.And(ix >= 0, ix < x.width)), inside, outside)


def _always_inside(spec: ConvSpec) -> bool:
    window = spec.window
    bottom = (spec.y.height - 1) * window.stride_y - window.top + window.height
    right = (spec.y.width - 1) * window.stride_x - window.left + window.width
    return window.top == 0 and window.left == 0 and bottom <= spec.x.height and right <= spec.x.width


def _store_half(b: Body, element: Any, slot: int, tile: int, value: Any) -> None:
    T = b.T
    word = T.truncdiv(element, 2) * tile + slot
    half = T.truncmod(element, 2)
    address = b.T.call_extern("handle", "t_half", b.address(b["col"], word), half)
    b.do("t_store16", address, value)


def _copy_tap(spec: ConvSpec, b: Body, source: Any, first: Any, tap: Any, slot: int) -> None:
    x, tile, T = spec.x, spec.pixel_tile, b.T
    if spec.chunk == 1:
        with b.loop(spec.group_inputs) as c:
            _store_half(b, tap + c, slot, tile, x.load(b, b["x"], source, first + c))
        return
    word = b.array("word", 1)
    start = source * x.row + T.truncdiv(first * x.bits, 8)
    with b.loop(spec.group_inputs // spec.chunk) as c:
        b.store(word, 0, b.call("t_load32", b.address(b["x"], start + c * 4)))
        base = T.truncdiv(tap + c * spec.chunk, 2)
        for s in range(spec.chunk // 2):
            b.store(b["col"], (base + s) * tile + slot, _fields(b, word[0], x.bits, s))


def _fields(b: Body, word: Any, bits: int, s: int) -> Any:
    """Return the s-th pair of a word as two int16: sign-extended bytes, or unsigned narrower fields."""
    if bits == 8:
        return b.call("t_sxtb16" if s == 0 else "t_sxtb16_ror8", word)
    return b.call("t_fields", ((1 << bits) - 1) * 0x10001, word, s * bits)


def _column_sums(spec: ConvSpec, b: Body, total: Any, words: int) -> None:
    """Start each pixel's accumulators at -offset * sum(x)."""
    tile = spec.pixel_tile
    for j in range(tile):
        b.store(total, j, 0)
    with b.loop(words) as k:
        for j in range(tile):
            b.store(total, j, b.call("t_smlad", b["col"][k * tile + j], 0x10001, total[j]))
    for j in range(tile):
        b.store(total, j, total[j] * -(1 << (spec.w_bits - 1)))


def _multiply(spec: ConvSpec, b: Body, pixel: Any, total: Any, group: Any) -> None:
    tile, rows, T = spec.pixel_tile, CHANNEL_TILE, b.T
    per_word = weights_per_word(spec.w_bits)
    words = spec.padded_taps // per_word
    tiles = -(-spec.group_outputs // rows)
    acc, word, code = b.array("acc", rows * tile), b.array("weights", rows), b.array("code", rows * tile)
    with b.loop(tiles) as block:
        first = group * spec.group_outputs + block * rows
        odd = spec.group_outputs % rows != 0
        last = (group + 1) * spec.group_outputs - 1

        def channel(row: int) -> Any:
            return T.min(first + row, last) if odd and row else first + row

        for row in range(rows):
            for j in range(tile):
                bias = b["bias"][channel(row)]
                b.store(acc, row * tile + j, bias if total is None else bias + total[j])
        start = (group * tiles + block) * words * rows
        run = spec.unroll
        with b.loop(words // run) as outer:
            for inner in range(run):
                k = outer * run + inner
                for row in range(rows):
                    b.store(word, row, b["w"][start + k * rows + row])
                for s in range(per_word // 2):
                    for row in range(rows):
                        for j in range(tile):
                            column = b["col"][(k * (per_word // 2) + s) * tile + j]
                            index = row * tile + j
                            value = b.call("t_smlad", _fields(b, word[row], spec.w_bits, s), column, acc[index])
                            b.store(acc, index, value)
        for row in range(rows):
            for j in range(tile):
                value = requantize(b, spec.mode, acc[row * tile + j], channel(row), b["zero"], b["low"], b["high"])
                b.store(code, row * tile + j, value)
        if spec.residual_bits:
            residual = Plane(spec.y.height, spec.y.width, spec.y.channels, spec.residual_bits)
            for row in range(rows):
                for j in range(tile):
                    index = row * tile + j
                    other = residual.load(b, b["r"], pixel[j], channel(row))
                    operands = (other, code[index]) if spec.residual_first else (code[index], other)
                    b.store(code, index, add_codes(b, spec.mode, *operands))

        # All codes of the tile exist before the first store: the residual may live where y is written.
        for row in range(rows):

            def write(row: int = row) -> None:
                for j in range(tile):
                    spec.y.store(b, b["y"], pixel[j], first + row, code[row * tile + j])

            if odd and row:
                b.when(first + row <= last, write)
            else:
                write()
