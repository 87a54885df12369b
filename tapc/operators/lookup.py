"""Any function of one 8-bit code: a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints, Values, arithmetic_of
from tapc.base.arithmetic.tflite_functions import UNBOUNDED, UNIT, affine
from tapc.base.errors import UnsupportedError
from tapc.ir.bands import ROW, RowWindow
from tapc.ir.lowering import Lowering
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import VALID, TfliteFile, write
from tapc.kernels.lookup import LookupSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.common import as_words
from tapc.operators.wide import wide_gate
from tapc.operators.wide_table import wide_table


@dataclass(frozen=True, eq=False)
class Lookup(Op):
    """Any function of one 8-bit code: `table[code + 128]`.

    Attributes
    ----------
    table : ndarray of int8, shape (256,)
    function : str
        What the arithmetic knows it by, where it computes it in a way of its own.
    given : dict of str to float
        Attributes of that function.
    """

    table: NDArray[np.int8]
    function: str = ""
    given: Mapping[str, float] = field(default_factory=dict)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        return self.table.astype(np.int64)[x[0] + 128]

    def row_windows(self, program: Program) -> tuple[RowWindow, ...] | None:
        return (ROW,)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        spec = LookupSpec(program.tensors[self.inputs[0]].plane, program.tensors[self.output].plane)
        constants = {"table": Constant("t", 64, lambda: as_words(self.table))}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, {}, {self.inputs[0]: Overlap(0)})]


_WRITTEN = {"abs": "ABS", "elu": "ELU", "hard swish": "HARD_SWISH", "leaky relu": "LEAKY_RELU", "relu": "RELU",
            "sigmoid": "LOGISTIC", "tanh": "TANH"}  # fmt: skip
_OPTIONS = {"ABS": "AbsOptions", "HARD_SWISH": "HardSwishOptions", "LEAKY_RELU": "LeakyReluOptions"}


@write.register
def _write(op: Lookup, file: TfliteFile) -> None:
    if op.function in ("hard sigmoid", "neg"):
        _line(op, file)
        return
    if op.function not in _WRITTEN:
        file.looked_up(op.inputs[0], op.output, op.table)
        return
    kind = _WRITTEN[op.function]
    options = {"alpha": op.given["alpha"]} if op.function == "leaky relu" else {}
    file.node(kind, [file.tensor(op.inputs[0])], file.tensor(op.output), _OPTIONS.get(kind, ""), 1, **options)


def _line(op: Lookup, file: TfliteFile) -> None:
    """Write a depthwise convolution of one place, which NPUs take, too."""
    x, y = file.program.tensors[op.inputs[0]], file.program.tensors[op.output]
    hard = op.function == "hard sigmoid"
    own = affine(x.quantization, y.quantization, op.given.get("alpha", -1.0), op.given.get("beta", 0.0),
                 UNIT if hard else UNBOUNDED)  # fmt: skip
    assert own is not None
    scales, clamp = np.full(x.shape[2], own.scale, np.float32), file.clamped(op.output, *own.ends)
    weights = file.constant(np.full((1, 1, 1, x.shape[2]), own.weight, np.int8), scales, 3)
    bias = file.constant(np.full(x.shape[2], own.bias, np.int32), np.float32(x.scale) * scales)
    window = {"padding": VALID, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1,
              "depthMultiplier": 1, "fusedActivationFunction": clamp.activation}  # fmt: skip
    sides = [file.tensor(op.inputs[0]), weights, bias]
    file.node("DEPTHWISE_CONV_2D", sides, clamp.output, "DepthwiseConv2DOptions", 3, **window)
    file.finish(clamp)


def lower_function(
    lowering: Lowering, node: onnx.NodeProto, function: Values, name: str = "", index: int = 0, **attributes: float
) -> None:
    """Lower a node that applies a function to every element.

    Parameters
    ----------
    lowering : Lowering
    node : NodeProto
        Of one activation.
    function : callable
        From float64 (256,), the values of all codes, to float64 (256,).
    name : str
        What an arithmetic knows it by that computes it in a way of its own.
    index : int
        Which of its inputs is an activation.
    attributes
        As the arithmetic takes them.
    """
    own = arithmetic_of(lowering.mode)
    x, source = lowering.source(node, index), lowering.graph.quantized(node.input[index])

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        if 16 in (x.bits, y.bits):
            whole = (low, high) == (y.low, y.high)
            gate = wide_gate(node.name, name, source, x, y, key) if whole else None
            if gate is None and lowering.exact.kept:
                raise UnsupportedError(
                    f"node {node.name!r}: {node.op_type} of {x.bits}-bit codes of scale {x.scale:.3g} to {y.bits} bits "
                    f"of scale {y.scale:.3g} has no kernel with the source's integers; pass the float32 or int8 network"
                )
            return gate or wide_table(node.name, function, source, x, y, key, low, high)
        given, known = np.arange(-128, 128), own.functions.get(name)
        codes: Any = known and known(given, x.quantization, y.quantization, **attributes)
        named = "" if codes is None or (low, high) != (y.low, y.high) else name
        if codes is None:
            codes = own.function(given, function, x.quantization, y.quantization)
        return Lookup(node.name, (source,), key, np.clip(codes, low, high).astype(np.int8), named, attributes)

    lowering.add(node, make)


@samples("transformer", 1.0)
def _sample(s: Sampler) -> None:
    shape = (side := s.pick(1, 2, 3, 5, 8), side, s.pick(1, 2, 3) * s.pick(3, 8, 16, 24, 32))
    table = s.rng.integers(-128, 128, 256).astype(np.int8)
    s.add(Lookup(s.name, (s.tensor(shape, 8).name,), s.tensor(shape, 8).name, table))
