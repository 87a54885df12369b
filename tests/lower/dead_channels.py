"""Random programs of every operator with channels that cannot change the output."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator, default_rng

from kernels.programs import conv_op, tensor
from tapc.base.arithmetic import softmax_table
from tapc.ir.program import Op, Program, Tensor
from tapc.operators.add import Add
from tapc.operators.concat import Concat
from tapc.operators.pad import Pad
from tapc.operators.pool import Pool
from tapc.operators.requantize import Requantize
from tapc.operators.reshape import Reshape
from tapc.operators.softmax import Softmax
from tapc.operators.weighted import Conv

KINDS = ("pointwise", "pointwise", "depthwise", "depthwise", "conv", "grouped", "add", "pool", "requantize", "pad",
         "concat")  # fmt: skip


def plant(op: Conv, x: Tensor, rng: Generator) -> Conv:
    """Zero some outputs, saturate some, and let some inputs go unread."""
    weights, bias = op.weights.copy(), op.bias.copy()
    fate = rng.choice(["live", "zero", "large"], len(bias), p=[0.5, 0.35, 0.15])
    weights[fate == "zero"] = 0
    spread = np.abs(weights.reshape(len(bias), -1).astype(np.int64)).sum(axis=1)
    # Biases of dead channels reach every code, and the zero point often.
    steps = rng.integers(-20, 21, len(bias)) * rng.integers(0, 2, len(bias))
    bias = np.where(fate == "zero", np.rint(steps / op.ratios), bias)
    bias = np.where(fate == "large", rng.choice([-1, 1], len(bias)) * (spread * 255 + 2000 / op.ratios), bias)
    weights[..., rng.random(weights.shape[3]) < 0.3] = 0
    return replace(op, weights=weights, bias=np.clip(bias, -(2**30), 2**30).astype(np.int32))


class Chain:
    """A program that grows operator by operator from a drawn seed."""

    def __init__(self, mode: str, rng: Generator) -> None:
        self.mode, self.rng = mode, rng
        shape = (int(rng.integers(1, 6)), int(rng.integers(1, 6)), int(rng.integers(1, 7)))
        self.tensors, self.ops = [self.tensor("x", shape)], list[Op]()

    def tensor(self, name: str, shape: tuple[int, int, int]) -> Tensor:
        return tensor(name, shape, int(self.rng.choice([4, 8])), self.rng)

    def emit(self, op: Op, y: Tensor) -> Tensor:
        self.ops.append(op)
        self.tensors.append(y)
        return y

    def conv(self, x: Tensor, outputs: int, size: int, groups: int, stride: int = 1, y: Tensor | None = None) -> Tensor:
        pads = (size // 2,) * 4
        extents = [(extent + 2 * (size // 2) - size) // stride + 1 for extent in x.shape[:2]]
        name = f"t{len(self.tensors)}"
        y = self.tensor(name, (*extents, outputs)) if y is None else y
        op = conv_op(
            self.rng, x, y, (size, size), (stride, stride), pads, groups, int(self.rng.choice([2, 4, 8])), name
        )
        return self.emit(plant(op, x, self.rng), y)

    def grow(self, kind: str) -> None:
        rng, x, name = self.rng, self.tensors[-1], f"t{len(self.tensors)}"
        height, width, channels = x.shape
        base = (name, (x.name,), name)
        stride = int(rng.integers(1, 3))
        if kind == "pointwise":
            self.conv(x, int(rng.integers(1, 9)), 1, 1)
        elif kind == "depthwise":
            self.conv(x, channels * int(rng.choice([1, 1, 1, 2])), 3, channels, stride)
        elif kind == "conv":
            self.conv(x, int(rng.integers(1, 7)), 3, 1, stride)
        elif kind == "grouped":
            groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
            self.conv(x, groups * int(rng.integers(1, 4)), int(rng.choice([1, 3])), groups)
        elif kind == "add":
            a = self.conv(x, channels, 1, 1)
            b = x if rng.random() < 0.5 else self.conv(x, channels, 1, 1)
            y = self.tensor(f"t{len(self.tensors)}", x.shape)
            self.emit(Add(y.name, (a.name, b.name), y.name, y.low, y.high), y)
        elif kind == "pool":
            y = self.tensor(name, x.shape)
            ratios = np.float32(x.scale) / (np.float32(y.scale) * np.arange(1, 10, dtype=np.float32))
            which, inclusive = str(rng.choice(["max", "average"])), bool(rng.integers(2))
            y = replace(x, name=name) if which == "max" else y
            self.emit(Pool(*base, which, (3, 3), (1, 1), (1, 1, 1, 1), inclusive, ratios, y.low, y.high), y)
        elif kind == "requantize":
            y = self.tensor(name, x.shape)
            low, high = sorted(rng.integers(y.low, y.high + 1, 2).tolist())
            self.emit(Requantize(*base, np.float32(x.scale) / np.float32(y.scale), low, high), y)
        elif kind == "pad":
            y = self.tensor(name, (height + 1, width + 2, channels))
            self.emit(Pad(*base, (1, 2, 0, 0), np.float32(x.scale) / np.float32(y.scale)), y)
        elif kind == "concat":
            other = self.conv(x, int(rng.integers(1, 5)), 1, 1)
            y = self.tensor(f"t{len(self.tensors)}", (height, width, channels + other.shape[2]))
            ratios = tuple(np.float32(t.scale) / np.float32(y.scale) for t in (x, other))
            self.emit(Concat(y.name, (x.name, other.name), y.name, ratios, y.low, y.high), y)

    def head(self, softmax: bool) -> None:
        """Flatten, a dense layer and sometimes a Softmax."""
        x = self.tensors[-1]
        flat = replace(x, name="flat", shape=(1, 1, int(np.prod(x.shape))))
        self.emit(Reshape("flat", (x.name,), "flat", "to_nchw", x.shape[0] * x.shape[1] > 1), flat)
        logits = self.conv(flat, 4, 1, 1)
        if softmax:
            y = Tensor("p", (1, 1, 4), 8, 1 / 256, -128)
            table = softmax_table(logits.scale, 4, logits.high - logits.low + 1)
            self.emit(Softmax("p", (logits.name,), "p", table, 256), y)

    def program(self) -> Program:
        tensors = {t.name: t for t in self.tensors}
        return Program("test", self.mode, tensors, tuple(self.ops), (self.tensors[0].name,), (self.tensors[-1].name,))


@st.composite
def programs(draw: st.DrawFn, mode: str) -> Program:
    """Draw the operators; the numbers come from a drawn seed."""
    chain = Chain(mode, default_rng(draw(st.integers(0, 2**32 - 1))))
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6)):
        chain.grow(kind)
    if draw(st.booleans()):
        chain.head(draw(st.booleans()))
    return chain.program()
