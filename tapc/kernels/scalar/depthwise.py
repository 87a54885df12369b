"""Depthwise convolution without SIMD: a channel is expanded once to words, with its border; its weights too."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.expanded import Expanded
from tapc.kernels.forms import register
from tapc.kernels.layout import requantize
from tapc.kernels.packing import linear_words, weights_per_word
from tapc.kernels.spec import Features


@register("depthwise", "scalar")
@dataclass(frozen=True)
class ScalarDepthwise:
    """How a depthwise convolution is computed on a core without SIMD."""

    spec: DepthwiseSpec

    in_place = True

    @property
    def plane(self) -> Expanded:
        """The scratch plane, int32."""
        return Expanded(self.spec.x, self.spec.y, self.spec.window, 1)

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

    def instruction_features(self) -> Features:
        """Count expansion, unpacking, products and results of all channels."""
        spec, y, plane = self.spec, self.spec.y, self.plane
        height, width = plane.filled
        outputs = y.pixels * y.channels
        return {
            f"expand_a{spec.x.bits}": spec.x.channels * height * width,
            "expand_row": spec.x.channels * height,
            "border": plane.pixels if plane.bordered else 0,
            f"unpack_w{spec.w_bits}": y.channels * spec.taps,
            "depthwise_products": outputs * spec.taps,
            "depthwise_word": outputs * max(0, spec.taps - 9),
            **spec.result_features(outputs),
            "depthwise_row": y.channels * y.height,
            "depthwise_channel": y.channels,
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        spec, filled = self.spec, "border" if self.plane.bordered else ""
        return {
            "code_depthwise": 1,
            **spec.result_code(1),
            "code_depthwise_products": spec.taps,
            f"code_unpack_w{spec.w_bits}": spec.taps,
            f"code_codes_o{spec.y.bits}{'c' if spec.clamped else ''}": 1,
            f"code_expand_a{spec.x.bits}{filled}{'m' if spec.multiplier > 1 else ''}": 1,
        }

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        spec, plane, y = self.spec, self.plane, self.spec.y
        window, bits = spec.window, 0 if spec.clamped else y.bits
        if plane.bordered:
            with b.loop(plane.pixels) as i:
                b.store(b["plane"], i, b["pad"])
        taps, acc = b.array("taps", spec.taps), b.array("acc", 1)
        with b.loop(spec.x.channels) as source:
            plane.fill(b, source, lambda at, code: b.store(b["plane"], at, code))
            with b.loop(spec.multiplier) as m:
                c = source * spec.multiplier + m
                bias = b.bind(b["bias"][c])
                self._unpack(b, c, taps)
                with b.loop(y.height) as oy, b.loop(y.width) as ox:
                    b.store(acc, 0, bias)
                    first = oy * window.stride_y * plane.pitch + ox * window.stride_x
                    for ky in range(window.height):
                        for kx in range(window.width):
                            at = first + ky * window.dilation_y * plane.pitch + kx * window.dilation_x
                            x = b["plane"][at]
                            b.store(acc, 0, b.call("t_mac", acc[0], taps[ky * window.width + kx], x))
                    code = requantize(b, spec.mode, acc[0], c, bits, spec.quick)
                    y.store(b, b["y"], oy * y.width + ox, c, code)

    def _unpack(self, b: Body, channel: Any, taps: Any) -> None:
        word = b.array("word", 1)
        bits = self.spec.w_bits
        for tap in range(self.spec.taps):
            index, place = divmod(tap, self.per_word)
            if place == 0:
                b.store(word, 0, b["w"][channel * self.words + index])
            b.store(taps, tap, b.call("t_signed", word[0], 32 - bits * (place + 1), 32 - bits))
