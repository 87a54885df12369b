"""3 x 3 convolution of stride 1 by Winograd's transforms, with SMLAD: F(2x2, 3x3) and F(4x4, 3x3), exactly.

The lines that a row of tiles reads are copied, with their border; two tiles side by side are transformed at once. Two
output channels of both take four SMLAD for each pair of input channels and frequency. Frequencies whose sum and
difference is needed come first, and both go on as accumulators of others: half of the outputs' transform is free.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.kernels.builder import Body
from tapc.kernels.dsp.frequencies import Products, input_transform
from tapc.kernels.forms import register
from tapc.kernels.made import Made
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features
from tapc.kernels.tiles import TILES, Lines, Results, Tiles, each_channel, four_outputs, greatest, two_outputs

PAIRS = 16
"""Pairs of input channels that are spelled out, at most."""


@register("winograd", "dsp")
@dataclass(frozen=True)
class DspWinograd(Tiles):
    """How a convolution is computed by transforms on a core with the DSP extension."""

    @property
    def unrolled(self) -> int:
        """Pairs of input channels that are spelled out; an even number, for loads ahead to take turns."""
        return 2 * largest_divisor(self.depth // 4, PAIRS // 2)

    @property
    def single(self) -> bool:
        """Whether words are loaded one by one."""
        return self.schedule.single

    @property
    def ahead(self) -> int:
        """Words that are loaded beyond the last, and not used."""
        return 2 if self.single else 0

    @property
    def input_words(self) -> int:
        """Words of the lines and of the transformed inputs of a pair of tiles."""
        return self.inputs + self.transform.count * self.depth + self.ahead

    @property
    def frequency_words(self) -> int:
        """Words of the transformed weights."""
        return self.blocks * self.transform.count * self.depth + self.ahead

    @property
    def made(self) -> Made | None:
        """Pairs of input channels 0 and 2, 1 and 3, of each four; a row for each output channel."""
        if not self.schedule.made:
            return None
        return Made(self.transform, self.spec.w_bits, 2 * self.blocks, self.depth // 2)

    def pack(self, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
        """Transform weights and lay them out in reading order: words of channels 0 and 2, 1 and 3, of each four."""
        outputs, _, _, inputs = weights.shape
        wide = np.pad(weights, ((0, outputs % 2), (0, 0), (0, 0), (0, self.depth - inputs)))
        if self.made is not None:
            sides = wide.shape[1:3]
            fours = wide.reshape(-1, *sides, self.depth // 4, 2, 2)  # the last two: half of a pair, pair
            return self.made.pack(fours.transpose(0, 3, 5, 4, 1, 2).reshape(len(wide), -1, 2, *sides))
        u = self.transform.weights(wide).astype(np.int16)
        lines, n = self.transform.lines, self.transform.frequencies
        u = u.reshape(lines, n, self.blocks, 2, self.depth // 4, 2, 2)  # the last two: half-word, word
        words = np.ascontiguousarray(u.transpose(2, 0, 1, 4, 6, 3, 5)).view(np.uint32).ravel()
        return np.pad(words, (0, self.ahead))

    def instruction_features(self) -> Features:
        """Count copies, transforms, products and results."""
        key, count = self.transform.key, self.transform.count
        blocks, pairs = self.down * self.across * self.blocks, self.depth // 2
        loops = pairs // self.unrolled
        return {
            f"{key}_step{'s' if self.schedule.single else ''}": blocks * count * pairs,
            f"{key}_row": blocks * self.transform.lines if not self.transform.flat else 0,
            f"{key}_loop": blocks * count * loops if loops > 1 else 0,
            **self.shared_features(self.depth / 4),
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        size = self.transform.size
        return {
            f"code_{self.transform.key}{'s' if self.schedule.single else ''}": 1,
            **self.shared_code(self.unrolled),
            **self.spec.result_code(self.parts[0] * (self.parts[1] * TILES // 2 if size == 2 else 1)),
        }

    def emit(self, b: Body) -> None:
        """Write the kernel's statements."""
        lines = Lines(self, b)
        single, weights = self.schedule.single, functools.partial(self.frequencies, b)
        products = Products(b, self.transform, self.depth, self.unrolled, weights, single=single)
        if self.made is not None:
            words = self.transform.count * self.depth
            self.made.emit(b, self.input_words, self.depth, lambda row, pair: row // 2 * words + pair * 2 + row % 2)
        if self.transform.flat:
            with b.loop(self.across) as pair:
                lines.strip(pair)
                input_transform(b, self.transform, self.depth, self.line, self.inputs, 0)
                with b.loop(self.blocks) as block:
                    _line(Results(self, b, 0, pair, block), products.emit(block, self.inputs))
            return
        lines.border()
        with b.loop(self.down) as row:
            lines.copy(row)
            with b.loop(self.across) as pair:
                input_transform(b, self.transform, self.depth, self.line, self.inputs, pair)
                with b.loop(self.blocks) as block:
                    sums = products.emit(block, self.inputs)
                    write = _two if self.transform.size == 2 else _four
                    write(Results(self, b, row, pair, block), sums)


def _two(results: Results, sums: Any) -> None:
    """Transform the outputs of F(2x2, 3x3) and store them."""
    b = results.b

    def body(r: Any, channel: Any) -> None:
        # Of an image of one pair of tiles the second one may have nothing inside.
        for tile in range(TILES if results.form.spec.y.width > 2 else 1):
            ys = b.array("sums", 4)
            for j in range(2):
                at = [sums[8 * i + 4 * j + tile + 2 * r] for i in range(4)]
                at[0] = b.call("t_wadd", at[0], b["bias"][channel])
                two_outputs(b, at, lambda i, value, j=j, ys=ys: b.store(ys, 2 * i + j, value))  # type: ignore[misc]
            if results.form.spec.pooled:
                ys = _greatest_of_two(results, ys)
            high, wide = results.form.parts
            places = [(down, right) for down in range(high) for right in range(wide)]
            results.store(ys, places, channel, results.row * high, results.pair * (2 * wide) + wide * tile)

    each_channel(results, body)


def _greatest_of_two(results: Results, ys: Any) -> Any:
    """Return the greatest of each window of a tile of F(2x2, 3x3)."""
    (down, across), (high, wide) = results.form.spec.pool, results.form.parts
    found = results.b.array("greatest", high * wide)
    for i in range(high * wide):
        top, left = i // wide * down, i % wide * across
        own = [ys[2 * (top + dy) + left + dx] for dy in range(down) for dx in range(across)]
        greatest(results.b, found, i, own)
    return found


def _four(results: Results, sums: Any) -> None:
    """Transform the outputs of F(4x4, 3x3) and store them."""
    b, inverse = results.b, results.form.transform.inverse
    (down, across), (high, wide) = results.form.spec.pool, results.form.parts

    def body(r: Any, channel: Any) -> None:
        with b.loop(TILES) as tile, b.loop(wide) as ox:
            found = b.array("sums", high)
            for dx in range(across):
                ys = b.array("column", 4) if results.form.spec.pooled else found
                at = [sums[16 * i + 4 * (across * ox + dx) + 2 * r + tile] for i in range(6)]
                four_outputs(b, at, lambda i, value, ys=ys: b.store(ys, i, value), doubled=True)  # type: ignore[misc]
                for i in range(4):
                    b.store(ys, i, b.call("t_mac", b["bias"][channel], ys[i], inverse))
                for i in range(high) if results.form.spec.pooled else ():
                    before = [found[i]] if dx else []
                    greatest(b, found, i, before + [ys[down * i + dy] for dy in range(down)])
            column = results.pair * (TILES * wide) + tile * wide + ox
            results.store(found, [(oy, 0) for oy in range(high)], channel, results.row * high, column)

    each_channel(results, body)


def _line(results: Results, sums: Any) -> None:
    """Store the outputs of F(4, 3) or F(2, 5), which are transformed already."""
    b, transform, (_, wide) = results.b, results.form.transform, results.form.parts
    across = results.form.spec.pool[1]

    def body(r: Any, channel: Any) -> None:
        with b.loop(TILES) as tile:
            ys, found = b.array("sums", transform.size), b.array("greatest", wide)
            for i in range(transform.size):
                b.store(ys, i, b.call("t_mac", b["bias"][channel], sums[4 * i + 2 * r + tile], transform.inverse))
            for i in range(wide):
                greatest(b, found, i, [ys[across * i + dx] for dx in range(across)])
            column = results.pair * (TILES * wide) + tile * wide
            results.store(found, [(0, right) for right in range(wide)], channel, 0, column)

    each_channel(results, body)
