"""3 x 3 convolution of stride 1 by Winograd's transforms without SIMD: F(2x2, 3x3) and F(4x4, 3x3), exactly.

As with the DSP extension, but for one input channel at a time: a word of weights holds a frequency of two output
channels, each of which meets that of two tiles. All is in loops: such cores have little flash, and no cache.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.forms import register
from tapc.kernels.made import Made
from tapc.kernels.spec import Features
from tapc.kernels.tiles import (
    TILES,
    Lines,
    Results,
    Tiles,
    each_channel,
    four_outputs,
    greatest,
    line_outputs,
    two_outputs,
)


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
        return self.inputs + self.transform.count * self.channels * TILES

    @property
    def frequency_words(self) -> int:
        """Words of the transformed weights."""
        return self.blocks * self.transform.count * self.channels

    @property
    def made(self) -> Made | None:
        """Pairs of output channels; a row for each, of all input channels."""
        return Made(self.transform, self.spec.w_bits, self.blocks, self.channels) if self.schedule.made else None

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Transform weights and lay them out in reading order: a word of two output channels for each input."""
        even = np.pad(weights, ((0, len(weights) % 2), (0, 0), (0, 0), (0, 0)))
        if self.made is not None:
            return self.made.pack(
                even.reshape(self.blocks, 2, *even.shape[1:3], self.channels).transpose(0, 4, 1, 2, 3)
            )
        u = self.transform.weights(even).astype(np.int16)
        lines, n = self.transform.lines, self.transform.frequencies
        words = u.reshape(lines, n, self.blocks, 2, self.channels).transpose(2, 0, 1, 4, 3)
        return np.ascontiguousarray(words).view(np.uint32).ravel()

    def instruction_features(self) -> Features:
        """Count copies, transforms, products and results."""
        blocks, count = self.down * self.across * self.blocks, self.transform.count
        key, four, rest = self.transform.key, self.channels // 4, self.channels % 4
        return {
            f"{key}_step": blocks * count * self.channels,
            f"{key}_frequency": blocks * count,
            f"{key}_loop": blocks * count * (four + rest),
            **self.shared_features(self.channels),
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        steps = 4 * (self.channels > 3) + (self.channels % 4 > 0)
        return {f"code_{self.transform.key}": 1, **self.shared_code(steps), **self.spec.result_code(1)}

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        lines = Lines(self, b)
        if self.made is not None:
            words = self.transform.count * self.channels
            self.made.emit(b, self.input_words, self.channels, lambda row, pair: row * words + pair)
        if self.transform.flat:
            with b.loop(self.across) as pair:
                lines.strip(pair)
                self._inputs(b, 0)
                with b.loop(self.blocks) as block:
                    self._line(Results(self, b, 0, pair, block, looped=True), self._products(b, block))
            return
        lines.border()
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
        transform = _two_inputs if n == 4 else _four_inputs
        wide = self.transform.taps - 1 + TILES * size
        if self.transform.flat:
            self._line_inputs(b)
            return
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

    def _line_inputs(self, b: Body) -> None:
        """Transform the inputs of a pair of tiles in a line."""
        size, order, pitch = self.transform.size, self.transform.order.index, self.channels * TILES
        with b.loop(self.channels) as channel, b.loop(TILES) as tile:
            d, first = b.array("d", 6), b.bind(tile * (size * self.depth) + channel)
            source = b.bind(b.call("t_at", b.address(b["col"], 0), first, dtype="handle"))
            for k in range(6):
                b.store(d, k, b.call("t_load8", b.call("t_at", source, k * self.depth, dtype="handle")))
            target = b.bind(b.address(b["col"], self.inputs + channel * TILES + tile))
            put = functools.partial(_store, b, target, lambda k: order(k) * pitch)
            _four_inputs(b, d, put, doubled=True)

    def _products(self, b: Body, block: Any) -> Any:
        """Return the sums over all input channels: [frequency][channel][tile]."""
        count = self.transform.count
        sums = b.array("sums", count * 4)
        with b.loop(count) as i:
            weights = self.frequencies(b, (block * count + i) * self.channels)
            inputs = b.address(b["col"], self.inputs + i * self.channels * TILES)
            b.do("t_products", weights, inputs, self.channels, b.address(sums, i * 4))
        return sums

    def _line(self, results: Results, sums: Any) -> None:
        """Transform the outputs in a line and store them, or the greatest of each window."""
        b, size, across, (_, wide) = results.b, self.transform.size, self.spec.pool[1], self.parts

        def body(r: Any, channel: Any) -> None:
            with b.loop(TILES) as tile:
                ys, one = b.array("ys", size), b.array("one", 1)
                at = [sums[k * 4 + 2 * r + tile] for k in range(6)]
                line_outputs(b, size, at, lambda k, value: b.store(ys, k, value))
                with b.loop(wide) as ox:
                    bias, inverse = b["bias"][channel], self.transform.inverse
                    own = [b.call("t_mac", bias, ys[ox * across + dx], inverse) for dx in range(across)]
                    greatest(b, one, 0, own)
                    results.store(one, [(0, 0)], channel, 0, results.pair * (TILES * wide) + tile * wide + ox)

        each_channel(results, body)

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


def _store(b: Body, target: Any, place: Callable[[int], int], k: int, value: Any) -> None:
    b.do("t_storew", target, place(k), value)


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
