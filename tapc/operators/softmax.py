"""Softmax over channels; that of attention belongs to `tapc.operators.attention`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, SoftmaxForm, softmax_form
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import CHANNELS, Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.lowering import Lowering, attributes
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.elementwise import SoftmaxSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.attention import softmax_of_scores
from tapc.operators.common import clamp, scale_ratio
from tapc.operators.requantize import Requantize
from tapc.operators.softmax16 import wide_softmax

_WIDE, _WIDE_FORM = 1 << 16, "tflite"
"""Levels of a result of 16 bits, and how it is computed."""


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """Softmax over channels with output scale 1 / levels; a class falls where another rises."""

    table: NDArray[np.uint32]
    levels: int

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y = program.tensors[self.output]
        form = _form(program.mode, self.levels, y.zero)
        return arithmetic.softmax(x[0], self.table, self.levels, y.zero, y.low, y.high, form)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        form = _form(program.mode, self.levels, y.zero)
        spec = SoftmaxSpec(x.plane, y.plane, len(self.table), self.levels, form)
        constants = {"table": Constant("t", len(self.table), lambda: self.table)}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, clamp(y, y.low, y.high))]


def _form(mode: Mode, levels: int, zero: int) -> SoftmaxForm:
    """Return how a softmax is computed: of 16 bits as TFLite does it, in any arithmetic."""
    return _WIDE_FORM if levels == _WIDE else softmax_form(mode, levels, zero)


@write.register
def _write(op: Softmax, file: TfliteFile) -> None:
    x, y = (file.program.tensors[name] for name in (op.inputs[0], op.output))
    if (op.levels, y.zero) != (256, -128):
        raise UnsupportedError(f"operator {op.name!r}: TFLite's softmax has codes of 1/256 from -128 on")
    if x.scale * (1 << 26) <= 1:  # its factor would be no more than one, which TFLite does not take
        raise UnsupportedError(f"operator {op.name!r}: TFLite's softmax takes no scale as small as {x.scale:.3g}")
    file.node("SOFTMAX", [file.tensor(op.inputs[0])], file.tensor(op.output), "SoftmaxOptions", 2, beta=1.0)


def _softmax(lowering: Lowering, node: onnx.NodeProto) -> None:
    if softmax_of_scores(lowering, node):
        return
    x, rank = lowering.source(node), len(lowering.graph.shapes[node.input[0]])
    if int(attributes(node).get("axis", -1)) % rank != 1:
        raise UnsupportedError(f"node {node.name!r}: a Softmax that is not attention's must be over axis 1")

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        if x.bits == 16:
            return wide_softmax(node.name, lowering.graph.quantized(node.input[0]), x, y, key)
        if y.bits == 16:
            if y.zero != y.low or abs(y.scale * _WIDE - 1) > 1e-3:
                raise UnsupportedError(f"node {node.name!r}: a Softmax of 16 bits has codes of 1/65536 from -32768 on")
            table = arithmetic.softmax_table(x.scale, x.shape[2], x.high - x.low + 1, _WIDE_FORM)
            return Softmax(node.name, (lowering.graph.quantized(node.input[0]),), key, table, _WIDE)
        levels, result = round(1 / y.scale), key
        whole = levels == 1 / y.scale and levels <= 256
        if not whole:  # a scale that a quantized source gives: brought to it from the kernel's own
            levels, result = 256, f"{key}_shares"
            lowering.tensors[result] = Tensor(result, y.shape, 8, 1 / 256, -128)
        form = softmax_form(lowering.mode, levels, y.zero if whole else -128)
        table = arithmetic.softmax_table(x.scale, x.shape[2], x.high - x.low + 1, form)
        op = Softmax(node.name, (lowering.graph.quantized(node.input[0]),), result, table, levels)
        if whole:
            return op
        lowering.ops.append(op)
        ratio = scale_ratio(lowering.tensors[result], y, lowering.mode)
        return Requantize(f"{node.name}.scale", (result,), key, ratio, low, high)

    lowering.add(node, make)


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    channels = graph.shape(node.output[0])[1]
    return Reach(np.zeros(channels), np.ones(channels))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    axis = int(attribute(node, "axis", -1))
    return lambda operands: operands[0].softmax(axis)


@samples("network", 0.024)
@samples("softmax", 1.0)
def _sample(s: Sampler) -> None:
    side = s.pick(1, 1, 2, 4)
    x = s.tensor((side, side, s.pick(1, 2, 3, 5, 8, 10, 16, 20, 32, 50, 64, 100)), s.bits())
    y = s.tensor(x.shape, 8, scale=1 / 256, zero=-128)
    table = arithmetic.softmax_table(x.scale, x.shape[2], x.high - x.low + 1)
    s.add(Softmax(s.name, (x.name,), y.name, table, 256))


def _example(e: Example, op: str) -> str:
    if e.pick(0, 1):
        return e.node(op, e.vector(e.pick(*CHANNELS, 100)), axis=e.pick(1, -1))
    return e.node(op, e.map(*e.shape()), axis=e.pick(1, -3))


register(
    Rule(_softmax, _torch, _reach, only_8_bits=True, output=(0.0, 1.0), distribution=True, example=_example), "Softmax"
)
