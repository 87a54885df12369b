"""Concatenation along channels, rows or columns."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from tapc.base.arithmetic import Ints, Mode, Ratios
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.bands import ROW, RowWindow
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.schedule import Schedule
from tapc.operators.common import check_ratios, keep_alike, monotone, move, rescaled, scale_ratio, small_shape
from tapc.operators.wide import Wide

# ONNX axes as those of (N, H, W, C), and what a copy calls the place where a part begins.
_AXES = {1: 3, 2: 1, 3: 2}
_PLACES = {1: "row", 2: "column", 3: "channel"}


def _axis(node: onnx.NodeProto, rank: int) -> int:
    return int(attribute(node, "axis", 1)) % rank


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Concatenation; one ratio per input.

    Attributes
    ----------
    ratios : tuple of float32
    low, high : int
        Clamp bounds.
    axis : {1, 2, 3}
        Of (N, H, W, C).
    """

    ratios: tuple[Ratios, ...]
    low: int
    high: int
    axis: int = 3

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratios, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        parts = [
            rescaled(program, codes, name, self.output, ratio, self.low, self.high)
            for codes, name, ratio in zip(x, self.inputs, self.ratios, strict=True)
        ]
        return np.concatenate(parts, axis=self.axis)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        if self.axis != 3:
            keep_alike(self, kept)
            return
        start = 0
        for name in self.inputs:
            mask = kept.masks[name]
            kept.couple(mask, kept.masks[self.output][start : start + len(mask)])
            start += len(mask)

    def row_windows(self, program: Program) -> tuple[RowWindow, ...] | None:
        return None if self.axis == 1 else (ROW,) * len(self.inputs)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        steps, start, place = [], 0, _PLACES[self.axis]
        for name, ratio in zip(self.inputs, self.ratios, strict=True):
            steps.append(move(program, self, name, ratio, (self.low, self.high), None, **{place: start}))
            start += program.tensors[name].shape[self.axis - 1]
        return steps


@write.register
def _write(op: Concat, file: TfliteFile) -> None:
    clamp = file.clamped(op.output, op.low, op.high, fused=False)
    parts = [file.scaled(name, op.output) for name in op.inputs]
    file.node("CONCATENATION", parts, clamp.output, "ConcatenationOptions", 2, axis=op.axis)
    file.finish(clamp)


def _concat(lowering: Lowering, node: onnx.NodeProto) -> None:
    inputs = tuple(lowering.graph.quantized(name) for name in node.input)
    axis = _AXES[_axis(node, len(lowering.graph.shapes[node.output[0]]))]

    y, key, low, high = lowering.result(node)
    if y.bits == 16 and not lowering.exact.kept:  # copies of codes alone join these
        inputs = tuple(_alike(lowering, node, i, y, f"{key}.{i}", (low, high)) for i in range(len(inputs)))

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        if y.bits == 16:
            low, high = y.low, y.high
        ratios = tuple(scale_ratio(lowering.tensors[n], y, lowering.mode) for n in inputs)
        return Concat(node.name, inputs, key, ratios, low, high, axis)

    lowering.add(node, make)


def _alike(lowering: Lowering, node: onnx.NodeProto, index: int, y: Tensor, key: str, ends: tuple[int, int]) -> str:
    """Return an operand with the scale of the result, between these bounds."""
    source, x = lowering.graph.quantized(node.input[index]), lowering.source(node, index)
    if (x.bits, x.quantization, ends) == (y.bits, y.quantization, (y.low, y.high)):
        return source
    lowering.tensors[key] = replace(y, name=key, shape=x.shape)
    lowering.ops.append(Wide(f"{node.name}.{index}", (source,), key, "scale", *ends))
    return key


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    low, high = [p.low for p in operands], [p.high for p in operands]
    if _axis(node, len(graph.shape(node.output[0]))) == 1:
        return Reach(np.concatenate(low), np.concatenate(high))
    return Reach(np.minimum.reduce(low), np.maximum.reduce(high))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    axis = int(attribute(node, "axis", 1))
    return lambda operands: torch.cat(operands, axis)


@samples("network", 0.048)
def _sample(s: Sampler) -> None:
    height, width, channels = shape = small_shape(s)
    half, parts = np.array(0.5, np.float32), (s.tensor(shape, s.bits()), s.tensor(shape, s.bits()))
    y = s.tensor((height, width, 2 * channels), parts[1].bits)
    s.add(Concat(s.name, tuple(part.name for part in parts), y.name, (half, half), y.low, y.high))


@samples("copies", 0.6)
def _sample_copies(s: Sampler) -> None:
    shape, axis = s.map(), s.pick(0, 1, 2, 2)
    parts = [tuple(s.pick(size, 1, 4, 5, 20, 32) if i == axis else size for i, size in enumerate(shape)) for _ in "ab"]
    whole = tuple(sum(part[i] for part in parts) if i == axis else size for i, size in enumerate(shape))
    one, y = np.array(1.0, np.float32), s.tensor((whole[0], whole[1], whole[2]), 8)
    names = tuple(s.tensor((part[0], part[1], part[2]), 8).name for part in parts)
    s.add(Concat(s.name, names, y.name, (one,) * 2, y.low, y.high, axis + 1))


def _example(e: Example, op: str) -> str:
    count = e.pick(2, 2, 3, 4)
    if not e.pick(0, 1, 2):
        return e.node(op, *(e.vector(e.pick(1, 2, 3, 8, 17)) for _ in range(count)), axis=e.pick(1, -1))
    shape, axis = [*e.shape((1, 2, 3, 4, 5, 8, 17), (1, 2, 4, 5, 7), (1, 2, 3, 5, 8))], e.pick(1, 2, 3)
    parts: list[str] = []
    for _ in range(count):
        shape[axis - 1] = e.pick(1, 2, 3, 4, 7, 8)
        parts.append(e.map(*shape) if not parts or e.pick(0, 1, 2) else parts[0])
    return e.node(op, *parts, axis=e.pick(axis, axis - 4))


register(Rule(_concat, _torch, _reach, joins=True, wide=True, any_size=True, example=_example), "Concat")
