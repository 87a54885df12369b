"""Padding with a constant, of rows, columns and channels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import onnx

from tapc.base.arithmetic import Ints, Mode, Ratios
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.bands import RowWindow
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.schedule import Schedule
from tapc.operators.common import check_ratios, keep_alike, monotone, move, rescaled, scale_ratio, small_shape


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """Padding with one code.

    Attributes
    ----------
    pads : (int, int, int, int)
        Top, left, bottom, right.
    ratio : float32
        Scale of the input over that of the output.
    channels : (int, int)
        Before and behind those of the input.
    value : int or None
        Code of what is added; None: the output's zero point.
    """

    pads: tuple[int, int, int, int]
    ratio: Ratios
    channels: tuple[int, int] = (0, 0)
    value: int | None = None

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratio, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y = program.tensors[self.output]
        top, left, bottom, right = self.pads
        codes = rescaled(program, x[0], self.inputs[0], self.output, self.ratio, y.low, y.high)
        value = y.zero if self.value is None else self.value
        return np.pad(codes, ((0, 0), (top, bottom), (left, right), self.channels), constant_values=value)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        if not any(self.channels):
            keep_alike(self, kept)
            return
        # Added channels are all there as soon as one is: nobody needs them who does not need the others.
        x, y = kept.masks[self.inputs[0]], kept.masks[self.output]
        y[:] |= y.any()
        x[:] |= y.any()

    def row_windows(self, program: Program) -> tuple[RowWindow, ...] | None:
        return (RowWindow(1, 1, self.pads[0]),)

    def banded(self, inputs: tuple[str, ...], output: str, rows: int, pads: tuple[int, int]) -> Self:
        return replace(self, inputs=inputs, output=output, pads=(pads[0], self.pads[1], pads[1], self.pads[3]))

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        y = program.tensors[self.output]
        where = {"row": self.pads[0], "column": self.pads[1], "channel": self.channels[0], "fill": True}
        where["value"] = self.value is not None
        step = move(program, self, self.inputs[0], self.ratio, (y.low, y.high), None, **where)
        if self.value is None:
            return [step]
        return [replace(step, scalars={"value": self.value})]


@write.register
def _write(op: Pad, file: TfliteFile) -> None:
    y, (top, left, bottom, right) = file.program.tensors[op.output], op.pads
    ends = file.constant(np.array([[0, 0], [top, bottom], [left, right], op.channels], np.int32))
    source = file.scaled(op.inputs[0], op.output)
    if op.value is None:
        file.node("PAD", [source, ends], file.tensor(op.output), "PadOptions", 2)
        return
    value = file.constant(np.array([op.value], np.int8), y.scale, zero=y.zero)
    file.node("PADV2", [source, ends, value], file.tensor(op.output), "PadV2Options", 2)


def _value(node: onnx.NodeProto, constants: Mapping[str, Any]) -> float:
    return float(constants[node.input[2]].item()) if len(node.input) > 2 and node.input[2] else 0.0


def _channels(graph: Graph, node: onnx.NodeProto) -> tuple[int, int]:
    pads = graph.constants[node.input[1]].tolist()
    return pads[1], pads[len(pads) // 2 + 1]


def _pad(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, pads = lowering.source(node), lowering.graph.constant(node.input[1]).tolist()
    value = _value(node, {name: lowering.graph.constant(name) for name in node.input[2:3] if name})

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratio = scale_ratio(x, y, lowering.mode)
        begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
        spatial = (*begins[2:], *ends[2:]) or (0, 0, 0, 0)
        channels, source = (begins[1], ends[1]), lowering.graph.quantized(node.input[0])
        code = lowering.codes(y, (value, value))[0] if value else None
        return Pad(node.name, (source,), key, spatial, ratio, channels, code)

    lowering.add(node, make)


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    x, value, (before, behind) = operands[0], _value(node, graph.constants), _channels(graph, node)
    inner = Reach(np.minimum(x.low, value), np.maximum(x.high, value))
    ends = (np.pad(bound, (before, behind), constant_values=value) for bound in (inner.low, inner.high))
    return Reach(*ends)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    from torch.nn import functional

    mode = attribute(node, "mode", b"constant")
    if mode not in (b"constant", "constant") or (len(node.input) > 3 and node.input[3]):
        raise UnsupportedError(f"node {node.name!r}: a canonical Pad is constant and names no axes")
    pads = graph.constants[node.input[1]].tolist()
    value = _value(node, graph.constants)
    rank = len(pads) // 2
    # ONNX lists the axes from the first, begins before ends; torch from the last, begin and end together.
    order = [extent for axis in reversed(range(rank)) for extent in (pads[axis], pads[axis + rank])]
    return lambda operands: functional.pad(operands[0], order, value=value)


@samples("network", 0.048)
def _sample(s: Sampler) -> None:
    height, width, channels = shape = small_shape(s)
    x, y = s.tensor(shape, s.bits()), s.tensor((height + 2, width + 1, channels), s.bits())
    s.add(Pad(s.name, (x.name,), y.name, (1, 0, 1, 1), np.array(0.5, np.float32)))


@samples("copies", 1.0)
def _sample_copies(s: Sampler) -> None:
    shape, pads = s.map(), (s.pick(0, 1, 2), s.pick(0, 1, 2), s.pick(0, 1), s.pick(0, 1, 3))
    channels = (s.pick(0, 2), s.pick(1, 3, 6)) if s.pick(0, 0, 0, 1) else (0, 0)
    sizes = (shape[0] + pads[0] + pads[2], shape[1] + pads[1] + pads[3], shape[2] + sum(channels))
    bits, ratio = s.pick(4, 8, 8, 8, 8), np.array(s.pick(2, 2, 2, 1) / 2, np.float32)
    x, y = s.tensor(shape, bits), s.tensor(sizes, bits)
    s.add(Pad(s.name, (x.name,), y.name, pads, ratio, channels))


def _example(e: Example, op: str) -> str:
    value = e.constant(np.float32(e.pick(0, 0, 0.5, -3)))
    if not e.pick(0, 1, 2, 3):
        x = e.vector(e.pick(1, 3, 8, 17))
        return e.node(op, x, e.constant(np.array([0, e.pick(0, 1, 3), 0, e.pick(0, 1, 2)])), value, mode="constant")
    own = e.pick(0, 0, 1)
    ends = [n for _ in (0, 1) for n in (0, own * e.pick(0, 1, 2), e.pick(0, 1, 3), e.pick(0, 1, 2))]
    return e.node(op, e.map(*e.shape()), e.constant(np.array(ends)), value, mode="constant")


def _variant(graph: Graph, node: onnx.NodeProto) -> Rule:
    value, plain = _value(node, graph.constants), not any(_channels(graph, node))
    return replace(_PAD, repeats=not value, wide=not value, scales=plain and not value, keeps_sign=value >= 0)


_PAD = Rule(
    _pad,
    _torch,
    _reach,
    repeats=True,
    scales=True,
    keeps_sign=True,
    wide=True,
    any_size=True,
    example=_example,
    variant=_variant,
)
register(_PAD, "Pad")
