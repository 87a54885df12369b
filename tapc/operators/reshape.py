"""Flattening and its inverse, in NCHW order; Transpose and Reshape that only arrange what attention reads."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx

from tapc.base.arithmetic import Ints
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.rewriting import rewrites
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import Point, TfliteFile, write
from tapc.kernels.schedule import Schedule
from tapc.operators.common import monotone, move
from tapc.operators.move import Move, loops_of, lower_move, placed


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """Reshape in NCHW order; `moves` tells whether the NHWC bytes change places."""

    order: Literal["to_nchw", "from_nchw"]
    moves: bool

    @property
    def in_place(self) -> bool:
        return not self.moves

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        height, width, channels = program.tensors[self.output].shape
        if not self.moves:
            return x[0].reshape(len(x[0]), height, width, channels)
        if self.order == "to_nchw":
            return x[0].transpose(0, 3, 1, 2).reshape(len(x[0]), height, width, channels)
        return x[0].reshape(len(x[0]), channels, height, width).transpose(0, 2, 3, 1)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        x, y = kept.masks[self.inputs[0]], kept.masks[self.output]
        # In NCHW order the codes of one channel lie side by side.
        few, many = (x, y.reshape(len(x), -1)) if len(x) <= len(y) else (y, x.reshape(len(y), -1))
        union = few | many.any(axis=1)
        few |= union
        many |= union[:, None]

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        if not self.moves:
            return []
        y = program.tensors[self.output]
        return [move(program, self, self.inputs[0], np.ones((), np.float32), (y.low, y.high), None, order=self.order)]


@write.register
def _write(op: Reshape, file: TfliteFile) -> None:
    x, y = file.program.tensors[op.inputs[0]], file.program.tensors[op.output]
    source, point = file.tensor(op.inputs[0]), Point(x.scale, x.zero)
    if not op.moves:
        file.reshaped(source, file.tensor(op.output), y.shape)
    elif op.order == "to_nchw":
        height, width, channels = x.shape
        turned = file.between((channels, height, width), point)
        file.node("TRANSPOSE", [source, file.constant(np.array([0, 3, 1, 2], np.int32))], turned, "TransposeOptions", 2)
        file.reshaped(turned, file.tensor(op.output), y.shape)
    else:
        height, width, channels = y.shape
        planes = file.between((channels, height, width), point)
        file.reshaped(source, planes, (channels, height, width))
        order = file.constant(np.array([0, 2, 3, 1], np.int32))
        file.node("TRANSPOSE", [planes, order], file.tensor(op.output), "TransposeOptions", 2)


@rewrites
def _joined(program: Program) -> Program:
    """Let a move read what another one reads, where nothing else needs what lies between and no table tells the way."""
    ops: list[Op] = []
    made: dict[str, Op] = {}
    readers = Counter(name for op in program.ops for name in op.inputs)
    for op in program.ops:
        before = made.get(op.inputs[0]) if isinstance(op, Move) and readers[op.inputs[0]] == 1 else None
        moving = isinstance(before, Move) or (isinstance(before, Reshape) and before.moves)
        if before is not None and isinstance(op, Move) and moving and before.output not in program.outputs:
            whole = _together(program, before, op)
            if whole is not None:
                ops.remove(before)
                op = whole
        ops.append(op)
        made[op.output] = op
    return program.with_ops(tuple(ops))


def _together(program: Program, first: Op, second: Move) -> Move | None:
    """Return two moves as one; None where it would lie in place, or need a table."""
    x, y = program.tensors[first.inputs[0]], program.tensors[second.output]
    if x.bits != y.bits or x.bits < 8:
        return None
    places = np.arange(math.prod(x.shape), dtype=np.int64).reshape(1, *x.shape)
    index = second.reference(program, [first.reference(program, [places])])[0]
    found = Move(second.name, first.inputs, second.output, index.astype(np.int32), index.size == places.size)
    return None if found.in_place or len(loops_of(placed(index, x.plane, y.plane)[1])[2]) else found


def _reshape(lowering: Lowering, node: onnx.NodeProto) -> None:
    users = lowering.graph.consumers[node.output[0]]
    if lowering.graph.producer[node.input[0]].op_type != "DequantizeLinear" or users[0].op_type != "QuantizeLinear":
        lower_move(lowering, node)
        return
    x = lowering.source(node)
    between = lowering.graph.shapes[node.output[0]]
    pixels = x.shape[0] * x.shape[1], int(np.prod(between[2:]))
    if 1 not in pixels and between[1] != x.shape[2]:
        lower_move(lowering, node)
        return

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        if x.quantization != y.quantization or x.bits != y.bits:
            raise UnsupportedError(f"node {node.name!r} must not change the quantization of its input")
        flat = y.shape[0] * y.shape[1] == 1
        wide = x if flat else y
        plain = wide.shape[0] * wide.shape[1] == 1 or (wide.shape[2] == 1 and x.bits >= 8)
        order: Literal["to_nchw", "from_nchw"] = "to_nchw" if flat else "from_nchw"
        if x.shape[2] == y.shape[2]:  # the same channels of pixels in the same order
            plain = True
        return Reshape(
            node.name, (lowering.graph.quantized(node.input[0]),), key, order, not (plain or x.shape == y.shape)
        )

    lowering.add(node, make)


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    x, features = operands[0], graph.shape(node.output[0])
    if len(features) == 2 and features[1] % len(x.low) == 0:  # channel by channel
        return Reach(*(np.repeat(bound, features[1] // len(x.low)) for bound in (x.low, x.high)))
    return Reach(np.full(features[1], x.low.min()), np.full(features[1], x.high.max()))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    shape = graph.shape(node.output[0])[1:]
    return lambda operands: operands[0].reshape(len(operands[0]), *shape)


def _torch_transpose(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    order = tuple(attribute(node, "perm", ()))
    return lambda operands: operands[0].permute(order)


@samples("network", 0.036)
def _sample(s: Sampler) -> None:
    side, channels = s.pick(3, 6, 8), s.pick(2, 5, 8, 16, 32)
    x = s.tensor((side, side, channels), s.bits())
    s.add(Reshape(s.name, (x.name,), s.tensor((1, 1, side * side * channels), x.bits).name, "to_nchw", True))


@samples("copies", 0.8)
def _sample_copies(s: Sampler) -> None:
    side, channels = s.pick(1, 3, 6, 8), s.pick(1, 2, 3, 5, 8, 16, 32)
    bits, order = s.bits(), s.pick(0, 1)
    x, y = s.tensor((side, side, channels), bits), s.tensor((1, 1, side * side * channels), bits)
    if order:
        s.add(Reshape(s.name, (x.name,), y.name, "to_nchw", True))
    else:
        s.add(Reshape(s.name, (y.name,), x.name, "from_nchw", True))


def _example(e: Example, op: str) -> str:
    size = math.prod(shape := e.shape())
    if op == "Flatten":
        return e.node(op, e.map(*shape), axis=1)
    kind = "turned" if op == "Transpose" else e.pick("flat", "apart", "other", "turned")
    if kind == "apart":
        return e.node(op, e.vector(size), e.constant(np.array([1, *shape])))
    x = e.map(*shape)
    if kind == "turned":
        x = e.node("Transpose", x, perm=[0, *e.rng.permutation([1, 2, 3]).tolist()])
        if op == "Transpose" and e.pick(0, 1):
            return x
    rows = e.pick(*(n for n in range(1, size + 1) if size % n == 0))
    columns = e.pick(*(n for n in range(1, size // rows + 1) if size // rows % n == 0))
    target = [1, size] if kind == "flat" else [1, rows, columns, size // rows // columns]
    return e.node("Reshape", x, e.constant(np.array(target)))


_FLATTEN = Rule(_reshape, _torch, _reach, repeats=True, keeps_sign=True, flattens=True, wide=True, example=_example)
register(_FLATTEN, "Flatten")
register(replace(_FLATTEN, to_shape=True, arranges=True), "Reshape")
register(
    Rule(lower_move, _torch_transpose, repeats=True, arranges=True, keeps_sign=True, wide=True, example=_example),
    "Transpose",
)
