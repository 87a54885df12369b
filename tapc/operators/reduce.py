"""Sums of rows, columns or whole maps, and means of rows or columns; means of whole maps are global pools."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from tapc.base.arithmetic import arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Tensor
from tapc.operators.pool import Pool

_SUM = "ReduceSum"


def _axes(values: Any) -> list[int]:
    return sorted(int(axis) % 4 for axis in np.asarray(values).reshape(-1))


def _reduce(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, axes = lowering.source(node), _axes(lowering.graph.constant(node.input[1]))
    kernel = (x.shape[0] if 2 in axes else 1, x.shape[1] if 3 in axes else 1)
    counts, summed = np.arange(1, kernel[0] * kernel[1] + 1, dtype=np.float32), node.op_type == _SUM

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        own = arithmetic_of(lowering.mode)
        scale = own.ratios((x.scale,), y.scale)
        ratios = np.full(len(counts), scale, scale.dtype) if summed else own.mean_ratios(x.scale, y.scale, counts)
        source = lowering.graph.quantized(node.input[0])
        pads, whole = (0, 0, 0, 0), not summed
        return Pool(node.name, (source,), key, "average", kernel, (1, 1), pads, summed, ratios, low, high, whole)

    lowering.add(node, make)


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    shape = graph.shape(node.input[0])
    axes = _axes(graph.constants[node.input[1]]) if node.input[1] in graph.constants else []
    if len(shape) != 4 or not axes or not set(axes) <= {2, 3} or not attribute(node, "keepdims", 1):
        raise UnsupportedError(f"node {node.name!r}: a canonical {node.op_type} keeps axes 2, 3 or both of a map")


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    return operands[0]


def _reach_sum(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    count = int(np.prod([graph.shape(node.input[0])[axis] for axis in _axes(graph.constants[node.input[1]])]))
    return Reach(operands[0].low * count, operands[0].high * count)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    axes, summed = _axes(graph.constants[node.input[1]]), node.op_type == _SUM

    def step(operands: list[Any]) -> Any:
        return operands[0].sum(axes, keepdim=True) if summed else operands[0].mean(axes, keepdim=True)

    return step


def _example(e: Example, op: str) -> str:
    axes = e.constant(np.array(e.pick([2], [3], [-1], [2, 3]) if op == _SUM else [e.pick(2, 3, -2)], np.int64))
    return e.node(op, e.map(*e.shape()), axes, keepdims=1)


_MEAN = Rule(_reduce, _torch, _reach, scales=True, keeps_sign=True, wide=True, check=_check, example=_example)
register(replace(_MEAN, any_size=True), "ReduceMean")
register(replace(_MEAN, reach=_reach_sum), _SUM)
