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
from tapc.kernels.schedule import Schedule, largest_divisor
from tapc.kernels.spec import Features

CHUNKS = 4  # vectors of a channel that a loop's body spells out, at most
LANES = 4


@register("conv", "mve")
@dataclass(frozen=True)
class MveConv(Direct):
    """How a convolution is computed on a core with Helium."""

    shift = 0

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
        return largest_divisor(max(self.vectors, 1), max(chunks // self.fields, 1))

    def candidates(self) -> tuple[Schedule, ...]:
        """Return schedules that tuning may try, longest loops first."""
        tiles = [(4, 2), (2, 2), (4, 1), (2, 4)] if self.spec.pixels > 1 else [(4, 1), (2, 1)]
        longest = self._unroll(2 * CHUNKS)
        unrolls = [n for n in range(longest, 0, -1) if max(self.vectors, 1) % n == 0]
        return tuple(Schedule(rows, pixels, n) for n in unrolls for rows, pixels in tiles)

    @property
    def columns(self) -> Columns:
        """The column buffer."""
        return Columns(self.spec.x, self.spec.y, self.spec.window, self.spec.groups, self.schedule.pixels)

    @property
    def buffered(self) -> bool:
        """Whether a tile's input is copied before its first result is stored."""
        return not self.columns.direct

    @property
    def stored_bits(self) -> int:
        """Bits to store each weight with: what it has."""
        return self.spec.w_bits

    @property
    def runs(self) -> Runs | None:
        """None: VMLADAV adds to whole accumulators."""
        return None

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the column buffer."""
        return self.columns.bytes

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
        (count, last), vector = self.tiles, self.vector and rows == LANES
        looped = self.vectors // schedule.unroll if self.vectors > schedule.unroll else 0
        products = f"w{spec.w_bits}t{tile}"
        features: Features = {
            f"multiply_{products}": steps * spec.group_outputs * self.chunks,
            f"field_{products}": steps * count * (self.vectors if looped else 0),
            f"loop_r{rows}t{tile}": steps * count * looped,
            f"block_r{rows}t{tile}{'v' if vector else ''}": steps * count,
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
        return features if columns.direct else features | columns.instruction_features(steps * tile)

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        spec, columns, schedule = self.spec, self.columns, self.schedule
        tile, (count, last) = schedule.pixels, self.tiles
        looped = self.vectors > schedule.unroll
        spelled = schedule.unroll * self.fields + self.rest if looped else self.chunks
        return {
            f"code_multiply_w{spec.w_bits}t{tile}": spelled * ((schedule.rows if count else 0) + last),
            f"code_block_r{schedule.rows}t{tile}": 1 if count else 0,
            f"code_last_t{tile}": last,
            **spec.result_code(tile * (1 + last)),
            f"code_loop_t{tile}": (1 if count else 0) + bool(last) if looped else 0,
            "code_grouped": spec.groups > 1,
            "code_odd_pixels": spec.y.pixels % tile != 0,
            "code_conv": 1,
            **({} if columns.direct else columns.code_features()),
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
        self.pixel = b.array("pixel", self.pixels)
        self.sources: list[Any] = []

    def loops(self) -> None:
        """Visit groups, tiles of pixels and tiles of channels."""
        spec, b, form = self.spec, self.b, self.form
        tile, rows = self.pixels, form.schedule.rows
        count, rest = form.tiles
        with b.loop(spec.groups) as group, b.loop(-(-spec.pixels // tile)) as step:
            spec.store_tile(b, self.pixel, step)
            if not self.columns.direct:
                with b.loop(tile) as slot:
                    index = step * tile + slot
                    at = b.array("at", 1)
                    b.store(at, 0, b.T.min(index, spec.pixels - 1) if spec.pixels % tile else index)
                    self.columns.emit(b, spec.output_pixel(b, at[0]), slot, group)
            if self.columns.direct:
                sources = [spec.output_pixel(b, self.pixel[j]) for j in range(tile)]
                self.sources = [b.bind(b.address(b["x"], pixel * spec.x.row)) for pixel in sources]
            else:
                words = self.columns.chunks * CHUNK // 4
                self.sources = [b.bind(b.address(b["col"], j * words)) for j in range(tile)]
            first, start = group * spec.group_outputs, group * form.group_vectors
            if count:
                with b.loop(count) as block:
                    self._tile(rows, first + block * rows, start + block * form.tile_vectors(rows))
            if rest:
                self._tile(rest, first + count * rows, start + count * form.tile_vectors(rows))

    def _tile(self, rows: int, first: Any, start: Any) -> None:
        """Compute a tile of channels from `first` on, whose weights begin at vector `start`."""
        spec, b, tile = self.spec, self.b, self.pixels
        vector, arithmetic = self.form.vector and rows == LANES, arithmetic_of(spec.mode)
        acc = b.array("acc", rows * tile)
        if not vector:
            for i in range(rows * tile):
                b.store(acc, i, b["bias"][first + i // tile])
        self._product(acc, rows, start, started=not vector)
        code = b.array("code", rows * tile)
        if not vector:
            self._scalar(code, acc, rows, first)
            return
        lanes = f"{arithmetic.lanes}{lanes_of(spec.quick)}"
        for j in range(tile):
            own = b.address(code, LANES * j)
            sums = [acc[row * tile + j] for row in range(rows)]
            factors = b.address(b["s"], first * arithmetic.words)
            b.do(lanes, own, *sums, b.address(b["bias"], first), factors, b["zero"])
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

    def _product(self, acc: Any, rows: int, start: Any, *, started: bool) -> None:
        """Sum up the products of all taps, on top of what the accumulators hold where they are `started`."""
        form, b, fields, unroll = self.form, self.b, self.form.fields, self.form.schedule.unroll
        places = list(form.places(rows))
        looped = form.vectors // unroll if form.vectors > unroll else 0
        running = set(range(rows * self.pixels)) if started else set()

        def multiply(own: list[tuple[int, int, int, int]], w: Any, chunk: Any) -> None:
            """Multiply with weights behind the vector w and the vector `chunk` of the field."""
            xs = [b.call("t_at", source, chunk * CHUNK, dtype="handle") for source in self.sources]
            for row, k, vector, field in own:
                weights = b.call("t_at", w, vector * CHUNK, dtype="handle")
                left = [] if fields == 1 else [8 - self.spec.w_bits * (field + 1)]
                for j, x in enumerate(xs):
                    index = row * self.pixels + j
                    operands = (weights, *left, b.call("t_at", x, k * CHUNK, dtype="handle"))
                    if index in running:
                        b.store(acc, index, b.call(f"t_vmac{self.spec.w_bits}", acc[index], *operands))
                    else:
                        b.store(acc, index, b.call(f"t_vmul{self.spec.w_bits}", *operands))
                    running.add(index)

        def weights(vector: Any) -> Any:
            return b.address(b["w"], (start + vector) * (CHUNK // 4))

        if looped:
            for i in set(range(rows * self.pixels)) - running:
                b.store(acc, i, 0)
                running.add(i)
            with b.loop(looped) as outer:
                multiply(places[: unroll * rows * fields], weights(outer * (unroll * rows)), outer * (unroll * fields))
        multiply(places[form.vectors * rows * fields if looped else 0 :], weights(0), 0)
