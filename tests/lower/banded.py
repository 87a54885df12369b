"""Random networks of what may be computed in bands."""

from dataclasses import replace

import numpy as np

from tapc.ir.program import Op, Program, Tensor
from tapc.lower.fuse import fuse
from tapc.operators.add import Add
from tapc.operators.concat import Concat
from tapc.operators.lookup import Lookup
from tapc.operators.pad import Pad
from tapc.operators.pool import Pool
from tapc.operators.requantize import Requantize
from tapc.operators.weighted import Conv


class Chain:
    """Draws operators one behind the other, some with a branch that joins again."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, channels: int) -> None:
        self.rng = rng
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.at = self.tensor((height, width, channels))

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def tensor(self, shape: tuple[int, int, int], bits: int | None = None) -> Tensor:
        bits, name = bits or self.pick(4, 8, 8), f"t{len(self.tensors)}"
        zero = self.pick(0, 3) if bits == 4 else self.pick(-128, -4, 0, 7)
        self.tensors[name] = Tensor(name, shape, bits, float(np.float32(self.rng.uniform(0.03, 0.1))), zero)
        return self.tensors[name]

    @property
    def name(self) -> str:
        return f"op{len(self.ops)}"

    def window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int], int, int]:
        """Draw kernel, strides, pads, dilations and the extents of the result, at least one of each."""
        while True:
            kernel, stride = (self.pick(1, 2, 3, 5), self.pick(1, 3)), (self.pick(1, 1, 2, 3), self.pick(1, 2))
            dilation = (self.pick(1, 1, 1, 2), 1)
            spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
            pads = [int(self.rng.integers(0, spans[i % 2])) for i in range(4)]
            extents = [
                (size + pads[axis] + pads[axis + 2] - span) // step + 1
                for axis, (size, span, step) in enumerate(zip(self.at.shape, spans, stride, strict=False))
            ]
            # Between the rows of a window with distances a small image could lie whole.
            if min(extents) > 0 and (dilation[0] == 1 or self.at.shape[0] > dilation[0]):
                return kernel, stride, (pads[0], pads[1], pads[2], pads[3]), dilation, extents[0], extents[1]

    def conv(self, *, depthwise: bool = False) -> None:
        kernel, stride, pads, dilation, height, width = self.window()
        inputs = self.at.shape[2]
        outputs = inputs * self.pick(1, 1, 2) if depthwise else self.pick(1, 3, 4, 8, 12)
        y = self.tensor((height, width, outputs))
        weights = self.rng.integers(-8, 8, (outputs, *kernel, 1 if depthwise else inputs)).astype(np.int8)
        ratios = self.rng.uniform(1e-3, 3e-2, outputs).astype(np.float32)
        bias = self.rng.integers(-500, 500, outputs).astype(np.int32)
        groups = inputs if depthwise else 1
        self.add(Conv(self.name, (self.at.name,), y.name, weights, 4, bias, ratios, stride, pads, groups,
                      y.low + 1, y.high, dilation), y)  # fmt: skip

    def pool(self) -> None:
        kernel, stride, pads, dilation, height, width = self.window()
        y = self.tensor((height, width, self.at.shape[2]))
        kind = "max" if self.pick(0, 1) else "average"
        taps = kernel[0] * kernel[1]
        ratios = (0.9 / np.arange(1, taps + 1)).astype(np.float32)
        self.add(Pool(self.name, (self.at.name,), y.name, kind, kernel, stride, pads, bool(self.pick(0, 1)), ratios,
                      y.low, y.high, False, dilation), y)  # fmt: skip

    def halved(self) -> None:
        """Add a max-pooling that a convolution before it may take in."""
        height, width, channels = self.at.shape
        if min(height, width) >= 2:
            y = self.tensor((height // 2, width // 2, channels), self.at.bits)
            y = self.tensors[y.name] = replace(y, scale=self.at.scale, zero=self.at.zero)
            ratios = np.ones(4, np.float32)
            self.add(Pool(self.name, (self.at.name,), y.name, "max", (2, 2), (2, 2), (0,) * 4, False, ratios,
                          y.low, y.high), y)  # fmt: skip

    def elementwise(self) -> None:
        if self.at.bits == 8 and self.pick(0, 1):
            y = self.tensor(self.at.shape, 8)
            self.add(Lookup(self.name, (self.at.name,), y.name, self.rng.integers(-128, 128, 256).astype(np.int8)), y)
        else:
            y = self.tensor(self.at.shape)
            self.add(Requantize(self.name, (self.at.name,), y.name, np.array(0.8, np.float32), y.low, y.high), y)

    def pad(self) -> None:
        height, width, channels = self.at.shape
        top, left, bottom, right = (self.pick(0, 1, 2) for _ in range(4))
        y = self.tensor((height + top + bottom, width + left + right, channels))
        self.add(Pad(self.name, (self.at.name,), y.name, (top, left, bottom, right), np.array(1.1, np.float32)), y)

    def joined(self) -> None:
        """Add a branch of one or two layers that keep the shape, and join it by an addition or a concatenation."""
        x = self.at
        for _ in range(self.pick(1, 2)):
            size, channels = self.pick(1, 3), self.at.shape[2]
            y = self.tensor(self.at.shape)
            weights = self.rng.integers(-8, 8, (channels, size, size, channels)).astype(np.int8)
            ratios = self.rng.uniform(1e-3, 3e-2, channels).astype(np.float32)
            self.add(Conv(self.name, (self.at.name,), y.name, weights, 4, np.zeros(channels, np.int32), ratios, (1, 1),
                          (size // 2,) * 4, 1, y.low, y.high), y)  # fmt: skip
        if self.pick(0, 1):
            y, names = self.tensor(self.at.shape), [x.name, self.at.name]
            self.rng.shuffle(names)
            self.add(Add(self.name, (names[0], names[1]), y.name, y.low, y.high), y)
        else:
            y = self.tensor((*self.at.shape[:2], 2 * self.at.shape[2]), self.at.bits)
            ratios = (np.array(0.7, np.float32), np.array(1.0, np.float32))
            self.add(Concat(self.name, (x.name, self.at.name), y.name, ratios, y.low, y.high), y)

    def add(self, op: Op, y: Tensor) -> None:
        self.ops.append(op)
        self.at = y

    def program(self) -> Program:
        first = self.ops[0].inputs[0]
        program = Program("chain", "float", self.tensors, tuple(self.ops), (first,), (self.at.name,))
        return fuse(program)


def chain(seed: int, length: int) -> Program:
    """Return a network of so many pieces, and a layer behind them that needs the whole map."""
    rng = np.random.default_rng(seed)
    made = Chain(rng, int(rng.integers(5, 20)), int(rng.choice([4, 8])), int(rng.choice([1, 3, 4])))
    pieces = (made.conv, made.conv, lambda: made.conv(depthwise=True), made.pool, made.halved, made.elementwise,
              made.joined, made.joined, made.pad)  # fmt: skip
    made.conv()
    for _ in range(length - 1):
        pieces[int(rng.integers(len(pieces)))]()
    return made.program()
