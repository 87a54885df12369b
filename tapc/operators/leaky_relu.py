"""LeakyRelu: x where it is positive, alpha x elsewhere; a table."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.arithmetic import Mode, Ratios
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TfliteForm, TorchStep, register
from tapc.ir.lowering import Lowering
from tapc.ir.program import Op, Tensor
from tapc.operators.common import check_ratios
from tapc.operators.lookup import lower_function
from tapc.operators.wide import Wide
from tapc.operators.wide_leaky import WideLeaky, leaky_ratios


def _alpha(node: onnx.NodeProto) -> float:
    return float(attribute(node, "alpha", 0.01))


def _values(x: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.where(x > 0, x, alpha * x)
    return result


def _leaky_relu(lowering: Lowering, node: onnx.NodeProto) -> None:
    x = lowering.source(node)
    if _alpha(node) == 1 and (lowering.result(node)[0].bits > 8 or x.bits > 8):  # a change of scale of a kept network
        source = lowering.graph.quantized(node.input[0])

        def make(y: Tensor, key: str, low: int, high: int) -> Op:
            read = lowering.graph.consumers[key][0].output[0]
            if read in lowering.exact.wide:  # the graph has no words for it
                scale, zero = lowering.exact.wide[read]
                y = lowering.tensors[key] = replace(y, bits=32, scale=scale, zero=zero)
                low, high = y.low, y.high
            return Wide(node.name, (source,), key, "scale", low, high)

        lowering.add(node, make)
        return
    y, alpha = lowering.result(node)[0], _alpha(node)
    ratios = leaky_ratios(x.scale, y.scale, alpha)
    if x.bits == 16 and y.bits == 16 and (lowering.exact.kept or _expressible(ratios, lowering.mode)):
        source = lowering.graph.quantized(node.input[0])
        lowering.add(node, lambda own, key, low, high: WideLeaky(node.name, (source,), key, ratios, low, high))
        return
    lower_function(lowering, node, lambda x: _values(x, _alpha(node)), "leaky relu", alpha=_alpha(node))


def _expressible(ratios: Ratios, mode: Mode) -> bool:
    try:
        check_ratios(ratios, mode)
    except ValueError:
        return False
    return True


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    x, alpha = operands[0], _alpha(node)
    with np.errstate(invalid="ignore"):  # 0 times what has no bound
        ends = [
            np.nan_to_num(_values(bound, alpha), nan=0.0, posinf=np.inf, neginf=-np.inf) for bound in (x.low, x.high)
        ]
    low, high = np.minimum(*ends), np.maximum(*ends)
    return Reach(np.where(x.low < 0, np.minimum(low, 0), low), high)


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    from torch.nn import functional

    alpha = _alpha(node)
    return lambda operands: functional.leaky_relu(operands[0], alpha)


def _example(e: Example, op: str) -> str:
    return e.node(op, e.any(), alpha=e.pick(0.01, 0.1, 0.3, 1.5, -0.2))


register(
    Rule(
        _leaky_relu,
        _torch,
        _reach,
        only_8_bits=True,
        wide=True,
        scales=True,
        keeps_sign=True,
        elementwise=True,
        any_size=True,
        example=_example,
        tflite=TfliteForm(
            "LEAKY_RELU", ("LeakyRelu",), "LeakyReluOptions", ("Alpha",), lambda options: {"alpha": options["Alpha"]}
        ),
    ),
    "LeakyRelu",
)
