"""Convolution without SIMD.

Where the weights prove that no sum of a run of taps leaves 16 bits, two pixels share each word of the column,
x0 + 65536 x1: one MULS multiplies both by a weight, and the run's two sums are taken apart after its last tap.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.conv import Direct, Runs, add_residual
from tapc.kernels.forms import register
from tapc.kernels.layout import Channel
from tapc.kernels.packing import linear_words, weights_per_word
from tapc.kernels.scalar.columns import Columns
from tapc.kernels.schedule import Schedule, largest_divisor
from tapc.kernels.spec import Features
from tapc.kernels.window import inside_taps, whole_windows

# Weight bits -> taps multiplied between two tests of the loop counter, at most: with more, 8-bit kernels grow by a
# third and gain 4 %.
TAPS = {8: 8, 4: 16, 2: 16}
LONGEST = 32  # the same, for tuning


@register("conv", "scalar")
@dataclass(frozen=True)
class ScalarConv(Direct):
    """How a convolution is computed on a core without SIMD."""

    buffered = True
    shift = 0

    @property
    def per_word(self) -> int:
        """Weights of a word."""
        return weights_per_word(self.spec.w_bits)

    @property
    def words(self) -> int:
        """Weight words of one output channel."""
        return -(-self.spec.taps // self.per_word)

    @property
    def packed(self) -> bool:
        """Whether two pixels share each word of the column."""
        return self.spec.run > 0

    @property
    def schedule(self) -> Schedule:
        """The tuned schedule, or a good one for the shape."""
        if self.spec.tuned is not None:
            return self.spec.tuned
        unroll = largest_divisor(self.spec.run or self.words, max(TAPS[self.spec.w_bits] // self.per_word, 1))
        return Schedule(1, 1 if self.spec.pixels == 1 else 2, unroll)

    def candidates(self) -> tuple[Schedule, ...]:
        """Return schedules that tuning may try, longest loops first."""
        run = self.spec.run or self.words
        limit = min(run, max(LONGEST // self.per_word, 1))
        tiles = [2] if self.packed else [1] if self.spec.pixels == 1 else [2, 1]
        return tuple(Schedule(1, j, n) for n in range(limit, 0, -1) if run % n == 0 for j in tiles)

    @property
    def columns(self) -> Columns:
        """The column buffer."""
        spec = self.spec
        return Columns(spec.x, spec.y, spec.window, spec.groups, self.schedule.pixels, self.packed)

    @property
    def stored_bits(self) -> int:
        """Bits to store each weight with: what it has."""
        return self.spec.w_bits

    @property
    def runs(self) -> Runs | None:
        """Runs whose sums two pixels hold in a word together."""
        return Runs(16, self.words, np.arange(self.spec.taps), None) if self.spec.pixels > 1 else None

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the columns; those behind the last tap meet weights of zero."""
        return 4 * self.words * self.per_word * self.columns.stride

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        return self.spec.y.channels * self.words

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Pack the weights channel by channel, in two's complement, each from a new word on."""
        flat = weights.reshape(self.spec.y.channels, -1)
        padded = np.pad(flat, ((0, 0), (0, self.words * self.per_word - flat.shape[1])))
        return linear_words(padded, self.spec.w_bits, signed=True)

    def instruction_features(self) -> Features:
        """Count columns, products and results of all tiles."""
        spec, columns, schedule = self.spec, self.columns, self.schedule
        tile = schedule.pixels
        slots = -(-spec.y.pixels // tile) * spec.groups * tile
        outputs = -(-spec.y.pixels // tile) * spec.y.channels
        whole = whole_windows(spec.x, spec.y, spec.window) / spec.y.pixels
        inside = inside_taps(spec.x, spec.y, spec.window)[1] / spec.y.pixels
        products = f"w{spec.w_bits}{'p' if self.packed else ''}t{tile}"
        load = f"a{spec.x.bits}{'h' if columns.paired else ''}{'p' if self.packed else ''}"
        border = "" if spec.window.inside(spec.x, spec.y) else "border"
        partly = slots * (inside - whole * spec.window.taps)
        looped = (spec.run if self.packed else self.words) > schedule.unroll
        return {
            f"multiply_{products}": outputs * self.words,
            # A loop of one turn is none.
            f"loop_{products}": outputs * self.words / schedule.unroll if looped else 0,
            "output_next": outputs if spec.group_outputs > 1 else 0,
            f"run_{products}": outputs * self.words / spec.run if self.packed else 0,
            f"output_t{tile}": outputs,
            **spec.result_features(outputs * tile),
            f"load_{load}": slots * (whole * spec.taps + (inside - whole * spec.window.taps) * columns.depth),
            f"row_{load}": slots * whole * (spec.window.taps if columns.scattered else spec.window.height),
            f"tap_{load}": partly,
            f"pad_{load}": slots * (spec.window.taps - inside) * columns.depth,
            f"pixel{border}": slots,
            "group": spec.groups,
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        spec, columns, schedule = self.spec, self.columns, self.schedule
        products = f"w{spec.w_bits}{'p' if self.packed else ''}t{schedule.pixels}"
        border = "" if spec.window.inside(spec.x, spec.y) else "border"
        load = f"a{spec.x.bits}{'h' if columns.paired else ''}{border}t{schedule.pixels}"
        return {
            f"code_multiply_{products}": schedule.unroll,
            f"code_column_{load}": 1,
            **spec.result_code(schedule.pixels),
            f"code_output_t{schedule.pixels}": 1,
            "code_grouped": spec.groups > 1,
            "code_conv": 1,
        }

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        spec, pixels = self.spec, self.schedule.pixels
        pixel = b.array("pixel", pixels)
        with b.loop(spec.groups) as group, b.loop(-(-spec.pixels // pixels)) as step:
            spec.store_tile(b, pixel, step)
            for j in range(pixels):
                self.columns.emit(b, spec.output_pixel(b, pixel[j]), j, group)
            with b.loop(spec.group_outputs) as output:
                channel = group * spec.group_outputs + output
                acc, code = b.array("acc", pixels), b.array("code", pixels)
                for j in range(pixels):
                    b.store(acc, j, b["bias"][channel])
                _product(self, b, acc, channel * self.words)
                codes = Channel(b, spec.mode, channel, spec.quick, 0 if spec.clamped else spec.y.bits)
                for j in range(pixels):
                    b.store(code, j, codes.code(acc[j]))
                if spec.residual_bits:
                    for j in range(pixels):
                        add_residual(spec, b, code, j, pixel[j], channel)
                for j in range(pixels):
                    spec.y.store(b, b["y"], pixel[j], channel, code[j])


def _product(form: ScalarConv, b: Body, acc: Any, start: Any) -> None:
    """Add the products of all taps to the accumulators; the channel's weights begin at word `start`."""
    spec, schedule, per_word = form.spec, form.schedule, form.per_word
    word, weight = b.array("word", 1), b.array("weight", 1)
    stride = form.columns.stride
    sums = b.array("total", 1) if form.packed else acc

    def multiply(index: Any, count: int) -> None:
        """Multiply the taps of `count` words from `index` on."""
        with b.loop(count // schedule.unroll) as outer:
            for k in range(schedule.unroll):
                at = index + outer * schedule.unroll + k
                b.store(word, 0, b["w"][start + at])
                for t in range(per_word):
                    left = 32 - spec.w_bits * (t + 1)
                    b.store(weight, 0, b.call("t_signed", word[0], left, 32 - spec.w_bits))
                    for j in range(stride):
                        x = b["col"][(at * per_word + t) * stride + j]
                        b.store(sums, j, b.call("t_mac", sums[j], weight[0], x))

    if not form.packed:
        multiply(0, form.words)
        return

    with b.loop(form.words // spec.run) as run:
        b.store(sums, 0, 0)
        multiply(run * spec.run, spec.run)
        b.store(acc, 0, acc[0] + b.call("t_low", sums[0]))
        b.store(acc, 1, acc[1] + b.call("t_high", sums[0]))
