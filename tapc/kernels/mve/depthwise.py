"""Depthwise convolution with VMLA: four neighbouring pixels of a channel times a weight in a general register.

A channel's image is copied once, one byte a pixel, with its border, into a scratch plane. Lanes lie along the side of
the image that whole vectors fill best, and neighbouring lines of outputs share each loaded vector. As no other
channel's bytes are touched, the output may replace the input in place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import arithmetic_of
from tapc.kernels.builder import Body
from tapc.kernels.depthwise import DepthwiseSpec, unpacked_weight
from tapc.kernels.expanded import Expanded
from tapc.kernels.forms import register
from tapc.kernels.layout import Plane, factor, lanes_of, requantize, requantized
from tapc.kernels.packing import linear_words, weights_per_word
from tapc.kernels.spec import Features
from tapc.kernels.turned import Turned

LANES = 4
SPELLED = 4  # vectors of a line of the image that is copied
LINES = 6  # of eight vector registers
TAPS = 6  # in general registers
REACH = 128  # bytes that the offset of a load reaches
FIXED, RESULT = 8, 9  # instructions of an iteration, and of requantizing and storing a vector


def _filled(length: int) -> float:
    """Share of the lanes that make new outputs."""
    return length / (-(-length // LANES) * LANES)


@register("depthwise", "mve")
@dataclass(frozen=True)
class MveDepthwise(Turned):
    """How a depthwise convolution is computed on a core with Helium."""

    spec: DepthwiseSpec

    in_place = True
    run_bits: ClassVar[int | None] = None

    @property
    def turned(self) -> bool:
        """Whether lanes lie along the columns of the image."""
        return _filled(self.spec.y.height) > _filled(self.spec.y.width)

    @property
    def plane(self) -> Expanded:
        """The scratch plane, one byte a pixel."""
        return Expanded(self.x, self.y, self.window, 1)

    @property
    def lines(self) -> int:
        """Lines of outputs computed at once, a register each, which share loads and the work around them."""
        height, window = self.y.height, self.window
        shared = (window.height - window.stride_y) * window.width + FIXED
        own = (window.stride_y + window.height) * window.width + RESULT
        return min(range(1, min(height, LINES) + 1), key=lambda n: -(-height // n) * (shared + n * own))

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the scratch plane; the lanes of a narrow image reach behind its end."""
        behind = LANES * self.window.stride_x if self.y.width < LANES else 0
        return -(-(self.plane.pixels + behind) // 4) * 4

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        return -(-self.spec.taps * self.spec.y.channels // weights_per_word(self.spec.w_bits))

    def rows_of_taps(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """Return (row of the plane, its (line, row of taps)) of a block of lines; strides leave out rows."""
        window, found = self.window, []
        for k in range((self.lines - 1) * window.stride_y + window.rows):
            distances = [(i, k - i * window.stride_y) for i in range(self.lines)]
            taps = [(i, *divmod(distance, window.dilation_y)) for i, distance in distances]
            own = [(i, ky) for i, ky, rest in taps if not rest and 0 <= ky < window.height]
            if own:
                found.append((k, own))
        return found

    @property
    def middle(self) -> int:
        """The row of the plane in the middle of those that a block of lines reads."""
        return ((self.lines - 1) * self.window.stride_y + self.window.rows) // 2

    @property
    def near(self) -> bool:
        """Whether loads' offsets from that row reach all others."""
        reach = self.middle * self.plane.pitch + (self.window.columns - 1)
        return self.window.stride_x == 1 and reach < REACH

    @property
    def distances(self) -> tuple[int, int]:
        """Bytes of the output from a lane to the next, and from a line to the next."""
        y = self.spec.y
        return (y.row * y.width, y.row) if self.turned else (y.row, y.row * y.width)

    @property
    def joined(self) -> bool:
        """Whether codes of two lines are stored together: their places are numbers of 16 bits."""
        beside, below = self.distances
        exact = arithmetic_of(self.spec.mode).float_products and self.spec.y.bits == 8 and self.y.width >= LANES
        return exact and (LANES - 1) * beside + below < 1 << 16

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Pack the weights channel by channel."""
        return linear_words(weights, self.spec.w_bits)

    def instruction_features(self) -> Features:
        """Count the filling of the plane, products and results of all channels."""
        spec, y, window, plane = self.spec, self.y, self.window, self.plane
        height, width = plane.filled
        lanes = next((n for n in (8, 4) if n <= width), 1)
        vectors = -(-y.width // LANES)
        blocks = spec.y.channels * -(-y.height // self.lines)
        tiles, rows = blocks * vectors, len(self.rows_of_taps())
        products: Features = {
            "products_tap": tiles * self.lines * spec.taps,
            # Taps that registers do not hold.
            "products_far": tiles * self.lines * max(0, spec.taps - TAPS),
            f"products_load{'' if window.stride_x == 1 else 'step'}": tiles * rows * window.width,
            "products_row": 0 if self.near else tiles * rows,
            "products_tile": tiles,
        }
        vector, each = bool(arithmetic_of(spec.mode).lanes), min(y.width, LANES)
        narrow = each if spec.y.bits == 4 or y.width < LANES or not vector else 0
        joined = self.lines // 2 if self.joined else 0
        results = spec.result_features(tiles * (self.lines - 2 * joined), lanes=vector)
        if not vector:
            results |= requantized(spec.mode, spec.quick, clamped=spec.clamped, count=tiles * self.lines * each)
        return {
            f"fill_a{spec.x.bits}l{lanes}": spec.x.channels * height * -(-width // lanes),
            "fill_line": spec.x.channels * height,
            "border": self.scratch_bytes if plane.bordered else 0,
            f"unpack_w{spec.w_bits}": spec.y.channels * spec.taps,
            **products,
            **results,
            "joined": tiles * joined,
            "joined_c": tiles * joined if spec.clamped else 0,
            f"scatter_o{spec.y.bits}": tiles * self.lines * narrow,
            "depthwise_block": blocks,
            "depthwise_channel": spec.y.channels,
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        spec, y, window = self.spec, self.y, self.window
        copies = (y.width >= LANES) + (y.width < LANES or y.width % LANES != 0)
        narrow = min(y.width, LANES) if spec.y.bits == 4 or y.width < LANES else ""
        filled = "border" if self.plane.bordered else ""
        joined = self.lines // 2 if self.joined else 0
        return {
            "code_depthwise": 1,
            **spec.result_code(copies * self.lines),
            f"code_joined{'c' if spec.clamped else ''}": copies * joined,
            "code_products_tap": copies * self.lines * spec.taps,
            "code_products_load": copies * len(self.rows_of_taps()) * window.width,
            f"code_unpack_w{spec.w_bits}": spec.taps,
            f"code_codes_o{spec.y.bits}{'c' if spec.clamped else ''}{narrow}": copies * (self.lines - 2 * joined),
            f"code_fill_a{spec.x.bits}{filled}{'m' if spec.multiplier > 1 else ''}": 1,
        }

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        _Emitter(self, b).channels()


class _Emitter:
    def __init__(self, form: MveDepthwise, b: Body) -> None:
        self.form, self.b, self.spec = form, b, form.spec
        self.plane, self.window, self.y = form.plane, form.window, form.y
        self.taps = b.array("taps", form.spec.taps)

    def channels(self) -> None:
        """Visit all channels."""
        spec, b, y = self.spec, self.b, self.y
        if self.plane.bordered:
            with b.loop(self.form.scratch_bytes) as i:
                b.do("t_store8", b.address(b["plane"], 0), i, b["pad"])
        lines = self.form.lines
        with b.loop(spec.x.channels) as source:
            self._fill(source)
            with b.loop(spec.multiplier) as m:
                c = source * spec.multiplier + m
                for i in range(spec.taps):
                    b.store(self.taps, i, unpacked_weight(spec, b, c * spec.taps + i))
                with b.loop(-(-y.height // lines)) as step:
                    # The last lines go over some outputs again rather than beyond the end.
                    line = b.bind(b.T.min(step * lines, y.height - lines)) if y.height % lines else step * lines
                    self._each(LANES, y.width, partial(self._outputs, c, line))

    def _each(self, size: int, length: int, emit: Callable[[Any], None], spelled: int = 0) -> None:
        """Visit vectors, few of them without a loop; the last one goes over some places again, not beyond the end."""
        if size < length and length // size <= spelled:
            for place in [*range(0, length - size + 1, size), *([length - size] if length % size else [])]:
                emit(place)
            return
        if size < length < 2 * size:
            with self.b.loop(2) as step:
                emit(step * (length - size))
            return
        if length >= size:
            with self.b.loop(length // size) as step:
                emit(step * size)
        if length < size or length % size:
            emit(max(length - size, 0))

    def _pixel(self, plane: Plane, line: Any, place: Any) -> Any:
        """Return the number of a pixel of an image."""
        return place * plane.width + line if self.form.turned else line * plane.width + place

    def _fill(self, channel: Any) -> None:
        """Copy a channel's image into the plane; the border keeps what it holds."""
        b, x, window = self.b, self.spec.x, self.window
        height, width = self.plane.filled
        stride = x.row * (x.width if self.form.turned else 1)
        # Places of eight codes are numbers of 16 bits.
        lanes = next((n for n in (8, 4) if n <= width and (n < 8 or (n - 1) * stride < 1 << 16)), 1)

        def some(line: Any, place: Any) -> None:
            at = (line + window.top) * self.plane.pitch + place + window.left
            pixel = self._pixel(x, line, place)
            if lanes == 1:
                b.do("t_store8", b.address(b["plane"], 0), at, x.load(b, b["x"], pixel, channel))
                return
            to = b.call("t_to", b.address(b["plane"], 0), at, dtype="handle")
            if x.bits == 8:
                b.do(f"t_spread{lanes}_8", to, b.address(b["x"], pixel * x.row + channel), stride)
                return
            source = b.bind(b.address(b["x"], pixel * x.row + b.T.truncdiv(channel, 2)))

            def half(odd: int) -> None:
                b.do(f"t_spread{lanes}_4", to, source, stride, odd)

            b.when(b.T.truncmod(channel, 2) == 0, lambda: half(0), lambda: half(1))

        with b.loop(height) as line:
            self._each(lanes, width, lambda place: some(line, place), SPELLED)

    def _outputs(self, c: Any, line: Any, place: Any) -> None:
        """Compute four neighbouring outputs of some lines."""
        form, spec, b, window = self.form, self.spec, self.b, self.window
        lines = form.lines
        array = b.array("code", LANES * lines)
        codes = [b.address(array, LANES * i) for i in range(lines)]
        for code in codes:
            b.do("t_dup4", code, b["bias"][c])
        x = b.address(b.array("pixels", LANES), 0)
        first = line * (window.stride_y * self.plane.pitch) + place * window.stride_x
        rows, pitch, near = form.rows_of_taps(), self.plane.pitch, form.near
        middle = b.bind(self._row(first + form.middle * pitch)) if near else None
        for k, own in rows:
            row = middle if near else b.bind(self._row(first + k * pitch))
            for kx in range(window.width):
                offset = kx * window.dilation_x + ((k - form.middle) * pitch if near else 0)
                b.do("t_wide4", x, row, offset, window.stride_x)
                for i, ky in own:
                    tap = kx * window.height + ky if form.turned else ky * window.width + kx
                    b.do("t_vmla4", codes[i], x, self.taps[tap])
        lanes, joined = arithmetic_of(spec.mode).lanes, lines // 2 * 2 if form.joined else 0
        for i in range(0, joined, 2):
            for code in codes[i : i + 2]:
                b.do("t_round4", code, *factor(b, spec.mode, c))
        for code in codes[joined:] if lanes else ():
            b.do(f"{lanes}_same{lanes_of(spec.quick)}", code, *factor(b, spec.mode, c), b["zero"])
            if spec.clamped:
                b.do("t_clamp4", code, b["low"], b["high"])
            else:
                b.do(f"t_saturate4_{spec.y.bits}", code)
        for i in range(0, joined, 2):
            to = b.address(b["y"], self._pixel(spec.y, line + i, place) * spec.y.row + c)
            ends = (b["low"], b["high"]) if spec.clamped else ()
            b.do(f"t_scatter8{'_c' if ends else ''}", to, *form.distances, *codes[i : i + 2], b["zero"], *ends)
        for i, code in enumerate(codes[joined:], joined):
            self._store(c, line + i, place, code, array, LANES * i)

    def _row(self, offset: Any) -> Any:
        """Return an address in the plane."""
        return self.b.call("t_to", self.b.address(self.b["plane"], 0), offset, dtype="handle")

    def _store(self, c: Any, line: Any, place: Any, code: Any, array: Any, slot: int) -> None:
        spec, b, y = self.spec, self.b, self.spec.y
        lanes = arithmetic_of(spec.mode).lanes
        if lanes and y.bits == 8 and self.y.width >= LANES:
            stride = y.row * (y.width if self.form.turned else 1)
            b.do("t_scatter4_8", b.address(b["y"], self._pixel(y, line, place) * y.row + c), stride, code)
            return
        for i in range(min(LANES, self.y.width)):
            value = array[slot + i]
            if not lanes:
                value = requantize(b, spec.mode, value, c, 0 if spec.clamped else y.bits, spec.quick)
            y.store(b, b["y"], self._pixel(y, line, place + i), c, value)
