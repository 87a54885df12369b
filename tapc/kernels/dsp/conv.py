"""Convolution with SMLAD: a register tile of output channels x pixels over interleaved int16 columns.

Four taps of a tile of 2 x 2 take three LDRD, four unpackings and eight SMLAD, for sixteen multiply-accumulates.

4- and 2-bit weights are unpacked into the top bits of half-words, where their sign is right: the accumulators then hold
2^(16 - bits) times the sum, which the requantization factors undo exactly. Where a layer's weights do not rule out that
such an accumulator overflows, it is shifted back and added up after each run of weight words that rules it out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import arithmetic_of
from tapc.kernels import nested
from tapc.kernels.builder import Body
from tapc.kernels.conv import Direct, Runs, add_residual
from tapc.kernels.dsp.ahead import AHEAD, ProductsAhead
from tapc.kernels.dsp.columns import Columns, top_fields
from tapc.kernels.dsp.nested import BEYOND, Products
from tapc.kernels.dsp.pairs import load2
from tapc.kernels.forms import register
from tapc.kernels.layout import requantize_each
from tapc.kernels.packing import pair_words, weights_per_word
from tapc.kernels.schedule import Schedule, largest_divisor, least_padding
from tapc.kernels.spec import Features
from tapc.kernels.window import inside_taps, whole_windows

TAPS = {8: 48, 4: 64, 2: 64}  # weight bits -> taps that a loop's body spells out, at most
LONGEST = 96  # the same, for tuning
_LOOPS = 4  # of nested weights, for tuning
SHORT = 16  # with no more taps, unpacking narrow weights costs more instructions than it saves


@register("conv", "dsp")
@dataclass(frozen=True)
class DspConv(Direct):
    """How a convolution is computed on a core with the DSP extension."""

    buffered = True

    @property
    def schedule(self) -> Schedule:
        """The tuned schedule, or a good one for the shape."""
        spec = self.spec
        if spec.tuned is not None:
            return spec.tuned
        pixels = 1 if spec.pixels == 1 else 2
        rows = least_padding(spec.group_outputs, (4, 2)) if pixels == 1 else 2
        return Schedule(rows, pixels, self._unroll(TAPS[spec.w_bits]))

    @property
    def _whole(self) -> int:
        """Weight words of an output channel that are used in full, at least 1."""
        return max(-(-self.spec.taps // 4) * 4 // weights_per_word(self.spec.w_bits), 1)

    def _unroll(self, taps: int) -> int:
        """Return the most words of at most so many taps that divide a run."""
        return largest_divisor(self.spec.run or self._whole, taps // weights_per_word(self.spec.w_bits))

    def candidates(self) -> tuple[Schedule, ...]:
        """Return schedules that tuning may try, longest loops first."""
        if self.schedule.nested:
            loops = range(1, min(self.words, _LOOPS) + 1)
            return tuple(replace(self.schedule, unroll=self.words // n) for n in loops)
        tiles = [(2, 2), (4, 1), (2, 1), (4, 2)] if self.spec.pixels > 1 else [(4, 1), (2, 1)]
        longest = self._unroll(LONGEST)
        unrolls = [n for n in range(longest, 0, -1) if (self.spec.run or self._whole) % n == 0]
        return tuple(Schedule(rows, pixels, n) for n in unrolls for rows, pixels in tiles)

    def nested(self, taps: int, *, single: bool) -> Schedule | None:
        """Return the schedule in which two weights share a half-word."""
        own = self.schedule if self.spec.group_outputs > 1 else Schedule(1, 1, 1)
        return nested.schedule(own, self.columns.padded // 4, taps, single=single)

    @property
    def columns(self) -> Columns:
        """The column buffer."""
        spec, own = self.spec, self.schedule
        return Columns(spec.x, spec.y, spec.window, spec.groups, own.pixels, own.nested)

    @property
    def words(self) -> int:
        """Weight words of one output channel; the last may be used in part."""
        return -(-self.columns.padded // weights_per_word(self.spec.w_bits))

    @property
    def shift(self) -> int:
        """Power of two that the accumulators are multiplied by in the end."""
        return 0 if self.spec.run else self.top

    @property
    def top(self) -> int:
        """Power of two that the weights are multiplied by."""
        if self.schedule.nested:
            return nested.SHIFT
        return 16 - self.spec.w_bits if self.spec.w_bits < 8 else 0

    @property
    def stored_bits(self) -> int:
        """Bits to store each weight with: whole bytes for a few taps."""
        return 8 if self.schedule.nested or self.spec.taps <= SHORT else self.spec.w_bits

    @property
    def runs(self) -> Runs | None:
        """Runs of words at the top of an accumulator; nested weights are proved to need none."""
        if self.schedule.nested:
            return None
        return Runs(32 - self.top, self._whole, self.columns.order(), self.top) if self.top else None

    @property
    def single(self) -> bool:
        """Whether words are loaded one by one, ahead of their products."""
        own = self.schedule
        return own.single and ((own.rows, own.pixels) == (2, 2) or own.nested) and not self.spec.run

    @property
    def ahead(self) -> int:
        """Words that are loaded beyond the last, and not used."""
        return (BEYOND if self.schedule.nested else AHEAD) if self.single else 0

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the column buffer."""
        return self.columns.bytes + 4 * self.ahead

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        tiles = -(-self.spec.group_outputs // self.schedule.rows)
        return self.spec.groups * tiles * self.schedule.rows * self.words + self.ahead

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Lay weights out in reading order: per group and tile, words of the tile's channels, alternating."""
        spec, rows, column = self.spec, self.schedule.rows, self._ordered(weights)
        column = column.reshape(spec.groups, spec.group_outputs, -1)
        rest = -column.shape[-1] % weights_per_word(spec.w_bits)
        column = np.pad(column, ((0, 0), (0, -spec.group_outputs % rows), (0, rest)))
        words = nested.nested_words(column) if self.schedule.nested else pair_words(column, spec.w_bits)
        return np.pad(words.reshape(spec.groups, -1, rows, words.shape[-1]).swapaxes(2, 3).ravel(), (0, self.ahead))

    def _ordered(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the weights of each output channel as a column has its taps."""
        order, flat = self.columns.order(), weights.reshape(len(weights), -1)
        found: NDArray[np.int8] = np.where(order >= 0, flat[:, np.maximum(order, 0)], 0)
        return found

    def lacking(self, weights: NDArray[np.int8]) -> NDArray[np.int64]:
        """Return what the sums of nested weights lack."""
        if not self.schedule.nested:
            return super().lacking(weights)
        return nested.lacking(self._ordered(weights))

    def _products(self, rows: int, blocks: int) -> Features:
        """Count the multiplication of so many tiles."""
        w_bits, tile, quads = self.spec.w_bits, self.schedule.pixels, blocks * self.columns.padded / 4
        if self.schedule.nested:
            # Of a lone tile the compiler leaves out what is computed of no channel.
            share = min(self.schedule.rows, self.spec.group_outputs) / self.schedule.rows
            return {f"multiply_{self._key}": blocks * self.words * share}
        if rows == 1:
            return {f"quad_w{w_bits}r1": quads, "quad_r1tile": quads if tile > 1 else 0}
        key = f"w{w_bits}r{rows}t{tile}{'s' if self.single else ''}"
        return {f"multiply_{key}": blocks * self.words, f"quad_{key}": quads}

    @property
    def _key(self) -> str:
        """What features call the tile and how its words are loaded."""
        own = self.schedule
        return f"r{own.rows}t{own.pixels}{'s' if self.single else ''}{'n' if own.nested else ''}"

    @property
    def _known_rows(self) -> int:
        """Rows of a lone tile, by which its parts are called."""
        return 1 if self.spec.group_outputs == 1 else self.schedule.rows

    def instruction_features(self) -> Features:
        """Count columns, products and results of all tiles."""
        spec, columns, schedule = self.spec, self.columns, self.schedule
        tile = schedule.pixels
        steps = -(-spec.y.pixels // tile) * spec.groups
        slots = steps * tile
        window, kind = spec.window, columns.kind
        inside = inside_taps(spec.x, spec.y, window)[1] / spec.y.pixels
        whole = whole_windows(spec.x, spec.y, window) / spec.y.pixels
        tiles = -(-spec.group_outputs // schedule.rows)
        blocks = steps * tiles
        # The compiler leaves out what a lone tile computes of no channel.
        rows = schedule.rows if tiles > 1 else self._known_rows
        odd = "odd" if tiles > 1 and spec.group_outputs % rows else ""
        quads = columns.run * columns.source_bits // 32 * columns.runs
        single = columns.run % 4 * columns.runs if kind != "words" else 0
        outer = self.words // schedule.unroll
        load = f"a{columns.source_bits}t{tile}{'n' if columns.nested else ''}"
        features: Features = {
            **self._products(rows, blocks),
            f"loop_{self._key if rows > 1 else f'r1t{tile}'}": blocks * outer if outer > 1 else 0,
            f"block_{self._key if columns.nested else f'r{rows}t{tile}'}{odd}": blocks,
            "block_next": blocks if tiles > 1 else 0,
            **spec.result_features(blocks * min(rows, spec.group_outputs) * tile),
            f"pixel_{kind}t{tile}{'point' if window.taps == 1 else ''}": slots,
            f"load_{load}": slots * quads * (whole if kind == "words" else 1),
            f"run_{load}": slots * columns.runs * (whole if kind == "words" else 1),
            f"single_{load}": slots * single,
            f"run_r{rows}t{tile}": blocks * -(-self.words // spec.run) if spec.run else 0,
            "group": spec.groups,
            "call": 1,
        }
        if kind == "words" and whole < 1:
            outside = slots * (window.taps - inside)
            partly = slots * (inside - whole * window.taps)
            features[f"tapload_{load}"] = partly * columns.depth * columns.x.bits / 32
            features[f"tap_{load}"] = partly
            features[f"pad_{load}"] = outside * columns.depth
            features[f"outside_{load}"] = outside
        gathered = slots * (1.0 if kind == "gather" else 1 - whole if kind == "runs" else 0.0)
        if gathered:
            features[f"gather_a{spec.x.bits}"] = gathered * columns.taps
            features["gather_tap"] = gathered * window.taps
            # Of an even number of channels it is known which half of a byte each is.
            features["gather_unknown"] = gathered * columns.taps if spec.x.bits == 4 and columns.depth % 2 else 0
        return features

    @property
    def _spelled(self) -> int:
        """Words of a channel that the machine code has, those behind a loop included."""
        return self.schedule.unroll + (self.words % self.schedule.unroll if self.schedule.nested else 0)

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        spec, columns, schedule = self.spec, self.columns, self.schedule
        tile, kind = schedule.pixels, columns.kind
        single = columns.run % 4 * columns.runs if kind != "words" else 0
        quads = columns.run * columns.source_bits // 32
        odd, nests = "odd" if spec.group_outputs % schedule.rows else "", "n" if columns.nested else ""
        features: Features = {
            f"code_column_{kind}{'' if columns.inside else 'border'}t{tile}": 1,
            f"code_load_a{columns.source_bits}t{tile}{nests}": min(quads, largest_divisor(max(quads, 1), 4)),
            f"code_singlet{tile}": single,
            f"code_multiply_{'' if columns.nested else f'w{spec.w_bits}'}{self._key}": self._spelled,
            f"code_block_r{schedule.rows}t{tile}{odd}": 1,
            **spec.result_code(schedule.rows * tile),
            "code_clear": (columns.padded // 2 - -(-columns.taps // 2)) * tile,
        }
        features |= {"code_run": 1} if spec.run else {}
        features |= {"code_grouped": 1} if spec.groups > 1 else {}
        features |= {"code_odd_pixels": 1} if spec.y.pixels % tile else {}
        return features

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        _emit(self, b)


def _emit(form: DspConv, b: Body) -> None:
    """Write a convolution's statements."""
    spec, columns, pixels = form.spec, form.columns, form.schedule.pixels
    pixel = b.array("pixel", pixels)
    columns.clear(b)
    with b.loop(spec.groups) as group, b.loop(-(-spec.pixels // pixels)) as step:
        spec.store_tile(b, pixel, step)
        for j in range(pixels):
            columns.emit(b, spec.output_pixel(b, pixel[j]), j, group)
        _tiles(form, b, pixel, group)


def _tiles(form: DspConv, b: Body, pixel: Any, group: Any) -> None:
    """Compute all output channels of the tile's pixels."""
    spec, rows, pixels, T = form.spec, form.schedule.rows, form.schedule.pixels, b.T
    tiles = -(-spec.group_outputs // rows)
    acc, code = b.array("acc", rows * pixels), b.array("code", rows * pixels)
    rest, back = spec.group_outputs % rows, 0 if arithmetic_of(spec.mode).homogeneous else form.shift
    with b.loop(tiles) as block:
        first = group * spec.group_outputs + block * rows
        last = (group + 1) * spec.group_outputs - 1

        def channel(row: int) -> Any:
            return T.min(first + row, last) if rest and row >= rest else first + row

        for row in range(rows):
            for j in range(pixels):
                b.store(acc, row * pixels + j, b["bias"][channel(row)])
        _product(form, b, acc, (group * tiles + block) * form.words * rows)
        count, bits = rows * pixels, 0 if spec.clamped else spec.y.bits
        totals = [acc[i] if not back else b.bind(T.shift_right(acc[i], back)) for i in range(count)]
        of_each = [channel(i // pixels) for i in range(count)]
        requantize_each(b, spec.mode, totals, of_each, bits, spec.quick, code)
        if spec.residual_bits:
            for row in range(rows):
                for j in range(pixels):
                    add_residual(spec, b, code, row * pixels + j, pixel[j], channel(row))

        # All codes of the tile exist before the first store: the residual may live where y is written.
        even = spec.pixels % pixels == 0
        place = b.bind(b.address(b["y"], pixel[0] * spec.y.row + first)) if spec.y.bits == 8 and even else None
        for row in range(rows):

            def write(row: int = row) -> None:
                for j in range(pixels):
                    value = code[row * pixels + j]
                    if place is None:
                        spec.y.store(b, b["y"], pixel[j], first + row, value)
                    else:
                        b.do("t_store8", place, j * spec.y.row + row, value)

            if rest and row >= rest:
                b.when(first + row <= last, write)
            else:
                write()


def _product(form: DspConv, b: Body, acc: Any, start: Any) -> None:
    """Add the products of all taps to the accumulators; the tile's weights begin at word `start`."""
    spec, schedule = form.spec, form.schedule
    rows, pixels, run = schedule.rows, schedule.pixels, schedule.unroll
    groups = weights_per_word(spec.w_bits) // 4
    whole, rest = divmod(form.columns.padded // 4, groups)
    if schedule.nested:
        Products(b, schedule, acc, start).emit(whole)
        return
    if form.single:
        ProductsAhead(b, spec.w_bits, acc, start).emit(whole, 2 * rest, run)
        return
    weights, taps, pair = b.array("weights", rows), b.array("taps", 2), b.array("pair", 1)

    def word(w: Any, col: Any, k: int, used: int) -> None:
        """Multiply the taps of the k-th word behind the pointers w and col."""
        for row in range(0, rows, 2):
            load2(b, w, k * rows + row, b.address(weights, row))
        for g in range(used):
            for half in range(2):
                place = ((k * groups + g) * 2 + half) * pixels
                if pixels == 2 or half == 0:
                    load2(b, col, place, b.address(taps, 0))
                for row in range(rows):
                    b.store(pair, 0, top_fields(b, weights[row], spec.w_bits, 2 * g + half))
                    for j in range(pixels):
                        index = row * pixels + j
                        b.store(acc, index, b.call("t_smlad", pair[0], taps[j if pixels == 2 else half], acc[index]))

    def pointers(k: Any) -> tuple[Any, Any]:
        return b.address(b["w"], start + k * rows), b.address(b["col"], k * groups * pixels * 2)

    def span(first: Any, count: int, rest: int = 0) -> None:
        """Multiply `count` whole words from word `first` on, then `rest` groups of the next."""
        looped = count // run if count > run else 0
        if looped:
            with b.loop(looped) as outer:
                for k in range(run):
                    word(*pointers(first + outer * run), k, groups)
        spelled = 0 if looped else count
        base = pointers(first + count - spelled)
        for k in range(spelled):
            word(*base, k, groups)
        if rest:
            word(*base, spelled, rest)

    if not spec.run:
        span(0, whole, rest)
        return
    total = b.array("total", rows * pixels)

    def flushed(multiply: Callable[[], None]) -> None:
        for i in range(rows * pixels):
            b.store(acc, i, 0)
        multiply()
        for i in range(rows * pixels):
            b.store(total, i, total[i] + b.T.shift_right(acc[i], form.top))

    for i in range(rows * pixels):
        b.store(total, i, acc[i])
    if whole:
        with b.loop(whole // spec.run) as r:
            flushed(lambda: span(r * spec.run, spec.run))
    if rest:
        flushed(lambda: span(whole, 0, rest))
    for i in range(rows * pixels):
        b.store(acc, i, total[i])
