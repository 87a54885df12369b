"""A function of every element, as a table: hyperbolic, exponential, rectifying and rounding ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TfliteForm, TorchStep, register
from tapc.ir.lowering import Lowering
from tapc.operators.lookup import lower_function

Doubles = NDArray[np.float64]
_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}  # as ONNX defines them


@dataclass(frozen=True)
class Function:
    """An ONNX operator of one activation.

    Attributes
    ----------
    values : callable
        (float64 (...), **attributes) -> float64 (...).
    torch : callable
        (torch, tensor, **attributes) -> tensor.
    attributes : dict of str to float
        Attributes and their defaults.
    rises : bool
        It never falls where its argument rises.
    output : (float, float) or None
        Range that calibration need not find.
    inner : str
        ONNX operator whose results are arguments that it is defined for; for tests.
    tflite : TfliteForm or None
    name : str
        What an arithmetic knows it by that computes it in a way of its own.
    """

    values: Callable[..., Doubles]
    torch: Callable[..., Any]
    attributes: dict[str, float]
    rises: bool = False
    output: tuple[float, float] | None = None
    inner: str = ""
    tflite: TfliteForm | None = None
    name: str = ""


def _exp(x: Doubles) -> Doubles:
    with np.errstate(over="ignore"):
        result: Doubles = np.exp(x)
    return result


def _elu(x: Doubles, alpha: float) -> Doubles:
    result: Doubles = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return result


def _erf(x: Doubles) -> Doubles:
    result: Doubles = np.vectorize(math.erf, otypes=[np.float64])(x)
    return result


def _softplus(x: Doubles) -> Doubles:
    return np.asarray(np.logaddexp(0, x))


def _form(kind: str, *leaves: str) -> TfliteForm:
    return TfliteForm(kind, leaves)


FUNCTIONS: dict[str, Function] = {
    "Abs": Function(np.abs, lambda t, x: x.abs(), {}, tflite=_form("ABS", "Abs"), name="abs"),
    "Ceil": Function(np.ceil, lambda t, x: x.ceil(), {}, rises=True, tflite=_form("CEIL", "Ceil")),
    "Celu": Function(
        lambda x, alpha: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha),
        lambda t, x, alpha: t.nn.functional.celu(x, alpha), {"alpha": 1.0}, rises=True,
    ),
    "Cos": Function(np.cos, lambda t, x: x.cos(), {}, output=(-1.0, 1.0), tflite=_form("COS", "Cos")),
    "Elu": Function(
        _elu, lambda t, x, alpha: t.nn.functional.elu(x, alpha), {"alpha": 1.0}, rises=True,
        tflite=_form("ELU", "Elu"), name="elu",
    ),
    "Erf": Function(_erf, lambda t, x: x.erf(), {}, rises=True, output=(-1.0, 1.0)),
    "Exp": Function(_exp, lambda t, x: x.exp(), {}, rises=True, tflite=_form("EXP", "Exp")),
    "Floor": Function(np.floor, lambda t, x: x.floor(), {}, rises=True, tflite=_form("FLOOR", "Floor")),
    "HardSigmoid": Function(
        lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
        lambda t, x, alpha, beta: (alpha * x + beta).clamp(0, 1), {"alpha": 0.2, "beta": 0.5}, output=(0.0, 1.0),
        name="hard sigmoid",
    ),
    "HardSwish": Function(
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1), lambda t, x: t.nn.functional.hardswish(x), {},
        tflite=_form("HARD_SWISH", "HardSwish", "hard_swish"), name="hard swish",
    ),
    "Log": Function(np.log, lambda t, x: x.log(), {}, rises=True, inner="Sigmoid", tflite=_form("LOG", "Log")),
    "Mish": Function(lambda x: x * np.tanh(_softplus(x)), lambda t, x: t.nn.functional.mish(x), {}),
    "Neg": Function(np.negative, lambda t, x: -x, {}, tflite=_form("NEG", "Neg"), name="neg"),
    "Reciprocal": Function(np.reciprocal, lambda t, x: x.reciprocal(), {}, inner="Exp"),
    "Round": Function(np.rint, lambda t, x: x.round(), {}, rises=True, tflite=_form("ROUND", "Round")),
    "Selu": Function(
        lambda x, alpha, gamma: gamma * _elu(x, alpha),
        lambda t, x, alpha, gamma: gamma * t.nn.functional.elu(x, alpha), _SELU, rises=True,
    ),
    "Sign": Function(np.sign, lambda t, x: x.sign(), {}, rises=True, output=(-1.0, 1.0), tflite=_form("SIGN", "Sign")),
    "Sin": Function(np.sin, lambda t, x: x.sin(), {}, output=(-1.0, 1.0), tflite=_form("SIN", "Sin")),
    "Softplus": Function(_softplus, lambda t, x: t.nn.functional.softplus(x), {}, rises=True),
    "Softsign": Function(
        lambda x: x / (1 + np.abs(x)), lambda t, x: t.nn.functional.softsign(x), {}, output=(-1.0, 1.0)
    ),
    "Sqrt": Function(np.sqrt, lambda t, x: x.sqrt(), {}, rises=True, inner="Abs", tflite=_form("SQRT", "Sqrt")),
    "Tanh": Function(
        np.tanh, lambda t, x: x.tanh(), {}, rises=True, output=(-1.0, 1.0), tflite=_form("TANH", "Tanh"), name="tanh"
    ),
    "ThresholdedRelu": Function(
        lambda x, alpha: np.where(x > alpha, x, 0), lambda t, x, alpha: t.where(x > alpha, x, t.zeros_like(x)),
        {"alpha": 1.0},
    ),
}  # fmt: skip


def _given(node: onnx.NodeProto) -> dict[str, float]:
    return {name: float(attribute(node, name, default)) for name, default in _of(node).attributes.items()}


def _of(node: onnx.NodeProto) -> Function:
    return FUNCTIONS[node.op_type]


def _values(node: onnx.NodeProto, x: Doubles) -> Doubles:
    """Return what a node gives; where it is not defined, the least that there is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(_of(node).values(x, **_given(node)), nan=-np.inf, posinf=np.inf, neginf=-np.inf)


def _lower(lowering: Lowering, node: onnx.NodeProto) -> None:
    lower_function(lowering, node, lambda x: _values(node, x), _of(node).name, 0, **_given(node))


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    function, x = _of(node), operands[0]
    if function.rises:
        return Reach(_values(node, x.low), _values(node, x.high))
    low, high = function.output or (-np.inf, np.inf)
    return Reach(np.full(x.low.shape, low), np.full(x.low.shape, high))


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    function, given = _of(node), _given(node)
    return lambda operands: function.torch(torch, operands[0], **given)


def _example(e: Example, op: str) -> str:
    function = FUNCTIONS[op]
    x = e.any()
    if function.inner:
        # Beyond, a sigmoid is 0 to the precision of floats, and its logarithm whatever a runtime makes of that.
        ends = (e.constant(np.float32(end)) for end in (-6, 6))
        x = e.node(function.inner, e.node("Clip", x, *ends))
    return e.node(op, x, **{name: value * e.pick(0.3, 0.5, 1.0, 1.7) for name, value in function.attributes.items()})


for _name, _function in FUNCTIONS.items():
    register(
        Rule(
            _lower,
            _torch,
            _reach,
            only_8_bits=True,
            wide=True,
            output=_function.output,
            elementwise=True,
            any_size=True,
            example=_example,
            tflite=_function.tflite,
        ),
        _name,
    )
