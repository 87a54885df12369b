"""Depthwise convolution with SMLAD.

A channel's image is expanded once to int16, with its border, into a scratch plane; its taps stay in registers as
pairs, and two neighbouring outputs share each loaded word. As no other channel's bytes are touched, the output may
replace the input in place.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.depthwise import DepthwiseSpec, unpacked_weight
from tapc.kernels.dsp.pairs import REACH, load2
from tapc.kernels.expanded import Expanded
from tapc.kernels.forms import register
from tapc.kernels.layout import requantize_each
from tapc.kernels.packing import linear_words, weights_per_word
from tapc.kernels.spec import Features
from tapc.kernels.window import Window

TAP_WORDS = 4  # pairs of taps that stay in registers

# SMLAxy: x names the half of the weights, y that of the pixels.
_HALVES = {(0, 0): "t_smlabb", (0, 1): "t_smlabt", (1, 0): "t_smlatb", (1, 1): "t_smlatt"}


@register("depthwise", "dsp")
@dataclass(frozen=True)
class DspDepthwise:
    """How a depthwise convolution is computed on a core with the DSP extension."""

    spec: DepthwiseSpec

    in_place = True
    run_bits: ClassVar[int | None] = None

    @property
    def plane(self) -> Expanded:
        """The scratch plane, int16; rows are whole words."""
        return Expanded(self.spec.x, self.spec.y, self.spec.window, 2)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the scratch plane."""
        return self.plane.pixels * 2

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        return -(-self.spec.taps * self.spec.y.channels // weights_per_word(self.spec.w_bits))

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Pack the weights channel by channel."""
        return linear_words(weights, self.spec.w_bits)

    def instruction_features(self) -> Features:
        """Count expansion, unpacking, products and results of all channels."""
        height, width = self.plane.filled
        spec, y, window = self.spec, self.spec.y, self.spec.window
        pairs, single = y.channels * y.height * (y.width // 2), y.channels * y.height * (y.width % 2)
        pitch, words = self.plane.pitch // 2 * window.dilation_y, window.height * _words(window.width)
        far = sum(ky * pitch + (window.stride_x + window.columns) // 2 > REACH for ky in range(window.height))
        products: Features = {"products_far": (pairs + single) * far}
        for n, count in ((2, pairs), (1, single)):
            loads = window.height * len(_loads(needed_words(window, n)))
            products["products_load"] = products.get("products_load", 0) + count * loads
            # Pairs of taps that registers do not hold.
            products[f"products_word{n}"] = count * max(0, words - TAP_WORDS)
            products[f"products_tap{n}"] = count * n * window.height * _multiplies(window, n)
            products[f"products_block{n}"] = count
        return {
            f"expand_a{spec.x.bits}": spec.x.channels * height * width,
            "expand_row": spec.x.channels * height,
            "border": self.scratch_bytes / 4 if self.plane.bordered else 0,
            f"unpack_w{spec.w_bits}": y.channels * spec.taps,
            **products,
            **spec.result_features(2 * pairs + single),
            "depthwise_row": y.channels * y.height,
            "depthwise_channel": y.channels,
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        spec, window = self.spec, self.spec.window
        copies = 2 * (spec.y.width > 1) + spec.y.width % 2
        filled = "border" if self.plane.bordered else ""
        return {
            "code_depthwise": 1,
            **spec.result_code(copies),
            "code_products_tap": spec.taps * copies,
            "code_products_row": window.height * copies,
            f"code_unpack_w{spec.w_bits}": spec.taps,
            f"code_codes_o{spec.y.bits}{'c' if spec.clamped else ''}": 1,
            f"code_expand_a{spec.x.bits}{filled}{'m' if spec.multiplier > 1 else ''}": 1,
        }

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        _emit(self, b)


def _emit(form: DspDepthwise, b: Body) -> None:
    spec, window, y = form.spec, form.spec.window, form.spec.y
    plane = form.plane
    if plane.bordered:
        border = b.array("border", 1)
        b.store(border, 0, b.call("t_pair", b["pad"], b["pad"]))
        with b.loop(form.scratch_bytes // 4) as i:
            b.store(b["plane"], i, border[0])
    pairs = _Pairs(form, b)
    bits = 0 if spec.clamped else y.bits
    with b.loop(spec.x.channels) as source:
        plane.fill(b, source, lambda at, code: b.do("t_store16at", b.address(b["plane"], 0), at, code))
        with b.loop(spec.multiplier) as m:
            c = source * spec.multiplier + m
            pairs.load(c)
            bias = b.bind(b["bias"][c])

            def outputs(oy: Any, ox: Any, count: int, c: Any = c, bias: Any = bias) -> None:
                """Compute neighbouring outputs from column ox on."""
                acc, code = b.array("acc", count), b.array("code", count)
                for i in range(count):
                    b.store(acc, i, bias)
                row = oy * window.stride_y * (form.plane.pitch // 2)
                pairs.multiply(acc, row + b.T.truncdiv(ox * window.stride_x, 2), count)
                requantize_each(b, spec.mode, [acc[i] for i in range(count)], [c] * count, bits, spec.quick, code)
                for i in range(count):
                    y.store(b, b["y"], oy * y.width + ox + i, c, code[i])

            with b.loop(y.height) as oy:
                if y.width > 1:
                    with b.loop(y.width // 2) as pair:
                        outputs(oy, pair * 2, 2)
                if y.width % 2:
                    outputs(oy, y.width - 1, 1)


def _words(width: int) -> int:
    """Return how many words hold a row's taps in pairs."""
    return width // 2 + max(width - 1, 0) // 2 if width > 1 else 1


def _loads(words: list[int]) -> list[int]:
    """Return the words of a row at which loads begin: neighbours are loaded at once."""
    starts: list[int] = []
    for word in words:
        if not (starts and word == starts[-1] + 1 and word not in starts):
            starts.append(word)
    return starts


def _multiplies(window: Window, count: int) -> float:
    """Return how many multiplications a row of a window takes, of `count` neighbouring outputs on the average."""
    if window.dilation_x > 1:
        return window.width
    odd = sum(i * window.stride_x % 2 for i in range(count)) / count
    # Behind an odd position a single tap comes first.
    return (1 - odd) * -(-window.width // 2) + odd * (1 + -(-(window.width - 1) // 2))


def needed_words(window: Window, count: int) -> list[int]:
    """Return which words of a row of the plane the windows of `count` neighbouring outputs need."""
    offsets = [i * window.stride_x for i in range(count)]
    return sorted({(o + kx * window.dilation_x) // 2 for o in offsets for kx in range(window.width)})


class _Pairs:
    """A channel's weights in pairs, aligned to even and to odd positions, and the products that use them."""

    def __init__(self, form: DspDepthwise, b: Body) -> None:
        self.form, self.spec, self.b = form, form.spec, b
        width = self.spec.window.width
        self.even, self.odd = width // 2, max(width - 1, 0) // 2
        # A single tap is taken from the half of a pair; without pairs it stands alone.
        self.per_row = self.even + self.odd if width > 1 else 1
        self.words = b.array("taps", self.spec.window.height * self.per_row)

    def load(self, channel: Any) -> None:
        """Unpack the weights of a channel."""
        spec, b = self.spec, self.b
        width = spec.window.width
        taps = b.array("weights", width)
        for ky in range(spec.window.height):
            for kx in range(width):
                weight = unpacked_weight(spec, b, channel * spec.taps + ky * width + kx)
                b.store(taps, kx, weight * (1 << spec.shift) if spec.shift else weight)
            starts = [*range(0, width - 1, 2), *range(1, width - 1, 2)]
            for i, kx in enumerate(starts):
                b.store(self.words, ky * self.per_row + i, b.call("t_pair", taps[kx], taps[kx + 1]))
            if width == 1:
                b.store(self.words, ky, taps[0])

    def _single(self, ky: int, kx: int) -> tuple[Any, int]:
        """Return a word that holds a tap, and in which half."""
        row = ky * self.per_row
        if self.spec.window.width == 1:
            return self.words[row], 0
        if kx // 2 < self.even:
            return self.words[row + kx // 2], kx % 2
        return self.words[row + self.even + (kx - 1) // 2], 1

    def multiply(self, acc: Any, first: Any, count: int) -> None:
        """Add the products of `count` neighbouring outputs; `first` is the first window's first word."""
        spec, b = self.spec, self.b
        window, step = spec.window, spec.window.dilation_x
        pitch = self.form.plane.pitch // 2 * window.dilation_y
        offsets = [i * window.stride_x for i in range(count)]
        for ky in range(window.height):
            last = (offsets[-1] + window.columns - 1) // 2
            pixels = b.array("pixels", last + 1)
            needed = needed_words(window, count)
            # A row beyond the reach of LDRD has an address of its own.
            row = ky * pitch if ky * pitch + last + 1 > REACH else 0
            base = b.address(b["plane"], first + row)
            at = 0
            while at < len(needed):
                i = needed[at]
                if at + 1 < len(needed) and needed[at + 1] == i + 1:
                    load2(b, base, ky * pitch - row + i, b.address(pixels, i))
                    at += 2
                else:
                    b.store(pixels, i, b["plane"][first + ky * pitch + i])
                    at += 1
            words = {i: pixels[i] for i in needed}
            for i, offset in enumerate(offsets):
                kx = 0
                while kx < window.width:
                    position = offset + kx * step
                    if step == 1 and position % 2 == 0 and kx + 1 < window.width:
                        index = kx // 2 if kx % 2 == 0 else self.even + kx // 2
                        pair = self.words[ky * self.per_row + index]
                        b.store(acc, i, b.call("t_smlad", pair, words[position // 2], acc[i]))
                        kx += 2
                        continue
                    word, half = self._single(ky, kx)
                    name = _HALVES[half, position % 2]
                    b.store(acc, i, b.call(name, word, words[position // 2], acc[i]))
                    kx += 1
