"""3 x 3 convolution of stride 1 by Winograd's transforms without SIMD: F(2x2, 3x3) and F(4x4, 3x3), exactly.

As with the DSP extension, but for one input channel at a time: a word of weights holds a frequency of two output
channels, each of which meets that of two tiles. All is in loops: such cores have little flash, and no cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.forms import register
from tapc.kernels.made import Made
from tapc.kernels.spec import Features
from tapc.kernels.tiles import TILES, Lines, Results, Tiles, each_channel, four_outputs, greatest, two_outputs


@register("winograd", "scalar")
@dataclass(frozen=True)
class ScalarWinograd(Tiles):
    """How a convolution is computed by transforms on a core without SIMD."""

    @property
    def channels(self) -> int:
        """Input channels."""
        return self.spec.x.channels

    @property
    def input_words(self) -> int:
        """Words of the lines and of the transformed inputs of a pair of tiles."""
        return self.inputs + self.transform.frequencies**2 * self.channels * TILES

    @property
    def frequency_words(self) -> int:
        """Words of the transformed weights."""
        return self.blocks * self.transform.frequencies**2 * self.channels

    @property
    def made(self) -> Made | None:
        """Pairs of output channels; a row for each, of all input channels."""
        return Made(self.transform, self.spec.w_bits, self.blocks, self.channels) if self.schedule.made else None

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Transform weights and lay them out in reading order: a word of two output channels for each input."""
        even = np.pad(weights, ((0, len(weights) % 2), (0, 0), (0, 0), (0, 0)))
        if self.made is not None:
            return self.made.pack(even.reshape(self.blocks, 2, 3, 3, self.channels).transpose(0, 4, 1, 2, 3))
        u = self.transform.weights(even).astype(np.int16)
        n = self.transform.frequencies
        words = u.reshape(n, n, self.blocks, 2, self.channels).transpose(2, 0, 1, 4, 3)
        return np.ascontiguousarray(words).view(np.uint32).ravel()

    def instruction_features(self) -> Features:
        """Count copies, transforms, products and results."""
        size, n = self.transform.size, self.transform.frequencies
        blocks = self.down * self.across * self.blocks
        key, four, rest = f"f{size}", self.channels // 4, self.channels % 4
        return {
            f"{key}_step": blocks * n * n * self.channels,
            f"{key}_frequency": blocks * n * n,
            f"{key}_loop": blocks * n * n * (four + rest),
            **self.shared_features(self.channels),
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        steps = 4 * (self.channels > 3) + (self.channels % 4 > 0)
        return {f"code_f{self.transform.size}": 1, **self.shared_code(steps), **self.spec.result_code(1)}

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        lines = Lines(self, b)
        lines.border()
        if self.made is not None:
            words = self.transform.frequencies**2 * self.channels
            self.made.emit(b, self.input_words, self.channels, lambda row, pair: row * words + pair)
        with b.loop(self.down) as row:
            lines.copy(row)
            with b.loop(self.across) as pair:
                self._inputs(b, pair)
                with b.loop(self.blocks) as block:
                    sums = self._products(b, block)
                    self._outputs(Results(self, b, row, pair, block, looped=True), sums)

    def _inputs(self, b: Body, pair: Any) -> None:
        """Transform the inputs of a pair of tiles: [row's frequency][column's][channel][tile], columns first."""
        n, size = self.transform.frequencies, self.transform.size
        order = self.transform.order.index
        transform = _two_inputs if size == 2 else _four_inputs
        wide = TILES * size + 2
        with b.loop(self.channels) as channel:
            columns = b.array("columns", wide * n)
            start = pair * (TILES * size * self.depth) + channel
            source = b.bind(b.call("t_at", b.address(b["col"], 0), start, dtype="handle"))
            with b.loop(wide) as column:
                d = b.array("d", n)
                for row in range(n):
                    place = row * self.line + column * self.depth
                    b.store(d, row, b.call("t_load8", b.call("t_at", source, place, dtype="handle")))
                transform(b, d, lambda k, value: b.store(columns, column * n + order(k), value), doubled=False)
            with b.loop(TILES) as tile, b.loop(n) as row:
                d = b.array("e", n)
                for k in range(n):
                    b.store(d, k, columns[(size * tile + k) * n + row])
                first = self.inputs + (row * (n * self.channels) + channel) * TILES + tile
                target = b.bind(b.address(b["col"], first))
                pitch = self.channels * TILES
                transform(b, d, lambda k, value: b.do("t_storew", target, order(k) * pitch, value), doubled=True)

    def _products(self, b: Body, block: Any) -> Any:
        """Return the sums over all input channels: [frequency][channel][tile]."""
        count = self.transform.frequencies**2
        sums = b.array("sums", count * 4)
        with b.loop(count) as i:
            weights = self.frequencies(b, (block * count + i) * self.channels)
            inputs = b.address(b["col"], self.inputs + i * self.channels * TILES)
            b.do("t_products", weights, inputs, self.channels, b.address(sums, i * 4))
        return sums

    def _outputs(self, results: Results, sums: Any) -> None:
        """Transform the outputs, rows first, and store them, or the greatest of each window."""
        b, n, size = results.b, self.transform.frequencies, self.transform.size
        (down, across), (high, wide) = self.spec.pool, self.parts

        def back(at: list[Any], out: Callable[[int, Any], None], *, doubled: bool) -> None:
            if size == 2:
                two_outputs(b, at, out)
            else:
                four_outputs(b, at, out, doubled=doubled)

        def body(r: Any, channel: Any) -> None:
            with b.loop(TILES) as tile:
                rows, ys, one = b.array("rows", n * size), b.array("ys", size * across), b.array("one", 1)
                with b.loop(n) as i:
                    at = [sums[(i * n + k) * 4 + 2 * r + tile] for k in range(n)]
                    back(at, lambda k, value: b.store(rows, i * size + k, value), doubled=False)
                with b.loop(wide) as ox:
                    with b.loop(across) as dx:
                        at = [rows[i * size + ox * across + dx] for i in range(n)]
                        back(at, lambda k, value: b.store(ys, dx * size + k, value), doubled=True)
                    column = results.pair * (TILES * wide) + tile * wide + ox
                    with b.loop(high) as oy:
                        places = [dx * size + oy * down + dy for dx in range(across) for dy in range(down)]
                        # The bias comes after the product, which is 1 for F(2x2, 3x3).
                        bias, inverse = b["bias"][channel], self.transform.inverse
                        greatest(b, one, 0, [b.call("t_mac", bias, ys[place], inverse) for place in places])
                        results.store(one, [(0, 0)], channel, results.row * high + oy, column)

        each_channel(results, body)


def _two_inputs(b: Body, d: Any, put: Callable[[int, Any], None], *, doubled: bool) -> None:
    """Make four frequencies of four inputs for F(2x2, 3x3)."""
    put(0, d[0] - d[2])
    put(1, d[1] + d[2])
    put(2, d[2] - d[1])
    put(3, d[1] - d[3])


def _four_inputs(b: Body, d: Any, put: Callable[[int, Any], None], *, doubled: bool) -> None:
    """Make six frequencies of six inputs for F(4x4, 3x3); `doubled`: the last one is."""
    a, c = b.bind(d[4] - d[2]), b.bind((d[3] - d[1]) * 2)
    put(3, a + c)
    put(4, a - c)
    last = d[5] - d[3] - c * 2
    put(5, last * 2 if doubled else last)
    put(0, a + (d[0] - d[2]) * 4)
    p, r = b.bind(d[4] - d[2] * 4), b.bind(d[3] - d[1] * 4)
    put(1, p + r)
    put(2, p - r)
