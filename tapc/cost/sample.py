"""Random kernels for the fit of the cost model: one program of many independent operators."""

from dataclasses import replace
from typing import Literal

import numpy as np

from tapc.base.arithmetic import Mode, softmax_table
from tapc.base.isa import Isa
from tapc.ir.program import Op, Program, Tensor
from tapc.operators.add import Add
from tapc.operators.attention import Attention, Scores
from tapc.operators.concat import Concat
from tapc.operators.layer_norm import LayerNorm
from tapc.operators.lookup import Lookup
from tapc.operators.pad import Pad
from tapc.operators.pool import Pool
from tapc.operators.requantize import Requantize
from tapc.operators.reshape import Reshape
from tapc.operators.softmax import Softmax
from tapc.operators.weighted import Conv, Residual


class _Sampler:
    def __init__(self, rng: np.random.Generator, largest: int) -> None:
        self.rng = rng
        self.largest = largest
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def tensor(self, shape: tuple[int, int, int], bits: int) -> Tensor:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(name, shape, bits, float(self.rng.uniform(0.03, 0.1)), 0 if bits == 4 else -4)
        return self.tensors[name]

    def ratios(self, count: int) -> np.ndarray:
        return self.rng.uniform(1e-4, 1e-2, count).astype(np.float32)

    def bits(self) -> int:
        return self.pick(4, 8)

    def conv(self) -> None:
        dense = self.rng.random() < 0.2
        size = 1 if dense else self.pick(1, 3, 3, 5)
        side = 1 if dense else self.pick(4, 5, 8, 12, 16)
        pad = 0 if dense or size == 1 else self.pick(0, size // 2)
        stride = 1 if dense else self.pick(1, 1, 2)
        if side < size:
            return
        groups = 1 if dense or self.rng.random() < 0.85 else 2
        depth = self.pick(1, 3, 3, 4, 8, 16, 24, 32, 64) if not dense else self.pick(16, 64, 100, 128, 256, 640)
        outputs = groups * self.pick(8, 16, 32, 48, 64, 5, 10)
        x = self.tensor((side, side, depth * groups), self.bits())
        extent = (side + 2 * pad - size) // stride + 1
        y = self.tensor((extent, extent, outputs), self.bits())
        w_bits = self.pick(2, 4, 8)
        if outputs * depth * size * size > self.largest or max(x.bytes, y.bytes) > 32768:
            return
        half = 1 << (w_bits - 1)
        weights = self.rng.integers(-half, half, (outputs, size, size, depth)).astype(np.int8)
        bias = 1 << 22 if self.rng.random() < 0.1 else 0  # leaves no room at the top of an accumulator
        op = Conv(
            f"op{len(self.ops)}", (x.name,), y.name, weights, w_bits, np.full(outputs, bias, np.int32),
            self.ratios(outputs), (stride, stride), (pad,) * 4, groups, y.low, y.high,
        )  # fmt: skip
        if self.rng.random() < 0.3 and not dense:
            other = self.tensor(y.shape, y.bits)
            middle = replace(y, name=f"{y.name}_middle")
            residual = Residual(f"{op.name}_add", middle, y.low, y.high, False)
            op = replace(op, inputs=(x.name, other.name), residual=residual)
        self.ops.append(op)

    def depthwise(self) -> None:
        side, channels, size = self.pick(3, 5, 8, 12), self.pick(4, 8, 16, 32), self.pick(3, 3, 5)
        stride, pad, multiplier = self.pick(1, 1, 2), self.pick(0, 1), self.pick(1, 1, 1, 2)
        if side + 2 * pad < size:
            return
        x = self.tensor((side, side, channels), self.bits())
        extent = (side + 2 * pad - size) // stride + 1
        y = self.tensor((extent, extent, channels * multiplier), self.bits())
        w_bits = self.pick(2, 4, 8)
        weights = self.rng.integers(-2, 2, (y.shape[2], size, size, 1)).astype(np.int8)
        self.ops.append(
            Conv(
                f"op{len(self.ops)}",
                (x.name,),
                y.name,
                weights,
                w_bits,
                np.zeros(y.shape[2], np.int32),
                self.ratios(y.shape[2]),
                (stride, stride),
                (pad,) * 4,
                channels,
                y.low,
                y.high,
            )
        )

    def pool(self) -> None:
        side, size, pad = self.pick(4, 8, 9), self.pick(2, 3, 4), self.pick(0, 0, 1)
        x = self.tensor((side, side, self.pick(3, 8, 16, 64)), self.bits())
        extent = (side + 2 * pad - size) // 2 + 1
        y = self.tensor((extent, extent, x.shape[2]), self.bits())
        kind: Literal["max", "average"] = "max" if self.rng.random() < 0.5 else "average"
        ratios = self.ratios(size * size)
        name = f"op{len(self.ops)}"
        self.ops.append(
            Pool(name, (x.name,), y.name, kind, (size, size), (2, 2), (pad,) * 4, False, ratios, y.low, y.high)
        )

    def other(self) -> None:
        side, channels = self.pick(1, 3, 6, 8), self.pick(2, 5, 8, 16, 32)
        x, y = self.tensor((side, side, channels), self.bits()), self.tensor((side, side, channels), self.bits())
        name, half = f"op{len(self.ops)}", np.float32(0.5)
        kind = self.pick(0, 1, 2, 3, 4)
        if kind == 0:
            r = self.tensor(x.shape, x.bits)
            self.ops.append(Add(name, (x.name, r.name), y.name, y.low, y.high))
        elif kind == 1:
            self.ops.append(Requantize(name, (x.name,), y.name, half, y.low, y.high))
        elif kind == 2:
            wide = self.tensor((side, side, 2 * channels), y.bits)
            self.ops.append(Concat(name, (x.name, y.name), wide.name, (half, half), wide.low, wide.high))
        elif kind == 3:
            padded = self.tensor((side + 2, side + 1, channels), y.bits)
            self.ops.append(Pad(name, (x.name,), padded.name, (1, 0, 1, 1), half))
        elif side > 1:
            flat = self.tensor((1, 1, side * side * channels), x.bits)
            self.ops.append(Reshape(name, (x.name,), flat.name, "to_nchw", True))
        else:
            out = self.tensor(x.shape, 8)
            self.tensors[out.name] = replace(out, scale=1 / 256, zero=-128)
            table = softmax_table(x.scale, channels, x.high - x.low + 1)
            self.ops.append(Softmax(name, (x.name,), out.name, table, 256))

    def transformer(self) -> None:
        side, heads, width = self.pick(2, 3, 5, 8), self.pick(1, 2, 3), self.pick(8, 16, 24, 32)
        shape, name = (side, side, heads * width), f"op{len(self.ops)}"
        x, y = self.tensor(shape, 8), self.tensor(shape, 8)
        kind = self.pick(0, 1, 2)
        if kind == 0:
            gain = self.rng.uniform(10, 60, heads * width).astype(np.float32)
            self.ops.append(LayerNorm(name, (x.name,), y.name, gain, gain, 1e-5))
        elif kind == 1:
            table = self.rng.integers(-128, 128, 256).astype(np.int8)
            self.ops.append(Lookup(name, (x.name,), y.name, table))
        else:
            others = tuple(self.tensor(shape, 8).name for _ in range(2))
            score, weight = replace(x, scale=0.05), replace(x, scale=1 / 256, zero=-128)
            scores = Scores(score, weight, self.ratios(2), softmax_table(0.05, side * side), 256)
            self.ops.append(Attention(name, (x.name, *others), y.name, heads, scores))


def random_program(
    count: int, mode: Mode, isa: Isa, seed: int, *, largest: int = 12000, transformer: bool = False
) -> Program:
    """Return a program of `count` unrelated operators, for measuring only.

    Parameters
    ----------
    count : int
    mode : {"float", "fixed"}
    isa : {"dsp", "mve", "scalar"}
    seed : int
    largest : int
        Most weights of one operator.
    transformer : bool
        Operators of transformers in place of those of convolutional networks.
    """
    sampler = _Sampler(np.random.default_rng(seed), largest)
    start = sampler.tensor((1, 1, 4), 8)
    kinds = (sampler.conv, sampler.depthwise, sampler.pool, sampler.other)
    while len(sampler.ops) < count:
        if transformer:
            sampler.transformer()
            continue
        kinds[int(sampler.rng.choice(4, p=[0.52, 0.12, 0.12, 0.24]))]()
    return Program("samples", mode, sampler.tensors, tuple(sampler.ops), start.name, sampler.ops[-1].output, isa)
