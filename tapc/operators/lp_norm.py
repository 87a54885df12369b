"""Each pixel's channels divided by their length."""

import math
from typing import Any

import numpy as np
import onnx

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.lowering import Lowering
from tapc.operators.layer_norm import LayerNorm

_LEAST = 1e-12
"""What is added to the mean square: a length of zero makes zeros of zeros."""


def _lp_norm(lowering: Lowering, node: onnx.NodeProto) -> None:
    source, channels = lowering.graph.quantized(node.input[0]), lowering.source(node).shape[2]

    def make(y: Any, key: str, low: int, high: int) -> LayerNorm:
        # The length is the root of the mean square times that of the channels.
        gain = np.full(channels, 1 / math.sqrt(channels) / y.scale, np.float32)
        return LayerNorm(node.name, (source,), key, gain, np.zeros(channels, np.float32), _LEAST, mean=False)

    lowering.add(node, make)


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    rank = len(graph.shape(node.output[0]))
    if int(attribute(node, "axis", -1)) % rank != 1 or int(attribute(node, "p", 2)) != 2:
        raise UnsupportedError(f"node {node.name!r}: a canonical LpNormalization has axis 1 and p=2")


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    channels = len(operands[0].low)
    return Reach(np.full(channels, -1.0), np.ones(channels))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    from torch.nn import functional

    return lambda operands: functional.normalize(operands[0], dim=1)


def _example(e: Example, op: str) -> str:
    if e.pick(0, 1):
        return e.node(op, e.vector(e.pick(2, 5, 10)), axis=e.pick(1, -1), p=2)
    return e.node(op, e.map(e.pick(2, 5, 17), e.pick(1, 4), e.pick(1, 3)), axis=1, p=2)


register(
    Rule(_lp_norm, _torch, _reach, only_8_bits=True, keeps_sign=True, any_size=True, check=_check, example=_example),
    "LpNormalization",
)
