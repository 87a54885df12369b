"""Depthwise convolution: every output channel reads one input channel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.arithmetic import Mode
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.conv import Window
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantize
from tapc.kernels.packing import linear_words, weights_per_word


@dataclass(frozen=True)
class DepthwiseSpec:
    """A depthwise kernel instance; attributes as in `ConvSpec`."""

    x: Plane
    y: Plane
    window: Window
    w_bits: int
    mode: Mode

    scratch_bytes = 0

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"depthwise_w{self.w_bits}a{self.x.bits}o{self.y.bits}"

    @property
    def taps(self) -> int:
        """Weights per channel."""
        return self.window.height * self.window.width

    @property
    def weight_words(self) -> int:
        """Words of the packed weights."""
        return -(-self.taps * self.y.channels // weights_per_word(self.w_bits))

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Pack weights of shape (channels, kernel height, kernel width, 1) channel by channel."""
        return linear_words(weights, self.w_bits)

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        parameters = (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("w", "int32", self.weight_words),
            Parameter("bias", "int32", self.y.channels),
            multiplier_parameter(self.mode, self.y.channels),
            Parameter("pad", "int32"),
            *SCALAR_RANGE,
        )
        return build(name, parameters, lambda b: _emit(self, b))


def clip_window(b: Body, start: Any, size: int, extent: int, bounds: Any, slot: int) -> None:
    """Store the first and one-past-last tap of a window that lie inside an axis."""
    T = b.T
    b.store(bounds, slot, T.max(0, 0 - start))
    b.store(bounds, slot + 1, T.min(size, extent - start))


def _weight(spec: DepthwiseSpec, b: Body, index: Any) -> Any:
    bits, per_word = spec.w_bits, weights_per_word(spec.w_bits)
    T = b.T
    word = b["w"][T.truncdiv(index, per_word)]
    shift = T.truncmod(index, per_word) * bits
    if bits == 8:
        return T.Cast("int32", T.Cast("int8", T.shift_right(word, shift)))
    return T.bitwise_and(T.shift_right(word, shift), (1 << bits) - 1) - (1 << (bits - 1))


def _emit(spec: DepthwiseSpec, b: Body) -> None:
    window, x, y, T = spec.window, spec.x, spec.y, b.T
    multiplier = y.channels // x.channels
    bounds, acc = b.array("bounds", 4), b.array("acc", 1)
    with b.loop(y.height) as oy, b.loop(y.width) as ox:
        top, left = oy * window.stride_y - window.top, ox * window.stride_x - window.left
        clip_window(b, top, window.height, x.height, bounds, 0)
        clip_window(b, left, window.width, x.width, bounds, 2)
        with b.loop(y.channels) as c:
            b.store(acc, 0, b["bias"][c])
            with b.loop(bounds[1] - bounds[0]) as dy, b.loop(bounds[3] - bounds[2]) as dx:
                ky, kx = bounds[0] + dy, bounds[2] + dx
                source = T.truncdiv(c, multiplier) if multiplier > 1 else c
                code = x.load(b, b["x"], (top + ky) * x.width + left + kx, source)
                weight = _weight(spec, b, c * spec.taps + ky * window.width + kx)
                b.store(acc, 0, acc[0] + weight * (code - b["pad"]))
            value = requantize(b, spec.mode, acc[0], c, b["zero"], b["low"], b["high"])
            y.store(b, b["y"], oy * y.width + ox, c, value)
