"""TFLite graph -> NCHW ONNX graph with the same meaning and no Transpose."""

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.tflite_layout import OnnxBuilder, Order, Value, canonical_shape, natural_order, ordered
from tapc.frontend.tflite_names import layer_name
from tapc.frontend.tflite_reader import Operator, Tensor, TfliteGraph
from tapc.graph.rules import rules

_CLAMPS = {"RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
_FUSED = {0: None, 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}
_SHAPE_ONLY_INPUT = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


def convert(graph: TfliteGraph, name: str) -> onnx.ModelProto:
    """Convert a float TFLite graph.

    Parameters
    ----------
    graph : TfliteGraph
        Parsed file.
    name : str
        Name of the ONNX graph.

    Returns
    -------
    onnx.ModelProto
        Opset 21; a 4-D NHWC input or output becomes NCHW.

    Raises
    ------
    UnsupportedError
        Quantized network, operator or attribute that tapc does not lower, or a reshape that NCHW cannot express.
    DataError
        NaN or infinite weights.
    """
    return _Converter(graph).convert(name)


class _Converter:
    def __init__(self, graph: TfliteGraph) -> None:
        self.graph = graph
        self.live = _live(graph)
        self.builder = OnnxBuilder()
        self.values: dict[int, Value] = {}
        self.constants = {i: t.data for i, t in enumerate(graph.tensors) if t.data is not None}
        self.converters = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "FULLY_CONNECTED": self._dense,
            "ADD": self._add,
            "AVERAGE_POOL_2D": self._pool,
            "MAX_POOL_2D": self._pool,
            "MEAN": self._mean,
            "RESHAPE": self._reshape,
            "SQUEEZE": self._reshape,
            "EXPAND_DIMS": self._reshape,
            "SOFTMAX": self._softmax,
            "RELU": self._clamp,
            "RELU6": self._clamp,
            "RELU_N1_TO_1": self._clamp,
            "PAD": self._pad,
            "CONCATENATION": self._concat,
            "DEQUANTIZE": self._dequantize,
        }
        self.forms = {form.kind: (name, form) for name, rule in rules().items() if (form := rule.tflite) is not None}
        self.converters |= dict.fromkeys(self.forms, self._elementwise)

    def convert(self, name: str) -> onnx.ModelProto:
        self._check_interface()
        for index in self.graph.inputs:
            tensor = self.graph.tensors[index]
            self.values[index] = Value(tensor.name or "input", tensor.shape)
        for op in self.live:
            if op.kind not in self.converters:
                raise self._unsupported(
                    op, f"operator {op.kind} is not supported; supported: {', '.join(self.converters)}"
                )
            self._check_float(op)
            self.converters[op.kind](op)
        inlets = [
            (value.name, canonical_shape(value.shape)) for value in map(self.values.get, self.graph.inputs) if value
        ]
        return self.builder.model(name, inlets, [self._output(index) for index in self.graph.outputs])

    def _output(self, index: int) -> tuple[str, tuple[int, ...]]:
        """Return an output's name and shape in the ONNX graph."""
        tensor = self.graph.tensors[index]
        if index not in self.values:
            raise UnsupportedError(f"output {tensor.name!r} is not computed from the input")
        value = self.values[index]
        if value.moved is not None:
            raise UnsupportedError(
                f"output {tensor.name!r} is a flattened image in height, width, channel order; "
                "end the network in a dense layer or in the image itself"
            )
        label = tensor.name or "output"
        final = self.builder.node("Identity", [value.name], "", f"{label}_out" if label == value.name else label)
        return final, canonical_shape(value.shape)

    def _check_interface(self) -> None:
        for index in (*self.graph.inputs, *self.graph.outputs):
            self._require_float(self.graph.tensors[index])
        for index in self.graph.inputs:
            tensor = self.graph.tensors[index]
            if len(tensor.shape) not in (2, 4) or tensor.shape[0] != 1:
                raise UnsupportedError(
                    f"input {tensor.name!r} has shape {list(tensor.shape)}; only (1, H, W, C) and (1, features) work: "
                    "give a network of signals (1, T, C) the input (1, 1, T, C); samples of shape (T, C) need no change"
                )

    def _require_float(self, tensor: Tensor) -> None:
        if tensor.type in ("INT32", "INT64"):
            raise UnsupportedError(
                f"tensor {tensor.name!r} is {tensor.type}: inputs of tokens or indices are not supported, only float32 "
                "pictures and vectors"
            )
        if tensor.type != "FLOAT32":
            raise UnsupportedError(f"tensor {tensor.name!r} is {tensor.type}; pass the float32 network")

    def _check_float(self, op: Operator) -> None:
        data = op.inputs[:1] if op.kind in _SHAPE_ONLY_INPUT else op.inputs
        for index in (*data, *op.outputs):
            if index >= 0 and index not in self.constants:
                self._require_float(self.graph.tensors[index])
        for index in data:
            array = self.constants.get(index)
            if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
                name = self.graph.tensors[index].name
                raise DataError(f"tensor {name!r} holds NaN or infinite values; retrain or repair the model")

    def _unsupported(self, op: Operator, problem: str) -> UnsupportedError:
        output = self.graph.tensors[op.outputs[0]].name if op.outputs else ""
        return UnsupportedError(f"operator {op.index} ({op.kind}, output {output!r}): {problem}")

    def _value(self, op: Operator, position: int = 0) -> Value:
        value = self.values.get(op.inputs[position]) if position < len(op.inputs) else None
        if value is None:
            raise self._unsupported(op, f"input {position} must be an activation")
        return value

    def _image(self, op: Operator, position: int = 0) -> Value:
        value = self._value(op, position)
        if len(value.shape) != 4:
            raise self._unsupported(
                op, f"its input has shape {list(value.shape)}; only images (1, H, W, C) are supported"
            )
        return value

    def _constant(self, op: Operator, position: int) -> NDArray[np.generic]:
        array = self.constants.get(op.inputs[position]) if position < len(op.inputs) else None
        if array is None:
            raise self._unsupported(op, f"input {position} must be constant")
        return array

    def _bias(self, op: Operator, outputs: int) -> NDArray[np.generic]:
        if len(op.inputs) < 3 or op.inputs[2] < 0:
            return np.zeros(outputs, np.float32)
        return self._constant(op, 2)

    def _name(self, op: Operator) -> str:
        names = [self.graph.tensors[i].name for i in (*op.inputs[1:2], *op.outputs) if i >= 0]
        leaves = self.forms[op.kind][1].leaves if op.kind in self.forms else ()
        return layer_name(op.kind, names, leaves)

    def _emit(self, op: Operator, node: str, order: Order | None = None) -> None:
        """Register an operator's result, after its fused activation; `order` defaults to the natural one."""
        shape = self.graph.tensors[op.outputs[0]].shape
        kind = _FUSED.get(op.options.get("FusedActivationFunction", 0), "an unknown one")
        if kind is not None:
            node = self._activation(op, node, kind, f"{name}.relu" if (name := self._name(op)) else "")
        self.values[op.outputs[0]] = Value(node, shape) if order is None else ordered(node, shape, order)

    def _activation(self, op: Operator, node: str, kind: str, name: str) -> str:
        if kind not in _CLAMPS:
            raise self._unsupported(op, f"the fused activation {kind} is not supported")
        low, high = _CLAMPS[kind]
        if high is None:
            return self.builder.node("Relu", [node], name)
        bounds = [self.builder.constant(np.array(bound, np.float32)) for bound in (low, high)]
        return self.builder.node("Clip", [node, *bounds], name)

    def _window(self, op: Operator, kernel: tuple[int, ...]) -> dict[str, Any]:
        """Return the ONNX attributes of a window operator; SAME padding puts the odd row at the bottom."""
        if any(op.options.get(f"Dilation{axis}Factor", 1) != 1 for axis in "HW"):
            raise self._unsupported(op, "dilation; only 1 is supported")
        strides = (op.options["StrideH"], op.options["StrideW"])
        pads = [0, 0, 0, 0]
        if op.options["Padding"] == 0:
            for axis, extent in enumerate(self._image(op).shape[1:3]):
                needed = (math.ceil(extent / strides[axis]) - 1) * strides[axis] + kernel[axis] - extent
                total = max(needed, 0)
                pads[axis], pads[axis + 2] = total // 2, total - total // 2
        return {"kernel_shape": kernel, "strides": strides, "pads": tuple(pads)}

    def _conv(self, op: Operator) -> None:
        value, weights = self._image(op), self._constant(op, 1)
        group, rest = divmod(value.shape[3], weights.shape[3])
        if rest:
            raise self._unsupported(op, f"{weights.shape[3]} channels per group of {value.shape[3]}")
        self._convolve(op, weights.transpose(0, 3, 1, 2), group)

    def _depthwise(self, op: Operator) -> None:
        self._convolve(op, self._constant(op, 1).transpose(3, 0, 1, 2), self._image(op).shape[3])

    def _convolve(self, op: Operator, weights: NDArray[np.generic], group: int) -> None:
        bias = self._bias(op, weights.shape[0])
        inputs = [self._image(op).name, self.builder.constant(weights), self.builder.constant(bias)]
        window = self._window(op, weights.shape[2:])
        self._emit(op, self.builder.node("Conv", inputs, self._name(op), group=group, **window))

    def _dense(self, op: Operator) -> None:
        value, weights = self._value(op), self._constant(op, 1)
        outputs, inputs = weights.shape
        shape = self.graph.tensors[op.outputs[0]].shape
        if op.options["WeightsFormat"] != 0:
            raise self._unsupported(op, "shuffled weights")
        if len(value.order) != inputs or math.prod(shape) != outputs:
            raise self._unsupported(op, f"{list(value.shape)} holds more than one vector of {inputs} features")
        bias, order = self._bias(op, outputs), self._wanted_order(op)
        node = value.name if len(value.shape) == 2 else self.builder.node("Flatten", [value.name], "")
        operands = [node, self.builder.constant(weights[order][:, value.order]), self.builder.constant(bias[order])]
        result = self.builder.node("Gemm", operands, self._name(op), transB=1)
        if len(shape) != 2:
            target = self.builder.constant(np.array(canonical_shape(shape), np.int64))
            result = self.builder.node("Reshape", [result, target], "")
        self._emit(op, result, order)

    def _wanted_order(self, op: Operator) -> Order:
        """Return the element order that the readers of a dense layer need: NCHW if it is reshaped to an image."""
        output = op.outputs[0]
        readers = [other for other in self.live if output in other.inputs]
        shape = self.graph.tensors[output].shape
        if len(readers) == 1 and readers[0].kind == "RESHAPE" and output not in self.graph.outputs:
            shape = self.graph.tensors[readers[0].outputs[0]].shape
        return natural_order(shape)

    def _elementwise(self, op: Operator) -> None:
        """Convert an operator that its rule describes: of one activation, or of two operands that are broadcast."""
        name, form = self.forms[op.kind]
        rank = len(self.graph.tensors[op.outputs[0]].shape)
        operands = [self.values[index] for index in op.inputs if index in self.values]
        moved = operands[0].moved if operands else None
        if len(op.inputs) > 1 and any(value.moved is not None for value in operands):
            alike = all(v.shape == operands[0].shape and np.array_equal(v.order, operands[0].order) for v in operands)
            if len(operands) < len(op.inputs) or not alike:
                raise self._unsupported(op, "one of its operands is a flattened image in height, width, channel order")
        nodes = [self._operand(op, position, rank) for position in range(len(op.inputs))]
        self._emit(op, self.builder.node(name, nodes, self._name(op), **form.attributes(op.options)), moved)

    def _operand(self, op: Operator, position: int, rank: int) -> str:
        """Return an operand of a result of this rank: an activation, or a constant in the order of its axes."""
        if op.inputs[position] not in self.constants:
            value = self._value(op, position)
            if len(value.shape) != rank:
                raise self._unsupported(op, f"broadcasts {list(value.shape)} to {rank} axes; only axes of 1 are")
            return value.name
        array = self._constant(op, position)
        full = array.reshape((1,) * (rank - array.ndim) + array.shape)
        return self.builder.constant(full.transpose(0, 3, 1, 2) if rank == 4 else full)

    def _add(self, op: Operator) -> None:
        fixed = [position for position in (0, 1) if op.inputs[position] in self.constants]
        if not fixed:
            first, second = self._value(op, 0), self._value(op, 1)
            if first.shape != second.shape or not np.array_equal(first.order, second.order):
                raise self._unsupported(
                    op, f"adds {list(first.shape)} and {list(second.shape)}; broadcasting is not supported"
                )
            self._emit(op, self.builder.node("Add", [first.name, second.name], self._name(op)), first.moved)
            return
        value, array = self._value(op, 1 - fixed[0]), self._constant(op, fixed[0])
        if math.prod(array.shape[:-1]) != 1 or len(value.shape) not in (2, 4) or value.moved is not None:
            raise self._unsupported(op, f"adds a constant {list(array.shape)}; only one value per channel is supported")
        column = array.reshape(1, -1, *[1] * (len(value.shape) - 2))
        self._emit(op, self.builder.node("Add", [value.name, self.builder.constant(column)], self._name(op)))

    def _pool(self, op: Operator) -> None:
        window = self._window(op, (op.options["FilterHeight"], op.options["FilterWidth"]))
        node = "AveragePool" if op.kind == "AVERAGE_POOL_2D" else "MaxPool"
        self._emit(op, self.builder.node(node, [self._image(op).name], self._name(op), **window))

    def _mean(self, op: Operator) -> None:
        value, axes = self._image(op), sorted(int(axis) % 4 for axis in self._constant(op, 1).reshape(-1))
        if axes != [1, 2]:
            raise self._unsupported(op, f"a mean over axes {axes}; only over height and width")
        node = self.builder.node("GlobalAveragePool", [value.name], self._name(op))
        if not op.options["KeepDims"]:
            node = self.builder.node("Flatten", [node], "")
        self._emit(op, node)

    def _reshape(self, op: Operator) -> None:
        value, shape = self._value(op), self.graph.tensors[op.outputs[0]].shape
        if len(shape) == 4 and not np.array_equal(value.order, natural_order(shape)):
            raise self._unsupported(
                op, f"{list(value.shape)} -> {list(shape)} interleaves channels; put it behind a dense layer or drop it"
            )
        target = self.builder.constant(np.array(canonical_shape(shape), np.int64))
        self._emit(op, self.builder.node("Reshape", [value.name, target], self._name(op)), value.order)

    def _softmax(self, op: Operator) -> None:
        value = self._value(op)
        if op.options["Beta"] != 1.0 or value.moved is not None or math.prod(value.shape[:-1]) != 1:
            raise self._unsupported(
                op, f"beta {op.options['Beta']} over {list(value.shape)}; only beta 1 over a vector"
            )
        axis = 1 if len(value.shape) == 4 else -1
        self._emit(op, self.builder.node("Softmax", [value.name], self._name(op), axis=axis))

    def _clamp(self, op: Operator) -> None:
        value = self._value(op)
        self._emit(op, self._activation(op, value.name, op.kind, self._name(op)), value.moved)

    def _pad(self, op: Operator) -> None:
        value, pads = self._image(op), self._constant(op, 1)
        ends = pads.reshape(4, 2)[[0, 3, 1, 2]].T.reshape(-1).astype(np.int64)
        self._emit(op, self.builder.node("Pad", [value.name, self.builder.constant(ends)], self._name(op)))

    def _concat(self, op: Operator) -> None:
        values = [self._value(op, position) for position in range(len(op.inputs))]
        rank = len(values[0].shape)
        if op.options["Axis"] % rank != rank - 1 or any(value.moved is not None for value in values):
            raise self._unsupported(op, f"axis {op.options['Axis']} of {rank}; only channels can be joined")
        self._emit(op, self.builder.node("Concat", [value.name for value in values], self._name(op), axis=1))

    def _dequantize(self, op: Operator) -> None:
        self.constants[op.outputs[0]] = self._constant(op, 0)


def _live(graph: TfliteGraph) -> tuple[Operator, ...]:
    """Return the operators that the outputs depend on; target shapes are static, so what computes them is dead."""
    needed, live = set(graph.outputs), []
    for op in reversed(graph.operators):
        if needed.intersection(op.outputs):
            live.append(op)
            needed.update(op.inputs[:1] if op.kind in _SHAPE_ONLY_INPUT else op.inputs)
    return tuple(reversed(live))
