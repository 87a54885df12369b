"""LogSoftmax over channels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.arithmetic.logarithm import Logarithms, logarithms
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import CHANNELS, Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.lowering import Lowering, attributes
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.log_softmax import LogSoftmaxSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.common import check_ratios, clamp, factors


@dataclass(frozen=True, eq=False)
class LogSoftmax(Op):
    """Logarithm of the softmax over channels.

    Attributes
    ----------
    table : ndarray of uint32, shape (256,)
        Exponentials of differences to the largest code.
    """

    table: NDArray[np.uint32]

    def _logarithms(self, x: Tensor) -> Logarithms:
        return logarithms(255 * x.scale)

    def _ratio(self, tensors: Mapping[str, Tensor], mode: Mode) -> Ratios:
        fraction = self._logarithms(tensors[self.inputs[0]]).fraction
        return np.atleast_1d(arithmetic_of(mode).ratios((2.0**-fraction,), tensors[self.output].scale))

    def _scalars(self, x: Tensor) -> dict[str, int]:
        """Return a code's step, the logarithm of the table's first entry, and that of 2."""
        logs = self._logarithms(x)
        one = round(math.log(int(self.table[0])) * 2.0**logs.fraction)
        return {"step": round(x.scale * 2.0**logs.fraction), "one": one, "octave": logs.octave}

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self._ratio(tensors, mode), mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        source, y, (codes,) = program.tensors[self.inputs[0]], program.tensors[self.output], x
        if self._own(program):
            index, kind = codes.max(axis=-1, keepdims=True) - codes, arithmetic_of(program.mode)
            found = kind.log_softmax(self.table.astype(np.int64)[index], kind.log_steps(source.scale)[index])
            return np.clip(found + y.zero, y.low, y.high)
        below, own = codes - codes.max(axis=-1, keepdims=True), self._scalars(source)
        total = self.table.astype(np.int64)[-below].sum(axis=-1, keepdims=True)
        acc = below * own["step"] - (self._logarithms(source).of(total) - own["one"])
        m = arithmetic.multipliers(self._ratio(program.tensors, program.mode), program.mode)
        return arithmetic.requantize(acc, m, y.zero, y.low, y.high)

    def _own(self, program: Program) -> bool:
        return _of_its_own(program.mode, program.tensors[self.output])

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        tensors, ends, distance = (
            {"x": self.inputs[0], "y": self.output},
            clamp(y, y.low, y.high),
            {self.inputs[0]: Overlap(0)},
        )
        if self._own(program):
            tables = {
                "table": Constant("t", 256, lambda: self.table),
                "logs": Constant("l", 256, lambda: arithmetic_of(program.mode).log_steps(x.scale)),
            }
            spec = LogSoftmaxSpec(x.plane, y.plane, program.mode, own=True)
            return [Step(self, spec, tensors, tables, ends, distance)]
        logs = self._logarithms(x)
        constants = {
            "table": Constant("t", len(self.table), lambda: self.table),
            "logs": Constant("l", len(logs.table), lambda: logs.table),
            "s": factors(self._ratio(program.tensors, program.mode), program.mode),
        }
        spec = LogSoftmaxSpec(x.plane, y.plane, program.mode)
        return [Step(self, spec, tensors, constants, {**self._scalars(x), **ends}, distance)]


@write.register
def _write(op: LogSoftmax, file: TfliteFile) -> None:
    if not _of_its_own(file.program.mode, file.program.tensors[op.output]):
        raise UnsupportedError(f"operator {op.name!r}: TFLite's logarithm of a softmax has codes of 1/16 up to 127")
    file.node("LOG_SOFTMAX", [file.tensor(op.inputs[0])], file.tensor(op.output), "LogSoftmaxOptions", 2)


def _of_its_own(mode: Mode, y: Tensor) -> bool:
    """Whether an arithmetic has integers of its own for this result."""
    levels = arithmetic_of(mode).log_softmax_levels
    return bool(levels) and y.quantization == (1 / levels, 127)


def _log_softmax(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, rank = lowering.source(node), len(lowering.graph.shapes[node.input[0]])
    if int(attributes(node).get("axis", -1)) % rank != 1:
        raise UnsupportedError(f"node {node.name!r}: a LogSoftmax must be over axis 1")
    source = lowering.graph.quantized(node.input[0])

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        form = lowering.mode if _of_its_own(lowering.mode, y) else arithmetic.RATIO
        return LogSoftmax(node.name, (source,), key, arithmetic.softmax_table(x.scale, x.shape[2], form=form))

    lowering.add(node, make)


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    channels = graph.shape(node.output[0])[1]
    return Reach(np.full(channels, -np.inf), np.zeros(channels))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    axis = int(attribute(node, "axis", -1))
    return lambda operands: operands[0].log_softmax(axis)


@samples("softmax", 1.0)
def _sample(s: Sampler) -> None:
    side, channels = s.pick(1, 2, 3, 5, 7), s.pick(1, 2, 3, 5, 8, 10, 16, 20, 32, 50, 64, 100)
    levels = arithmetic_of(s.mode).log_softmax_levels * s.pick(0, 1)
    x = s.tensor((side, side, channels), 8)
    y = s.tensor(x.shape, 8, **({"scale": 1 / levels, "zero": 127} if levels else {}))
    form = s.mode if levels else arithmetic.RATIO
    s.add(LogSoftmax(s.name, (x.name,), y.name, arithmetic.softmax_table(x.scale, channels, form=form)))


def _example(e: Example, op: str) -> str:
    if e.pick(0, 1):
        return e.node(op, e.vector(e.pick(*CHANNELS, 100)), axis=e.pick(1, -1))
    return e.node(op, e.map(*e.shape()), axis=e.pick(1, -3))


# Codes of 1/16 up to 127 for zero: those of which TFLite has integers, down to a ten-millionth.
register(
    Rule(_log_softmax, _torch, _reach, only_8_bits=True, output=(-255 / 16, 1 / 16), example=_example), "LogSoftmax"
)
