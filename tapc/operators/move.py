"""Moves: any chain of nodes that only bring elements into another order, as one copy, or none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.base.strides import Index, strided
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.rules import Rule, TorchStep, register, rule
from tapc.ir.channels import Bounds
from tapc.ir.lowering import Lowering
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.gather import GatherSpec
from tapc.kernels.layout import Plane
from tapc.kernels.schedule import Schedule
from tapc.operators.common import monotone

Loops = tuple[tuple[int, int | None], ...]


@dataclass(frozen=True, eq=False)
class Move(Op):
    """A copy of elements.

    Attributes
    ----------
    index : ndarray of int32, shape (H, W, C)
        For each element of the output, where it lies in the input, flat in height, width, channel order.
    same_rows : bool
        Input and output have as many elements, and pixels of as many bytes where their codes share bytes.
    """

    index: NDArray[np.int32]
    same_rows: bool

    @property
    def in_place(self) -> bool:
        flat = self.index.reshape(-1)
        return self.same_rows and bool((flat == np.arange(flat.size)).all())

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        return x[0].reshape(len(x[0]), -1)[:, self.index]

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        if self.in_place:
            return []
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        bits, index = placed(self.index.astype(np.int64), x.plane, y.plane)
        first, loops, tables = loops_of(index, apart=bits == 4 and y.plane.channels % 2 == 1)
        source, target = ((p if bits == p.bits else p.of_bytes()) for p in (x.plane, y.plane))
        constants = {"table": Constant("t", len(tables), lambda: tables.astype(np.int32))} if len(tables) else {}
        return [
            Step(self, GatherSpec(source, target, first, loops), {"x": self.inputs[0], "y": self.output}, constants)
        ]


def placed(index: Index, x: Plane, y: Plane) -> tuple[int, Index]:
    """Return where elements lie in a tensor's memory, and in units of how many bits.

    Parameters
    ----------
    index : ndarray of int64, shape (H, W, C)
        Flat in height, width, channel order.
    x, y : Plane
        Of the same bits.

    Returns
    -------
    int
        8: y's bytes are bytes of x. 4: its codes are halves of such.
    ndarray of int64, shape (H, W, C) of the codes, or (H, W, bytes of a pixel)
    """
    if x.bits == 8:
        return 8, index
    if x.bits == 16:
        return 8, np.stack([2 * index, 2 * index + 1], axis=-1).reshape(*index.shape[:2], -1)
    halves = index + index // x.channels * (2 * x.row - x.channels)
    # The half that an odd number of channels leaves over may be anything.
    rows = np.concatenate([halves, halves[..., -1:] + 1], axis=2)[..., : 2 * y.row]
    pairs = rows.reshape(*rows.shape[:2], y.row, 2)
    if (pairs[..., 0] % 2).any() or (pairs[..., 1] != pairs[..., 0] + 1).any():
        return 4, halves
    return 8, pairs[..., 0] // 2


def loops_of(index: Index, *, apart: bool = False) -> tuple[int, Loops, Index]:
    """Return where loops that visit these places in order begin, the loops, and the tables that they need.

    Parameters
    ----------
    index : ndarray of int64, shape (H, W, C)
    apart : bool
        Whether no loop may go from one pixel's channels to the next one's, where that can be.

    Returns
    -------
    int
    tuple of (int, int or None)
        Extent and stride, outermost first; a loop without a stride adds what its table says.
    ndarray of int64
        These tables, one after the other.
    """
    none = np.zeros(0, np.int64)
    first, strides = int(index[0, 0, 0]), strided(index.reshape(-1))
    if strides is not None and not apart:
        return first, strides, none
    axes = [index[:, 0, 0] - first, index[0, :, 0] - first, index[0, 0, :] - first]
    if not np.array_equal(first + axes[0][:, None, None] + axes[1][:, None] + axes[2], index):
        if strides is not None:
            return first, strides, none
        return 0, ((index.size, None),), index.reshape(-1)
    loops: list[tuple[int, int | None]] = []
    tables = [none]
    for axis in (axis for axis in axes if len(axis) > 1):
        found = strided(axis)
        loops += found if found is not None else ((len(axis), None),)
        tables += [] if found is not None else [axis]
    return first, tuple(loops), np.concatenate(tables)


def moved(op: str, x: NDArray[Any], attributes: Mapping[str, Any], constants: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return what a node that moves elements makes of an array, batch first."""
    if op == "Transpose":
        return x.transpose(attributes["perm"])
    if op == "Flatten":
        return x.reshape(len(x), -1)
    if op == "Reshape":
        return x.reshape(len(x), *constants[0].tolist()[1:])
    if op == "Gather":
        return np.take(x, constants[0], axis=int(attributes.get("axis", 0)))
    starts, ends, axes, steps = (part.reshape(-1).tolist() for part in constants)
    places = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places[axis] = slice(start, end, step)
    return x[tuple(places)]


def lower_move(lowering: Lowering, node: onnx.NodeProto) -> None:
    """Lower a chain of moves at its last node; a move beside an operator is part of that."""
    graph = lowering.graph
    users = graph.consumers.get(node.output[0], [])
    if len(users) != 1 or users[0].op_type != "QuantizeLinear":
        return
    chain = [node]
    while (before := graph.producer.get(chain[-1].input[0])) is not None and before.op_type != "DequantizeLinear":
        if not rule(before).arranges:
            return
        chain.append(before)
    x, source = lowering.source(node), graph.quantized(node.input[0])
    extents = graph.shapes[chain[-1].input[0]]
    value: NDArray[Any] = np.arange(int(np.prod(extents)), dtype=np.int64)
    value = value.reshape(1, *x.shape).transpose(0, 3, 1, 2) if len(extents) == 4 else value.reshape(extents)
    for step in reversed(chain):
        given = {a.name: onnx.helper.get_attribute_value(a) for a in step.attribute}
        value = moved(step.op_type, value, given, [graph.constant(name) for name in step.input[1:]])

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        index = (value.transpose(0, 2, 3, 1) if value.ndim == 4 else value).reshape(y.shape).astype(np.int32)
        same_rows = index.size == np.prod(x.shape) and (x.bits >= 8 or x.shape[2] == y.shape[2])
        return Move(node.name, (source,), key, index, bool(same_rows))

    lowering.add(node, make)


def _torch_slice(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    starts, ends, axes, steps = (graph.constants[name].reshape(-1).tolist() for name in node.input[1:5])

    def step(operands: list[Any]) -> Any:
        x = operands[0]
        for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
            chosen = torch.arange(x.shape[axis])[start:end:stride]
            x = x.index_select(axis, chosen)
        return x

    return step


def _torch_gather(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    indices = torch.tensor(graph.constants[node.input[1]])
    axis = int(attribute(node, "axis", 0))

    def step(operands: list[Any]) -> Any:
        x = operands[0].index_select(axis, indices.reshape(-1))
        return x.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

    return step


@samples("copies", 0.9)
def _sample_runs(s: Sampler) -> None:
    """Draw slices and repetitions, whose runs of bytes are copied."""
    height, width, channels = s.map()
    flat = np.arange(height * width * channels).reshape(height, width, channels)
    kept, start = s.pick(max(channels // 2, 2), channels), s.pick(0, 1)
    index = (flat[:, start:, :kept], flat[start:, ::2], flat[:, s.rng.integers(0, width, 4)])[s.pick(0, 1, 2)]
    if index.size:
        x, y = s.tensor(flat.shape, 8), s.tensor((index.shape[0], index.shape[1], index.shape[2]), 8)
        s.add(Move(s.name, (x.name,), y.name, index.astype(np.int32), False))


@samples("move", 1.0)
def _sample(s: Sampler) -> None:
    height, width, channels = s.pick(1, 3, 6, 8), s.pick(2, 4, 7), s.pick(2, 5, 8, 16)
    x = s.tensor((height, width, channels), s.bits())
    index = np.arange(height * width * channels).reshape(height, width, channels)
    kind = s.pick(0, 1, 2, 3, 4)
    if kind == 0:
        index = index.transpose(2, 0, 1)
    elif kind == 1:
        index = index[:, ::2, : -(-channels // 2)]
    elif kind == 2:
        index = index[:, s.rng.integers(0, width, 5)]
    elif kind == 3:
        index = s.rng.permutation(index.reshape(-1)).reshape(index.shape)
    else:
        depth = s.pick(3, 6)
        flat = index[:, :, : max(channels - 1, 1)].reshape(-1)
        if len(flat) < depth:
            return
        index = flat[: len(flat) // depth * depth].reshape(1, -1, depth)
    y = s.tensor((index.shape[0], index.shape[1], index.shape[2]), x.bits)
    s.add(Move(s.name, (x.name,), y.name, index.astype(np.int32), False))


def _example(e: Example, op: str) -> str:
    x = e.map(*(shape := e.shape()))
    if op == "Gather":
        axis = e.pick(1, 2, 3)
        return e.node(op, x, e.constant(e.rng.integers(0, shape[axis - 1], e.pick(1, 3, 7))), axis=axis)
    axes = sorted(set(e.rng.integers(1, 4, e.pick(1, 2, 3)).tolist()))
    starts = [int(e.rng.integers(shape[axis - 1])) for axis in axes]
    ends = [int(e.rng.integers(start + 1, shape[axis - 1] + 1)) for start, axis in zip(starts, axes, strict=True)]
    parts = (starts, ends, axes, [e.pick(1, 1, 2, 3) for _ in axes])
    return e.node(op, x, *(e.constant(np.array(part)) for part in parts))


_MOVE = Rule(lower_move, _torch_slice, repeats=True, arranges=True, keeps_sign=True, wide=True, example=_example)
register(_MOVE, "Slice")
register(replace(_MOVE, torch=_torch_gather), "Gather")
