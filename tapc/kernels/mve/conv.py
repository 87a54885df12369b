"""Convolution with VMLADAV: a register tile of output channels x pixels, sixteen taps at a time.

Sixteen taps of a tile of 4 x 2 take six loads and eight multiplications for 128 multiply-accumulates. Fields of narrow
weights are shifted out for all pixels of the tile. Four channels that follow each other in y are requantized at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import arithmetic_of
from tapc.kernels.builder import Body
from tapc.kernels.conv import Direct, Runs, add_residual
from tapc.kernels.forms import register
from tapc.kernels.layout import LINEAR, Plane, lanes_of, requantize, sum_scalars
from tapc.kernels.mve.columns import Columns
from tapc.kernels.mve.intrinsics import CHUNK
from tapc.kernels.mve.lines import Lines
from tapc.kernels.mve.tiles import REACH, UNROLL, Products
from tapc.kernels.schedule import Schedule, largest_divisor
from tapc.kernels.spec import Features

CHUNKS = 4  # vectors of a channel that a loop's body spells out, at most
LANES = 4
PIECES = 3  # vectors of a row of taps, of more of which the border is a small part
FEW = 2  # vectors of a column
SPELLED = 2  # tiles of channels between two tests of the loop counter, of few products
WIDE = 12  # outputs of a row from which on a tile that is not full matters little


@register("conv", "mve")
@dataclass(frozen=True)
class MveConv(Direct):
    """How a convolution is computed on a core with Helium."""

    @property
    def shift(self) -> int:
        """Bits below the fields of narrow weights, where these stay at the top of their bytes."""
        return 8 - self.spec.w_bits if self.top else 0

    @property
    def top(self) -> bool:
        """Whether narrow weights are taken at the top of their bytes, which saves an instruction.

        Not where codes are rounded twice: sums that are 2^n times as large would have to be shifted back first.
        """
        return self.spec.w_bits < 8 and not self.spec.run and arithmetic_of(self.spec.mode).homogeneous

    @property
    def schedule(self) -> Schedule:
        """The tuned schedule, or a good one for the shape."""
        if self.spec.tuned is not None:
            return self.spec.tuned
        return Schedule(LANES, 1 if self.spec.pixels == 1 else 2, self._unroll(CHUNKS))

    @property
    def fields(self) -> int:
        """Weights of a byte."""
        return 8 // self.spec.w_bits

    def _unroll(self, chunks: int) -> int:
        return largest_divisor(max(self.vectors, 1), min(max(chunks // self.fields, 1), UNROLL))

    def products(self, rows: int, *, vector: bool) -> Products:
        """Return the products of a tile of so many channels; a smaller one's loop spells out one vector of each."""
        looped = self.vectors > self.schedule.unroll or not self.near
        unroll = self.schedule.unroll if not looped or rows == self.schedule.rows else 1
        unroll = min(unroll, self.vectors)
        spec = self.spec
        looped = looped and self.vectors > 0
        return Products(spec.w_bits, self.top, rows, self.schedule.pixels, unroll, looped, self.rest, vector)

    @property
    def apart(self) -> int:
        """Bytes between the columns of neighbouring pixels."""
        return self.spec.x.row if self.columns.direct else self.chunks * CHUNK

    @property
    def near(self) -> bool:
        """Whether a load's offset reaches all vectors of a tile's columns."""
        return (self.schedule.pixels - 1) * self.apart + (self.chunks - 1) * CHUNK <= REACH

    def candidates(self) -> tuple[Schedule, ...]:
        """Return schedules that tuning may try, longest loops first."""
        tiles = (2, 1) if self.spec.pixels > 1 else (1,)
        longest = self._unroll(2 * CHUNKS)
        unrolls = [n for n in range(longest, 0, -1) if max(self.vectors, 1) % n == 0]
        return tuple(Schedule(LANES, pixels, n) for n in unrolls for pixels in tiles)

    @property
    def columns(self) -> Columns:
        """The column buffer."""
        spec, pixels = self.spec, self.schedule.pixels
        return Columns(spec.x, spec.y, spec.window, spec.groups, pixels, spec.pixels % pixels == 0)

    @property
    def lines(self) -> Lines | None:
        """The lines that a row of windows reads, where these are copied: full tiles of windows over the border."""
        spec, pixels, own = self.spec, self.schedule.pixels, self.columns
        wide = spec.y.width % pixels == 0 or spec.y.width >= WIDE
        if own.inside or own.scattered or spec.x.bits != 8 or spec.window.dilation_y != 1 or not wide:
            return None
        lines = Lines(spec.x, spec.y, spec.window, pixels, own.chunks)
        return lines if len(lines.pieces) <= PIECES else None

    @property
    def buffered(self) -> bool:
        """Whether a tile's input is copied before its first result is stored."""
        return not self.columns.direct

    @property
    def stored_bits(self) -> int:
        """Bits to store each weight with: what it has, or a byte where a vector holds all of a channel's."""
        return self.spec.w_bits if self.spec.taps > CHUNK else 8

    @property
    def runs(self) -> Runs | None:
        """Whether sums of narrow weights at the top of their bytes fit; VMLADAV adds others to whole accumulators."""
        if self.spec.w_bits == 8:
            return None
        return Runs(32, 1, np.full(32 // self.spec.w_bits, -1), 8 - self.spec.w_bits)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the column buffer, and of lines."""
        return self.columns.bytes if self.lines is None else self.lines.bytes

    @property
    def chunks(self) -> int:
        """Vectors of the input's field."""
        return -(-self.spec.taps // CHUNK)

    @property
    def vectors(self) -> int:
        """Vectors of a channel's weights all of whose fields are used."""
        return self.chunks // self.fields

    @property
    def rest(self) -> int:
        """Vectors of the field behind those; a tile's channels share the fields of their weights."""
        return self.chunks % self.fields

    def tile_vectors(self, rows: int) -> int:
        """Vectors of the weights of a tile."""
        return rows * self.vectors + -(-rows * self.rest // self.fields)

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles of a group's output channels, and channels of a smaller last one."""
        return divmod(self.spec.group_outputs, self.schedule.rows)

    @property
    def group_vectors(self) -> int:
        """Vectors of the weights of a group."""
        count, rows = self.tiles
        return count * self.tile_vectors(self.schedule.rows) + self.tile_vectors(rows)

    @property
    def turn(self) -> int:
        """Tiles of channels that a loop's body spells out: of few products, several share the work around them."""
        return largest_divisor(max(self.tiles[0], 1), SPELLED) if self.chunks <= FEW else 1

    @property
    def copies(self) -> int:
        """How often the machine code has a whole tile of channels."""
        return self.turn if self.tiles[0] else 0

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        return self.spec.groups * self.group_vectors * CHUNK // 4

    def places(self, rows: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (row, vector of the field, vector of the tile's weights, field of its bytes) of a tile."""
        for vector in range(self.vectors):
            for row in range(rows):
                for field in range(self.fields):
                    yield row, vector * self.fields + field, vector * rows + row, field
        for i in range(rows * self.rest):
            row, chunk = divmod(i, self.rest)
            yield row, self.vectors * self.fields + chunk, rows * self.vectors + i // self.fields, i % self.fields

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Lay weights out in reading order: per group and tile, vectors of the tile's channels in turn."""
        spec, (count, last) = self.spec, self.tiles
        flat = weights.reshape(spec.groups, spec.group_outputs, -1)
        flat = np.pad(flat, ((0, 0), (0, 0), (0, self.chunks * CHUNK - flat.shape[2])))
        codes = flat.reshape(spec.groups, spec.group_outputs, self.chunks, CHUNK).view(np.uint8) & (
            (1 << spec.w_bits) - 1
        )
        tiles = []
        for group in range(spec.groups):
            for tile in range(count + bool(last)):
                rows = self.schedule.rows if tile < count else last
                vectors = np.zeros((self.tile_vectors(rows), CHUNK), np.uint8)
                for row, chunk, vector, field in self.places(rows):
                    vectors[vector] |= codes[group, tile * self.schedule.rows + row, chunk] << (field * spec.w_bits)
                tiles.append(vectors)
        words: NDArray[np.uint32] = np.concatenate(tiles).ravel().view("<u4").astype(np.uint32)
        return words

    def instruction_features(self) -> Features:
        """Count columns, products and results of all tiles."""
        spec, columns, schedule = self.spec, self.columns, self.schedule
        tile, rows = schedule.pixels, schedule.rows
        steps = -(-spec.y.pixels // tile) * spec.groups
        if self.lines is not None:
            steps = -(-spec.y.width // tile) * spec.y.height
        (count, last), vector = self.tiles, self.vector and rows == LANES
        own = self.products(rows, vector=vector)
        turns = steps * count * self.vectors / own.unroll if own.looped else 0
        products = f"w{spec.w_bits}{'t' if self.top else ''}t{tile}"
        features: Features = {
            f"multiply_{products}": steps * spec.group_outputs * self.chunks,
            f"loop_r{rows}t{tile}": turns,
            f"looped_t{tile}": steps * count if own.looped else 0,
            f"block_r{rows}t{tile}{'v' if vector else ''}": steps * count,
            f"turn_t{tile}": steps * count / self.turn,
            f"last_r{last}t{tile}": steps if last else 0,
            f"last_{products}": steps * self.chunks if last else 0,
            f"last_{products}_row": steps * self.chunks * last,
            f"step_t{tile}{'direct' if columns.direct else ''}": steps,
            "group": spec.groups,
            "call": 1,
        }
        whole, rest = steps * count * rows * tile, steps * last * tile
        features |= spec.result_features(whole, lanes=vector)
        for part, n in spec.result_features(rest).items() if rest else ():
            features[part] = features.get(part, 0) + n
        if columns.direct:
            return features
        return features | (self.lines or columns).instruction_features(steps * tile)

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        spec, columns, schedule = self.spec, self.columns, self.schedule
        tile, (count, last) = schedule.pixels, self.tiles
        own = self.products(schedule.rows, vector=self.vector)
        spelled = (own.unroll * self.fields + self.rest) * self.copies
        return {
            f"code_multiply_w{spec.w_bits}{'t' if self.top else ''}t{tile}": spelled * schedule.rows
            + self.chunks * last,
            f"code_block_r{schedule.rows}t{tile}": self.copies,
            f"code_last_t{tile}": last,
            **spec.result_code(tile * (self.copies + last)),
            f"code_loop_t{tile}": (1 if count else 0) + bool(last) if own.looped else 0,
            "code_grouped": spec.groups > 1,
            "code_odd_pixels": spec.y.pixels % tile != 0,
            "code_conv": 1,
            **({} if columns.direct else (self.lines or columns).code_features()),
        }

    @property
    def vector(self) -> bool:
        """Whether results are made four at a time: 4-bit codes only where four channels begin with a byte."""
        spec = self.spec
        narrow = 4 in (spec.y.bits, spec.residual_bits) and spec.groups > 1 and spec.group_outputs % 2
        return bool(arithmetic_of(spec.mode).lanes) and not narrow

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        _Emitter(self, b).loops()


class _Emitter:
    def __init__(self, form: MveConv, b: Body) -> None:
        self.form, self.b, self.spec, self.columns = form, b, form.spec, form.columns
        self.pixels = form.schedule.pixels
        self.pixel: Any = b.array("pixel", self.pixels) if form.lines is None else []
        self.source: Any = None
        self.apart = form.apart

    def loops(self) -> None:
        """Visit groups, tiles of pixels and tiles of channels."""
        spec, b, lines, tile = self.spec, self.b, self.form.lines, self.pixels
        if lines is not None:
            self._rows(lines)
            return
        with b.loop(spec.groups) as group, b.loop(-(-spec.pixels // tile)) as step:
            spec.store_tile(b, self.pixel, step)
            if not self.columns.direct:
                with b.loop(tile) as slot:
                    index = step * tile + slot
                    at = b.array("at", 1)
                    b.store(at, 0, b.T.min(index, spec.pixels - 1) if spec.pixels % tile else index)
                    self.columns.emit(b, spec.output_pixel(b, at[0]), slot, group)
            if self.columns.direct:
                pixel = spec.output_pixel(b, self.pixel[0])
                self.source = b.bind(b.address(b["x"], pixel * spec.x.row))
            else:
                self.source = b.bind(b.address(b["col"], 0))
            self._channels(group)

    def _rows(self, lines: Lines) -> None:
        """Visit rows of outputs, whose lines are copied, tiles of pixels and tiles of channels."""
        spec, b, tile, width = self.spec, self.b, self.pixels, self.spec.y.width
        lines.border(b)
        with b.loop(spec.pixels // width) as row:
            lines.copy(b, b.T.truncdiv(b["first"], width) + row if spec.lines else row)
            with b.loop(-(-width // tile)) as step:
                places = [b.T.min(step * tile + j, width - 1) if width % tile else step * tile + j for j in range(tile)]
                pixel = b.bind(row * width + step * tile)
                self.pixel = [pixel + j if width % tile == 0 else row * width + places[j] for j in range(tile)]
                lines.fields(b, places)
                self.source = b.bind(b.address(b["col"], lines.first // 4))
                self._channels(0)

    def _channels(self, group: Any) -> None:
        """Visit tiles of a group's channels."""
        spec, b, form, rows = self.spec, self.b, self.form, self.form.schedule.rows
        count, rest = form.tiles
        first, start = group * spec.group_outputs, group * form.group_vectors
        if count:
            turn = form.turn
            with b.loop(count // turn) as step:
                for i in range(turn):
                    block = step * turn + i
                    self._tile(rows, first + block * rows, start + block * form.tile_vectors(rows))
        if rest:
            self._tile(rest, first + count * rows, start + count * form.tile_vectors(rows))

    def _tile(self, rows: int, first: Any, start: Any) -> None:
        """Compute a tile of channels from `first` on, whose weights begin at vector `start`."""
        spec, b, tile = self.spec, self.b, self.pixels
        vector, arithmetic = self.form.vector and rows == LANES, arithmetic_of(spec.mode)
        acc = b.array("acc", rows * tile)
        self._product(acc, rows, first, start, vector=vector)
        code = b.array("code", rows * tile)
        if not vector:
            self._scalar(code, acc, rows, first)
            return
        lanes = f"{arithmetic.lanes}{lanes_of(spec.quick)}"
        bias, factors = b.address(b["bias"], first), b.address(b["s"], first * arithmetic.words)
        for j in range(tile):
            own = b.address(code, LANES * j)
            sums = [acc[LANES * j + row] for row in range(rows)]
            b.do(lanes, own, *sums, bias, factors, b["zero"])
            if spec.clamped:
                b.do("t_clamp4", own, b["low"], b["high"])
            else:
                b.do(f"t_saturate4_{spec.y.bits}", own)
            if spec.residual_bits:
                self._add(own, j, first)
        # All codes of the tile exist before the first store: the residual may live where y is written.
        for j in range(tile):
            b.do(f"t_store4_{spec.y.bits}", self._place(b["y"], spec.y, j, first), b.address(code, LANES * j))

    def _place(self, buffer: Any, plane: Plane, j: int, first: Any) -> Any:
        """Return the address of a pixel's channels from `first` on."""
        offset = first if plane.bits == 8 else self.b.T.truncdiv(first, 2)
        return self.b.address(buffer, self.pixel[j] * plane.row + offset)

    def _add(self, code: Any, j: int, first: Any) -> None:
        """Add the residual's codes to four codes."""
        spec, b = self.spec, self.b
        other = b.address(b.array("other", LANES), 0)
        residual = Plane(spec.y.height, spec.y.width, spec.y.channels, spec.residual_bits)
        b.do(f"t_load4_{residual.bits}", other, self._place(b["r"], residual, j, first))
        # Three integer operations change the code in place; factors in another arithmetic belong to first and second.
        operands = (other,) if spec.sum_form == LINEAR else (other, code) if spec.residual_first else (code, other)
        b.do(f"t_sum4_{spec.sum_form}", code, *operands, *(b[name] for name in sum_scalars(spec.sum_form)))
        if spec.sum_clamped or spec.sum_form != LINEAR:
            b.do("t_clamp4", code, b["add_low"], b["add_high"])
        else:
            b.do(f"t_saturate4_{spec.y.bits}", code)

    def _scalar(self, code: Any, acc: Any, rows: int, first: Any) -> None:
        """Make results one by one."""
        spec, b, tile = self.spec, self.b, self.pixels
        bits = 0 if spec.clamped else spec.y.bits
        for row in range(rows):
            for j in range(tile):
                index = row * tile + j
                value = requantize(b, spec.mode, acc[index], first + row, bits, spec.quick)
                b.store(code, index, value)
                if spec.residual_bits:
                    add_residual(spec, b, code, index, self.pixel[j], first + row)
        for row in range(rows):
            for j in range(tile):
                spec.y.store(b, b["y"], self.pixel[j], first + row, code[row * tile + j])

    def _product(self, acc: Any, rows: int, channel: Any, start: Any, *, vector: bool) -> None:
        """Sum up the products of all taps of channels from one on: each pixel's side by side, or on top of biases."""
        b, products = self.b, self.form.products(rows, vector=vector)
        turns = self.form.vectors // max(products.unroll, 1)
        first = b.address(b["w"], start * (CHUNK // 4))
        b.do(products.name, first, self.source, self.apart, turns, b.address(acc, 0))
        for i in range(0 if vector else rows * self.pixels):
            b.store(acc, i, b.call("t_wadd", acc[i], b["bias"][channel + i // self.pixels]))
