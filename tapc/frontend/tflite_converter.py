"""Writes the operators of a TFLite graph as ONNX nodes, one after the other."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.tflite_given import Collector
from tapc.frontend.tflite_names import layer_name, tensor_names
from tapc.frontend.tflite_onnx import OnnxBuilder, as_array
from tapc.frontend.tflite_reader import Operator, TfliteGraph
from tapc.frontend.tflite_values import MOVES
from tapc.graph.rules import rules
from tapc.graph.state import State

_CLAMPS = {"RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}
_FUSED = {0: None, 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}
_EXACT = (*MOVES, "QUANTIZE", "DEQUANTIZE", "CAST")
"""Operators that give constants the values that they have."""
SHAPE_ONLY_INPUT = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
Convert = Callable[["Converter", Operator], None]
_known: dict[str, Convert] = {}


def converts(*kinds: str) -> Callable[[Convert], Convert]:
    """Return a decorator for what converts operators of these TFLite kinds."""

    def add(convert_: Convert) -> Convert:
        _known.update(dict.fromkeys(kinds, convert_))
        return convert_

    return add


class Converter:
    """Writes the operators of a TFLite graph, one after the other.

    Attributes
    ----------
    builder : OnnxBuilder
    values : dict of int to str
        TFLite tensor -> name in the ONNX graph, of what is computed already.
    constants : dict of int to ndarray
    given : Collector
        What a quantized network brings along.
    """

    def __init__(self, graph: TfliteGraph, given: Collector) -> None:
        self.graph, self.given = graph, given
        self.names = tensor_names([tensor.name for tensor in graph.tensors])
        self.builder = OnnxBuilder()
        self.values: dict[int, str] = {}
        self.constants = {i: t.data for i, t in enumerate(graph.tensors) if t.data is not None}
        self.forms = {form.kind: (name, form) for name, rule in rules().items() if (form := rule.tflite) is not None}
        self._written: dict[int, str] = {}
        self._fixed: set[int] = set()
        self.states = tuple(
            State(name, f"{name}.next", own.initial)
            for own, name in zip(graph.variables, self._variable_names(), strict=True)
        )
        self.kinds = {index: op.kind for op in graph.operators for index in op.outputs}

    def convert(self, name: str) -> onnx.ModelProto:
        """Return the ONNX model."""
        known = dict.fromkeys(self.forms, elementwise) | _known
        for index in self.graph.inputs:
            self._require_input(index)
            self.values[index] = self._marked(index, self.names[index])
        for own, state in zip(self.graph.variables, self.states, strict=True):
            self.values[own.before] = self._marked(own.before, state.input)
        for op in live(self.graph):
            if op.kind not in known:
                raise self.unsupported(
                    op, f"operator {op.kind} is not supported; supported: {', '.join(sorted(known))}"
                )
            self._check(op)
            known[op.kind](self, op)
            self._from_constants(op)
            turned = any(
                op.options.get(flag) and i in self.constants
                for flag, i in zip(("AdjX", "AdjY"), op.inputs, strict=False)
            )
            self.given.operator(op.kind, op.inputs, self.name(op), self.constants, turned)
        for index in self.graph.outputs:
            if index not in self.values:
                raise UnsupportedError(f"output {self.names[index]!r} is not computed from the input")
        inputs = [(self.names[i], *self._described(i)) for i in self.graph.inputs]
        outputs = [(self.values[i], *self._described(i)) for i in dict.fromkeys(self.graph.outputs)]
        for own, state in zip(self.graph.variables, self.states, strict=True):
            if own.after not in self.values:
                raise UnsupportedError(f"variable {own.name!r} is assigned what is not computed from the input")
            inputs.append((state.input, *self._described(own.before)))
            outputs.append((state.output, *self._described(own.after)))
            self.builder.node("Identity", [self.values[own.after]], "", state.output)
        return self.builder.model(name, inputs, outputs)

    def _variable_names(self) -> list[str]:
        known = zip(self.names, self.graph.tensors, strict=True)
        taken = {name for name, tensor in known if not tensor.type.startswith("type")}  # handles have the names, too
        names = [own.name or f"state_{index}" for index, own in enumerate(self.graph.variables)]
        return [f"{name}.state" if name in taken else name for name in names]

    def _described(self, index: int) -> tuple[tuple[int, ...], str]:
        own, tensor = self.given.tensors.get(index), self.graph.tensors[index]
        # What lies behind a mark is a real value.
        return tensor.shape, tensor.type if own is None or own.point is None else "FLOAT32"

    def _require_input(self, index: int) -> None:
        tensor = self.graph.tensors[index]
        if tensor.type not in ("FLOAT32", "INT32", "INT64") and index not in self.given.tensors:
            raise UnsupportedError(f"tensor {tensor.name!r} is {tensor.type}; pass the float32 network")
        if tensor.shape and tensor.shape[0] != 1 and len(tensor.shape) > 2:
            raise UnsupportedError(
                f"input {tensor.name!r}: the batch is fixed to {tensor.shape[0]}; convert the model with batch 1"
            )

    def _check(self, op: Operator) -> None:
        data = op.inputs[:1] if op.kind in SHAPE_ONLY_INPUT else op.inputs
        for index in data:
            array = self.constants.get(index)
            if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
                name = self.graph.tensors[index].name
                raise DataError(f"tensor {name!r} holds NaN or infinite values; retrain or repair the model")

    def _from_constants(self, op: Operator) -> None:
        """Note where an operator computes integers of constants alone: folding does not round as the file says."""
        if not all(index < 0 or index in self.constants or index in self._fixed for index in op.inputs):
            return
        self._fixed.update(op.outputs)
        if op.kind not in _EXACT and any(index in self.given.tensors for index in op.outputs):
            self.given.obstacle = self.given.obstacle or str(
                self.unsupported(op, "it computes integers of constants alone; fold it before conversion")
            )

    def unsupported(self, op: Operator, problem: str) -> UnsupportedError:
        """Build the error for an operator that cannot be converted."""
        output = self.graph.tensors[op.outputs[0]].name if op.outputs else ""
        return UnsupportedError(f"operator {op.index} ({op.kind}, output {output!r}): {problem}")

    def shape(self, op: Operator, position: int = 0) -> tuple[int, ...]:
        """Return the shape of an input."""
        return self.graph.tensors[op.inputs[position]].shape

    def result(self, op: Operator) -> tuple[int, ...]:
        """Return the shape of the output."""
        return self.graph.tensors[op.outputs[0]].shape

    def value(self, op: Operator, position: int = 0) -> str:
        """Return an input's name in the ONNX graph, activation or constant."""
        index = op.inputs[position] if position < len(op.inputs) else -1
        if index in self.values:
            return self.values[index]
        array = self.constants.get(index)
        if array is None:
            raise self.unsupported(op, f"input {position} must be computed from the network's input")
        if index not in self._written:
            self._written[index] = self.builder.constant(as_array(array), self.names[index])
        return self._written[index]

    def constant(self, op: Operator, position: int) -> NDArray[Any]:
        """Return an input that must be constant."""
        array = self.constants.get(op.inputs[position]) if position < len(op.inputs) else None
        if array is None:
            raise self.unsupported(op, f"input {position} must be constant")
        return array

    def integers(self, op: Operator, position: int) -> list[int]:
        """Return an input that must be constant integers."""
        return [int(value) for value in self.constant(op, position).reshape(-1)]

    def has(self, op: Operator, position: int) -> bool:
        """Whether an operator has an optional input."""
        return position < len(op.inputs) and op.inputs[position] >= 0

    def name(self, op: Operator) -> str:
        """Return the layer's name; empty where the file tells none."""
        names = [self.graph.tensors[i].name for i in (*op.inputs[1:2], *op.outputs) if i >= 0]
        leaves = self.forms[op.kind][1].leaves if op.kind in self.forms else ()
        return layer_name(op.kind, names, leaves)

    def emit(self, op: Operator, node: str) -> None:
        """Register an operator's result, after its fused activation."""
        kind = _FUSED.get(op.options.get("FusedActivationFunction", 0), "an unknown one")
        if kind is not None:
            node = self.activation(op, node, kind, f"{name}.relu" if (name := self.name(op)) else "")
        self.done(op.outputs[0], node)

    def done(self, index: int, node: str) -> None:
        """Register a result under the name that the file gives it."""
        marked = self._marked(index, node)
        self.values[index] = self.builder.node("Identity", [marked], "", self.names[index])

    def _marked(self, index: int, node: str) -> str:
        """Return a value behind the mark of its quantizer, where it has one."""
        tensor, number = self.graph.tensors[index], self.given.mark(index, self.kinds.get(index, ""))
        if number is None and tensor.type in ("INT8", "INT16", "UINT8"):
            raise UnsupportedError(f"tensor {tensor.name!r} is {tensor.type} without a scale; pass the float32 network")
        return node if number is None else self.builder.mark(number, node)

    def negated(self, index: int, node: str) -> str:
        """Return the negative of a tensor's value, behind a mark of its own where the tensor is quantized."""
        number, result = self.given.mark_negated(index), self.builder.node("Neg", [node])
        return result if number is None else self.builder.mark(number, result)

    def activation(self, op: Operator, node: str, kind: str, name: str) -> str:
        """Write an activation."""
        if kind not in _CLAMPS:
            raise self.unsupported(op, f"the fused activation {kind} is not supported")
        low, high = _CLAMPS[kind]
        if high is None:
            return self.builder.node("Relu", [node], name)
        bounds = [self.builder.constant(np.array(bound, np.float32)) for bound in (low, high)]
        return self.builder.node("Clip", [node, *bounds], name)

    def window(self, op: Operator, kernel: Sequence[int]) -> dict[str, Any]:
        """Return the ONNX attributes of a window operator; SAME padding puts the odd row at the bottom."""
        dilations = [op.options.get(f"Dilation{axis}Factor", 1) for axis in "HW"]
        strides, pads = (op.options["StrideH"], op.options["StrideW"]), [0, 0, 0, 0]
        if len(self.shape(op)) != 4:
            raise self.unsupported(op, f"its input has shape {list(self.shape(op))}, not (N, H, W, C)")
        if min(*strides, *dilations) < 1:
            raise self.unsupported(op, f"strides {list(strides)}, dilations {dilations}")
        if op.options["Padding"] == 0:
            for axis, extent in enumerate(self.shape(op)[1:3]):
                reach = (kernel[axis] - 1) * dilations[axis] + 1
                total = max((math.ceil(extent / strides[axis]) - 1) * strides[axis] + reach - extent, 0)
                pads[axis], pads[axis + 2] = total // 2, total - total // 2
        attributes: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides), "pads": pads}
        return attributes | ({"dilations": dilations} if dilations != [1, 1] else {})


def elementwise(c: Converter, op: Operator) -> None:
    """Convert an operator that its rule describes: of one activation, or of two operands that are broadcast."""
    name, form = c.forms[op.kind]
    operands = [c.value(op, position) for position in range(len(op.inputs))]
    c.emit(op, c.builder.node(name, operands, c.name(op), **form.attributes(op.options)))


def live(graph: TfliteGraph) -> tuple[Operator, ...]:
    """Return the operators that the outputs depend on; target shapes are static, so what computes them is dead."""
    needed, found = {*graph.outputs, *(own.after for own in graph.variables)}, []
    for op in reversed(graph.operators):
        if needed.intersection(op.outputs):
            found.append(op)
            needed.update(op.inputs[:1] if op.kind in SHAPE_ONLY_INPUT else op.inputs)
    return tuple(reversed(found))
