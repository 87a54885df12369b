"""Depthwise convolution without SIMD: two outputs share each multiplication.

A channel's image is expanded once, with its border, into a scratch plane of words, x0 + 65536 x1: the codes of two rows
that lie half of the output apart. One MULS multiplies both by a weight. Of the words' sums over all taps, and those of
their upper halves after each run of taps that is proved to stay within 16 bits, both sums follow.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.expanded import Expanded
from tapc.kernels.forms import register
from tapc.kernels.layout import Channel, Plane
from tapc.kernels.packing import linear_words, weights_per_word
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features
from tapc.kernels.turned import Turned

SIDE = 2  # words of outputs side by side, which share each weight
MOST = 32  # taps of such words
SHARED = 2  # taps that words side by side take in turn
FEW = 16  # outputs of a row where a word more than needed is worth code of its own
SPELLED = 4  # words of a row that are filled between two tests of the loop counter


@dataclass(frozen=True)
class _Channel:
    """What the outputs of a channel share: its number, taps, first sums of words and of upper halves, and factor."""

    index: Any
    taps: Any
    start: tuple[Any, Any]
    codes: Channel


@register("depthwise", "scalar")
@dataclass(frozen=True)
class ScalarDepthwise(Turned):
    """How a depthwise convolution is computed on a core without SIMD."""

    spec: DepthwiseSpec

    in_place = True
    run_bits: ClassVar[int | None] = 16

    @property
    def turned(self) -> bool:
        """Whether rows are the columns of the image: those of a single line of outputs have halves."""
        return self.spec.y.height == 1 < self.spec.y.width

    @property
    def half(self) -> int:
        """Rows of words of outputs: a word's second one lies `apart` rows further."""
        return -(-self.y.height // 2)

    @property
    def apart(self) -> int:
        """Rows between the outputs of a word."""
        return self.y.height - self.half

    @property
    def sums(self) -> int:
        """Sums of a word that are outputs: one where there is a lone line of them."""
        return 2 if self.apart else 1

    @property
    def plane(self) -> Expanded:
        """The scratch plane, for the first outputs of the words."""
        return Expanded(self.x, replace(self.y, height=self.half), self.window, 1)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the scratch plane."""
        return self.plane.pixels * 4

    @property
    def per_word(self) -> int:
        """Weights of a word."""
        return weights_per_word(self.spec.w_bits)

    @property
    def words(self) -> int:
        """Weight words of a channel."""
        return -(-self.spec.taps // self.per_word)

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        return self.spec.y.channels * self.words

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Pack the weights channel by channel, in two's complement, each from a new word on."""
        flat = weights.reshape(self.spec.y.channels, -1)
        padded = np.pad(flat, ((0, 0), (0, self.words * self.per_word - flat.shape[1])))
        return linear_words(padded, self.spec.w_bits, signed=True)

    def fills(self) -> list[tuple[int, int, tuple[bool, ...]]]:
        """Return (first row, rows, which halves of their words lie in the image) of the plane; border rows are none."""
        plane, top = self.plane, self.window.top
        found: list[tuple[int, int, tuple[bool, ...]]] = []
        for row in range(plane.rows):
            source = row - top, row - top + self.apart * self.window.stride_y
            inside = tuple(0 <= line < plane.x.height for line in source)
            if found and found[-1][2] == inside:
                found[-1] = found[-1][0], found[-1][1] + 1, inside
            else:
                found.append((row, 1, inside))
        return [rows for rows in found if any(rows[2])]

    @property
    def side(self) -> int:
        """Words of outputs that are computed at once."""
        return min(SIDE, self.y.width) if self.spec.taps <= MOST else 1

    @property
    def odd(self) -> bool:
        """Whether a row's last words have code of their own."""
        return bool(self.y.width % self.side) and self.y.width < FEW

    def steps(self) -> list[tuple[int, int, bool]]:
        """Return (first tap, one past the last, whether a run ends) of what words side by side take in turn."""
        found = []
        for start in range(0, self.spec.taps, self.spec.run):
            end = min(start + self.spec.run, self.spec.taps)
            found += [(tap, min(tap + SHARED, end), tap + SHARED >= end) for tap in range(start, end, SHARED)]
        return found

    def _blocks(self) -> dict[int, int]:
        """Return how many words are computed at once -> how often in a row."""
        steps, rest = divmod(self.y.width, self.side)
        if not rest:
            return {self.side: steps}
        return {self.side: steps, rest: 1} if self.odd else {self.side: steps + 1}

    def instruction_features(self) -> Features:
        """Count expansion, unpacking, products and results of all channels."""
        spec, y, plane = self.spec, self.y, self.plane
        width = plane.filled[1]
        rows = [(count, sum(inside)) for _, count, inside in self.fills()]
        runs, lines = -(-spec.taps // spec.run), y.channels * self.half
        features: Features = {
            f"expand_a{spec.x.bits}": spec.x.channels * width * sum(n for n, both in rows if both == 2),
            f"expand_a{spec.x.bits}half": spec.x.channels * width * sum(n for n, both in rows if both == 1),
            "expand_row": spec.x.channels * sum(n for n, _ in rows),
            "border": plane.pixels if plane.bordered else 0,
            f"unpack_w{spec.w_bits}": y.channels * spec.taps,
            **spec.result_features(self.sums * lines * sum(side * count for side, count in self._blocks().items())),
            "depthwise_row": lines,
            "depthwise_channel": y.channels,
            "call": 1,
        }
        for side, count in self._blocks().items():
            features |= {
                f"depthwise_tap{side}": lines * count * spec.taps,
                f"depthwise_run{side}": lines * count * runs,
                f"depthwise_block{side}": lines * count,
            }
        return features

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        spec, filled = self.spec, "border" if self.plane.bordered else ""
        words = sum(self._blocks())
        return {
            "code_depthwise": 1,
            **spec.result_code(self.sums * words),
            "code_depthwise_products": spec.taps * words,
            "code_depthwise_run": -(-spec.taps // spec.run) * words,
            f"code_unpack_w{spec.w_bits}": spec.taps,
            f"code_codes_o{spec.y.bits}{'c' if spec.clamped else ''}": self.sums * words,
            f"code_expand_a{spec.x.bits}{filled}{'m' if spec.multiplier > 1 else ''}": 1,
            f"code_expand_a{spec.x.bits}more": len(self.fills()) - 1,
        }

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        _Emitter(self, b).channels()


class _Emitter:
    def __init__(self, form: ScalarDepthwise, b: Body) -> None:
        self.form, self.b, self.spec = form, b, form.spec
        self.plane, self.window, self.y = form.plane, form.window, form.y

    def channels(self) -> None:
        """Visit all channels."""
        spec, b, plane = self.spec, self.b, self.plane
        if plane.bordered:
            both = b.bind(b["pad"] * 65537)
            with b.loop(plane.pixels) as i:
                b.store(b["plane"], i, both)
        taps = b.array("taps", spec.taps)
        with b.loop(spec.x.channels) as source:
            for first, count, inside in self.form.fills():
                self._fill(source, first, count, inside)
            with b.loop(spec.multiplier) as m:
                c = source * spec.multiplier + m
                bias = b.bind(b["bias"][c])
                self._unpack(c, taps)
                codes = Channel(b, spec.mode, c, spec.quick, 0 if spec.clamped else spec.y.bits)
                channel = _Channel(c, taps, (b.bind(b.call("t_waddl", bias, bias, 16)), bias), codes)
                with b.loop(self.form.half) as line:
                    self._line(channel, line)

    def _line(self, channel: "_Channel", line: Any) -> None:
        """Compute a line of words of outputs."""
        b, width, side = self.b, self.y.width, self.form.side
        steps, rest = divmod(width, side)
        if rest and not self.form.odd:
            with b.loop(steps + 1) as step:
                # The last words go over some outputs again rather than beyond the end.
                self._outputs(channel, line, b.bind(b.T.min(step * side, width - side)), side)
            return
        with b.loop(steps) as step:
            self._outputs(channel, line, step * side, side)
        if rest:
            self._outputs(channel, line, width - rest, rest)

    def _pixel(self, plane: Plane, line: Any, place: Any) -> Any:
        """Return the number of a pixel of an image."""
        return place * plane.width + line if self.form.turned else line * plane.width + place

    def _fill(self, channel: Any, first: int, count: int, inside: tuple[bool, ...]) -> None:
        """Expand rows of a channel's image; the border at both ends keeps what it holds."""
        b, x, width = self.b, self.spec.x, self.plane.filled[1]
        top, left = first - self.window.top, self.window.left
        lines = top, top + self.form.apart * self.window.stride_y
        spelled = largest_divisor(width, SPELLED)

        def code(line: Any, place: Any, half: int) -> Any:
            if not inside[half]:
                return b["pad"]
            return x.load(b, b["x"], self._pixel(x, lines[half] + line, place), channel)

        with b.loop(count) as line, b.loop(width // spelled) as outer:
            for i in range(spelled):
                place = outer * spelled + i
                word = code(line, place, 0) + code(line, place, 1) * 65536
                b.store(b["plane"], (first + line) * self.plane.pitch + left + place, word)

    def _unpack(self, channel: Any, taps: Any) -> None:
        b, bits, per_word = self.b, self.spec.w_bits, self.form.per_word
        word = b.array("word", 1)
        for tap in range(self.spec.taps):
            index, place = divmod(tap, per_word)
            if place == 0:
                b.store(word, 0, b["w"][channel * self.form.words + index])
            b.store(taps, tap, b.call("t_signed", word[0], 32 - bits * (place + 1), 32 - bits))

    def _outputs(self, channel: "_Channel", line: Any, place: Any, side: int) -> None:
        """Compute `side` words of outputs, from `place` on."""
        spec, b, window, y = self.spec, self.b, self.window, self.spec.y
        total, upper, run = b.array("total", side), b.array("upper", side), b.array("run", side)
        first = line * (window.stride_y * self.plane.pitch) + place * window.stride_x

        def word(tap: int, j: int) -> Any:
            ky, kx = divmod(tap, spec.window.width)
            if self.form.turned:
                ky, kx = kx, ky
            at = ky * window.dilation_y * self.plane.pitch + kx * window.dilation_x + j * window.stride_x
            return b["plane"][first + at]

        for start, end, last in self.form.steps():
            for j in range(side):
                for tap in range(start, end):
                    if tap % spec.run:
                        b.store(run, j, b.call("t_mac", run[j], channel.taps[tap], word(tap, j)))
                    else:
                        b.store(run, j, channel.taps[tap] * word(tap, j))
                if last:
                    if end <= spec.run:
                        b.store(total, j, channel.start[0])
                        b.store(upper, j, channel.start[1])
                    b.do("t_halves", b.address(total, j), b.address(upper, j), run[j])
        for j in range(side):
            for i in range(self.form.sums):
                acc = upper[j] if i else b.call("t_wsubl", total[j], upper[j], 16)
                code = b.bind(channel.codes.code(acc))
                y.store(b, b["y"], self._pixel(y, line + i * self.form.apart, place + j), channel.index, code)
