"""Convolution with SMLAD: a register tile of output channels x pixels over interleaved int16 columns.

Four taps of a tile of 2 x 2 take three LDRD, four unpackings and eight SMLAD, for sixteen multiply-accumulates.

4- and 2-bit weights are unpacked into the top bits of half-words, where their sign is right: the accumulators then hold
2^(16 - bits) times the sum, which the requantization factors undo exactly. Where a layer's weights do not rule out that
such an accumulator overflows, they are stored with an offset of 2^(bits-1) instead: the surplus offset * sum(x) is the
same for all output channels, so each pixel's sum is taken once, while its column is made, and subtracted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.dsp.columns import Columns, fields
from tapc.kernels.layout import add_residual, requantize
from tapc.kernels.packing import pair_words, weights_per_word
from tapc.kernels.schedule import Schedule, largest_divisor, least_padding

if TYPE_CHECKING:
    from tapc.kernels.conv import ConvSpec

LONGEST = 24  # groups of four taps that a loop's body may spell out


@dataclass(frozen=True)
class DspConv:
    """How a convolution is computed on a core with the DSP extension."""

    spec: "ConvSpec"

    @property
    def schedule(self) -> Schedule:
        """The tuned schedule, or a good one for the shape."""
        spec = self.spec
        if spec.tuned is not None:
            return spec.tuned
        pixels = 1 if spec.y.pixels == 1 else 2
        rows = least_padding(spec.group_outputs, (4, 2)) if pixels == 1 else 2
        return Schedule(rows, pixels, largest_divisor(self._whole, 48 // weights_per_word(spec.w_bits)))

    @property
    def _whole(self) -> int:
        """Weight words of an output channel that are used in full, at least 1."""
        return max(-(-self.spec.taps // 4) * 4 // weights_per_word(self.spec.w_bits), 1)

    def candidates(self) -> tuple[Schedule, ...]:
        """Return schedules that tuning may try, longest loops first."""
        tiles = [(2, 2), (4, 1), (2, 1), (4, 2)] if self.spec.y.pixels > 1 else [(4, 1), (2, 1)]
        limit = min(self._whole, LONGEST * 4 // weights_per_word(self.spec.w_bits))
        unrolls = [n for n in range(limit, 0, -1) if self._whole % n == 0]
        return tuple(Schedule(rows, pixels, n) for n in unrolls for rows, pixels in tiles)

    @property
    def columns(self) -> Columns:
        """The column buffer."""
        return Columns(self.spec.x, self.spec.y, self.spec.window, self.spec.groups, self.schedule.pixels)

    @property
    def words(self) -> int:
        """Weight words of one output channel; the last may be used in part."""
        return -(-self.columns.padded // weights_per_word(self.spec.w_bits))

    @property
    def shift(self) -> int:
        """Power of two that the accumulators are multiplied by."""
        return 16 - self.spec.w_bits if self.spec.top else 0

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the column buffer."""
        return self.columns.bytes

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        tiles = -(-self.spec.group_outputs // self.schedule.rows)
        return self.spec.groups * tiles * self.schedule.rows * self.words

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Lay weights out in reading order: per group and tile, words of the tile's channels, alternating."""
        spec, order, rows = self.spec, self.columns.order(), self.schedule.rows
        flat = weights.reshape(spec.groups, spec.group_outputs, -1)
        column = np.where(order >= 0, flat[:, :, np.maximum(order, 0)], 0)
        rest = -len(order) % weights_per_word(spec.w_bits)
        column = np.pad(column, ((0, 0), (0, -spec.group_outputs % rows), (0, rest)))
        words = pair_words(column, spec.w_bits, signed=spec.top)
        return words.reshape(spec.groups, -1, rows, words.shape[-1]).swapaxes(2, 3).ravel()

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        _emit(self, b)


def _emit(form: "DspConv", b: Body) -> None:
    """Write a convolution's statements."""
    spec, columns, pixels = form.spec, form.columns, form.schedule.pixels
    pixel = b.array("pixel", pixels)
    total = b.array("total", pixels) if spec.w_bits < 8 and not spec.top else None
    columns.clear(b)
    with b.loop(spec.groups) as group, b.loop(-(-spec.y.pixels // pixels)) as step:
        for j in range(pixels):
            # The last tile of an image that it does not divide computes the last pixel again.
            index = step * pixels + j
            b.store(pixel, j, b.T.min(index, spec.y.pixels - 1) if spec.y.pixels % pixels and j else index)
        for j in range(pixels):
            columns.emit(b, pixel[j], j, group, total)
        if total is not None:
            for j in range(pixels):
                b.store(total, j, total[j] * -(1 << (spec.w_bits - 1)))
        _tiles(form, b, pixel, total, group)


def _tiles(form: "DspConv", b: Body, pixel: Any, total: Any, group: Any) -> None:
    """Compute all output channels of the tile's pixels."""
    spec, rows, pixels, T = form.spec, form.schedule.rows, form.schedule.pixels, b.T
    tiles = -(-spec.group_outputs // rows)
    acc, code = b.array("acc", rows * pixels), b.array("code", rows * pixels)
    rest = spec.group_outputs % rows
    with b.loop(tiles) as block:
        first = group * spec.group_outputs + block * rows
        last = (group + 1) * spec.group_outputs - 1

        def channel(row: int) -> Any:
            return T.min(first + row, last) if rest and row >= rest else first + row

        for row in range(rows):
            for j in range(pixels):
                bias = b["bias"][channel(row)]
                b.store(acc, row * pixels + j, bias if total is None else bias + total[j])
        _product(form, b, acc, (group * tiles + block) * form.words * rows)
        for row in range(rows):
            for j in range(pixels):
                index = row * pixels + j
                bits = 0 if spec.clamped else spec.y.bits
                value = requantize(b, spec.mode, acc[index], channel(row), bits)
                b.store(code, index, value)
        if spec.residual_bits:
            for row in range(rows):
                for j in range(pixels):
                    add_residual(spec, b, code, row * pixels + j, pixel[j], channel(row))

        # All codes of the tile exist before the first store: the residual may live where y is written.
        for row in range(rows):

            def write(row: int = row) -> None:
                for j in range(pixels):
                    spec.y.store(b, b["y"], pixel[j], first + row, code[row * pixels + j])

            if rest and row >= rest:
                b.when(first + row <= last, write)
            else:
                write()


def _product(form: "DspConv", b: Body, acc: Any, start: Any) -> None:
    """Add the products of all taps to the accumulators; the tile's weights begin at word `start`."""
    spec, schedule = form.spec, form.schedule
    rows, pixels, run = schedule.rows, schedule.pixels, schedule.unroll
    groups = weights_per_word(spec.w_bits) // 4
    weights, taps, pair = b.array("weights", rows), b.array("taps", 2), b.array("pair", 1)

    def word(w: Any, col: Any, k: int, used: int) -> None:
        """Multiply the taps of the k-th word behind the pointers w and col."""
        for row in range(0, rows, 2):
            b.do("t_load2", w, k * rows + row, b.address(weights, row))
        for g in range(used):
            for half in range(2):
                place = ((k * groups + g) * 2 + half) * pixels
                if pixels == 2 or half == 0:
                    b.do("t_load2", col, place, b.address(taps, 0))
                for row in range(rows):
                    b.store(pair, 0, fields(b, weights[row], spec.w_bits, 2 * g + half, top=spec.top))
                    for j in range(pixels):
                        index = row * pixels + j
                        b.store(acc, index, b.call("t_smlad", pair[0], taps[j if pixels == 2 else half], acc[index]))

    def pointers(k: Any) -> tuple[Any, Any]:
        return b.address(b["w"], start + k * rows), b.address(b["col"], k * groups * pixels * 2)

    whole, rest = divmod(form.columns.padded // 4, groups)
    if whole > run:
        with b.loop(whole // run) as outer:
            for k in range(run):
                word(*pointers(outer * run), k, groups)
    once = whole if whole <= run else 0  # what follows the loop, or stands alone
    for k in range(once):
        word(*pointers(0), k, groups)
    if rest:
        word(*pointers(whole - once), once, rest)
