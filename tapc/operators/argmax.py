"""The place of the maximum among channels: the first where there are several."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tapc.base.arithmetic import Ints
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, Within, register
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Program, Step
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.argmax import ArgMaxSpec
from tapc.kernels.schedule import Schedule

CLASSES = 256
"""Places that 8-bit codes tell apart."""


@dataclass(frozen=True, eq=False)
class ArgMax(Op):
    """The place of the maximum among channels, with scale 1."""

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        y = program.tensors[self.output]
        found: Ints = x[0].argmax(axis=-1)[..., None] + y.zero
        return found

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        return [Step(self, ArgMaxSpec(x.plane, y.plane), {"x": self.inputs[0], "y": self.output}, {}, {"zero": y.zero})]


@write.register
def _write(op: ArgMax, file: TfliteFile) -> None:
    """Write the place as int32, less what codes begin with, and then as a code."""
    x, y = file.program.tensors[op.inputs[0]], file.program.tensors[op.output]
    places, wide, codes = file.whole(x.shape[:2]), file.whole(y.shape), file.whole(y.shape)
    axis = file.constant(np.array([3], np.int32))
    file.node("ARG_MAX", [file.tensor(op.inputs[0]), axis], places, "ArgMaxOptions", 2, outputType=file.int32)
    file.reshaped(places, wide, y.shape)
    file.plus(wide, y.zero, codes)
    file.cast(codes, file.tensor(op.output), "INT32", "INT8")


def _argmax(lowering: Lowering, node: onnx.NodeProto) -> None:
    source = lowering.graph.quantized(node.input[0])

    def make(y: Any, key: str, low: int, high: int) -> Op:
        if y.scale != 1.0 or y.zero != y.low:
            raise UnsupportedError(f"node {node.name!r}: the scale of an ArgMax must be 1, its least code 0")
        return ArgMax(node.name, (source,), key)

    lowering.add(node, make)


def _cast(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Take no step: a Cast makes numbers of places alone."""


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    shape, users = graph.shape(node.input[0]), graph.consumers[node.output[0]]
    given = (
        int(attribute(node, "axis", 0)),
        int(attribute(node, "keepdims", 1)),
        attribute(node, "select_last_index", 0),
    )
    if given != (1, 1, 0) or [user.op_type for user in users] != ["Cast"] or shape[1] > CLASSES:
        raise UnsupportedError(
            f"node {node.name!r}: a canonical ArgMax is the first place along axis 1 of at most {CLASSES}, behind it a "
            "Cast to numbers"
        )


def _within(graph: Graph, node: onnx.NodeProto) -> Within:
    return [], graph.consumers[node.output[0]][:1]


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    return Reach(np.zeros(1), np.full(1, graph.shape(node.input[0])[1] - 1.0))


def _reach_cast(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    return operands[0]


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return lambda operands: operands[0].argmax(1, keepdim=True)


def _torch_cast(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return lambda operands: operands[0].to(dtype)


@samples("argmax", 1.0)
def _sample(s: Sampler) -> None:
    side, channels = s.pick(1, 2, 3, 5), s.pick(2, 3, 5, 8, 10, 16, 32)
    x, y = s.tensor((side, side, channels), s.bits()), s.tensor((side, side, 1), 8, scale=1.0, zero=-128)
    s.add(ArgMax(s.name, (x.name,), y.name))


def _example(e: Example, op: str) -> str:
    x = e.vector(e.pick(1, 2, 5, 10, 33, CLASSES)) if e.pick(0, 1) else e.map(*e.shape())
    return e.node("Cast", e.node(op, x, axis=1, keepdims=1), to=int(onnx.TensorProto.FLOAT))


register(
    Rule(
        _argmax, _torch, _reach, only_8_bits=True, chooses=True, output=(0.0, float(CLASSES)), within=_within,
        check=_check, example=_example,
    ),
    "ArgMax",
)  # fmt: skip
register(Rule(_cast, _torch_cast, _reach_cast, arranges=True), "Cast")
