"""Spectra in TFLite graphs: complex tensors become two real ones, and transforms products with constant matrices."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError
from tapc.frontend.tflite_converter import live
from tapc.frontend.tflite_reader import Operator, Tensor, TfliteGraph

COMPLEX = "COMPLEX64"
_MOVES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "STRIDED_SLICE")
_ROWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
_PARTS = ("real", "imag")
_NO_ACTIVATION = {"FusedActivationFunction": 0}
Matrix = NDArray[np.float64]


def without_complex(graph: TfliteGraph) -> TfliteGraph:
    """Return a graph of real tensors alone, in which RFFT2D is one or two layers with cosines and sines as weights.

    Parameters
    ----------
    graph : TfliteGraph
        Shapes are static, as `without_loops` leaves them. The new tensors lie behind its own.

    Raises
    ------
    UnsupportedError
        Something other than COMPLEX_ABS, REAL, IMAG and moves reads a complex tensor, a complex input or output, a
        transform of another length than a constant one.
    """
    if not any(tensor.type == COMPLEX for tensor in graph.tensors):
        return graph
    return _Writer(graph).written()


@dataclass
class _Writer:
    graph: TfliteGraph

    def __post_init__(self) -> None:
        self.tensors, self.operators = list(self.graph.tensors), list[Operator]()
        self.parts: dict[int, tuple[int, int]] = {}
        self.makes = {index: op for op in self.graph.operators for index in op.outputs}

    def written(self) -> TfliteGraph:
        for op in live(self.graph):
            self._visit(op)
        for index in (*self.graph.inputs, *self.graph.outputs, *(own.after for own in self.graph.variables)):
            if self.tensors[index].type == COMPLEX:
                raise UnsupportedError(
                    f"tensor {self.tensors[index].name!r} is complex; let the network take and give real tensors, by "
                    "tf.abs, tf.math.real or tf.math.imag"
                )
        return replace(self.graph, tensors=tuple(self.tensors), operators=tuple(self.operators))

    def _visit(self, op: Operator) -> None:
        if op.kind == "RFFT2D":
            self.parts[op.outputs[0]] = self._transform(op)
            return
        read = [index for index in op.inputs if index >= 0 and self.tensors[index].type == COMPLEX]
        made = [index for index in op.outputs if self.tensors[index].type == COMPLEX]
        if not read and not made:
            self.operators.append(op)
            return
        two = self.parts.get(op.inputs[0]) if op.inputs else None
        if two is None and not self.parts.keys() & set(read):
            raise self._unsupported(op, "complex tensors are compiled where RFFT2D makes them of real ones")
        if two is not None and op.kind in _MOVES:
            shape = self.tensors[op.outputs[0]].shape
            real, imag = (self._add(op, f".{name}", shape) for name in _PARTS)
            for source, target in zip(two, (real, imag), strict=True):
                self.operators.append(replace(op, inputs=(source, *op.inputs[1:]), outputs=(target,)))
            self.parts[op.outputs[0]] = real, imag
        elif two is not None and op.kind in ("REAL", "IMAG"):
            self.operators.append(Operator(op.index, "RESHAPE", (two[op.kind == "IMAG"],), op.outputs, {}))
        elif two is not None and op.kind == "COMPLEX_ABS":
            self._magnitude(op, two)
        else:
            raise self._unsupported(
                op,
                f"it reads the complex tensor {self.tensors[read[0]].name!r}; only COMPLEX_ABS, REAL, IMAG, "
                f"{', '.join(_MOVES)} may: compute with tf.math.real and tf.math.imag",
            )

    def _magnitude(self, op: Operator, two: tuple[int, int]) -> None:
        squares = [  # products of 16-bit codes are exact, a table of squares is not
            self._then(op, "MUL", (source, source), f".{name}", _NO_ACTIVATION)
            for source, name in zip(two, _PARTS, strict=True)
        ]
        power = self._then(op, "ADD", tuple(squares), ".power", _NO_ACTIVATION)
        self.operators.append(Operator(op.index, "SQRT", (power,), op.outputs, {}))

    def _transform(self, op: Operator) -> tuple[int, int]:
        """Write a transform over the last axis, and one over the axis before it where that is longer than one."""
        lengths = self.tensors[op.inputs[1]].data
        source, result = self.tensors[op.inputs[0]], self.tensors[op.outputs[0]]
        if lengths is None or lengths.size != 2 or source.data is not None:
            raise self._unsupported(op, "its fft_length must be two constant numbers, and what it reads computed")
        height, width = (int(value) for value in lengths.reshape(-1))
        rows, columns = source.shape[-2:]
        bins = width // 2 + 1
        if min(height, width) < 1 or result.shape != (*source.shape[:-2], height, bins):
            raise self._unsupported(
                op, f"its shape is {list(result.shape)}, which fft_length [{height}, {width}] fits not"
            )
        waves = _waves(bins, columns, width)
        if rows == height == 1:
            index, waves = self._before(op.inputs[0], waves)
            return self._products(op, index, waves, "", result.shape)
        # Both parts of the rows' spectra lie below each other, and a product along the columns mixes them.
        shape = (*source.shape[:-1], bins)
        both = self._products(op, op.inputs[0], waves, ".rows", shape)
        rank = len(shape)
        options = _NO_ACTIVATION | {"Axis": rank - 2}
        joined = self._then(op, "CONCATENATION", both, ".rows", options, (*shape[:-2], 2 * rows, bins))
        order = self._constant(op, ".order", np.array([*range(rank - 2), rank - 1, rank - 2], np.int32))
        turned = self._then(op, "TRANSPOSE", (joined, order), ".turned", {}, (*shape[:-2], bins, 2 * rows))
        cosines, sines = _waves(height, rows, height)
        mixed = np.hstack([cosines, -sines]), np.hstack([sines, cosines])
        whole = self._products(op, turned, mixed, ".columns", (*shape[:-2], bins, height))
        real, imag = (
            self._then(op, "TRANSPOSE", (own, order), f".{name}", {}, result.shape)
            for own, name in zip(whole, _PARTS, strict=True)
        )
        return real, imag

    def _before(self, index: int, waves: tuple[Matrix, Matrix]) -> tuple[int, tuple[Matrix, Matrix]]:
        """Return what a product reads when the zeros and windows before it are part of its matrices."""
        real, imag = waves
        while (op := self.makes.get(index)) is not None:
            length = self.tensors[index].shape[-1]
            source = self.tensors[op.inputs[0]]
            if op.kind in _ROWS and source.data is None and source.shape[-1:] == (length,):
                index = op.inputs[0]
            elif op.kind == "PAD" and (ends := self.tensors[op.inputs[1]].data) is not None and not ends[:-1].any():
                index, start = op.inputs[0], int(ends[-1, 0])
                real, imag = (matrix[:, start : start + source.shape[-1]] for matrix in (real, imag))
            elif op.kind == "MUL" and (found := self._window(op, length)) is not None:
                index, window = found
                real, imag = real * window, imag * window
            else:
                break
        return index, (real, imag)

    def _window(self, op: Operator, length: int) -> tuple[int, NDArray[Any]] | None:
        """Return the other operand of a product with a constant along the last axis, and that constant."""
        for own, index in (op.inputs, op.inputs[::-1]):
            data, other = self.tensors[own].data, self.tensors[index]
            if data is None or other.data is not None or op.options["FusedActivationFunction"]:
                continue
            if data.size == length and data.shape[-1:] == other.shape[-1:] == (length,):
                return index, data.reshape(-1)
        return None

    def _products(
        self, op: Operator, index: int, matrices: tuple[Matrix, Matrix], name: str, shape: tuple[int, ...]
    ) -> tuple[int, int]:
        """Write two layers that read one tensor."""
        options = _NO_ACTIVATION | {"WeightsFormat": 0}
        found = []
        for matrix, part in zip(matrices, _PARTS, strict=True):
            weights = self._constant(op, f"{name}.{part}.weight", matrix.astype(np.float32))
            found.append(self._then(op, "FULLY_CONNECTED", (index, weights, -1), f"{name}.{part}", options, shape))
        return found[0], found[1]

    def _then(
        self, op: Operator, kind: str, inputs: tuple[int, ...], name: str, options: dict[str, Any],
        shape: tuple[int, ...] | None = None,
    ) -> int:  # fmt: skip
        """Write an operator in place of another one; the shape is that of the first input where none is told."""
        index = self._add(op, name, self.tensors[inputs[0]].shape if shape is None else shape)
        self.operators.append(Operator(op.index, kind, inputs, (index,), options))
        return index

    def _add(self, op: Operator, name: str, shape: tuple[int, ...]) -> int:
        self.tensors.append(Tensor(f"{self.tensors[op.outputs[0]].name}{name}", shape, "FLOAT32", None, False))
        return len(self.tensors) - 1

    def _constant(self, op: Operator, name: str, data: NDArray[Any]) -> int:
        kind = "FLOAT32" if data.dtype == np.float32 else "INT32"
        self.tensors.append(Tensor(f"{self.tensors[op.outputs[0]].name}{name}", data.shape, kind, data, False))
        return len(self.tensors) - 1

    def _unsupported(self, op: Operator, problem: str) -> UnsupportedError:
        output = self.tensors[op.outputs[0]].name if op.outputs else ""
        return UnsupportedError(f"operator {op.index} ({op.kind}, output {output!r}): {problem}")


def _waves(bins: int, samples: int, length: int) -> tuple[Matrix, Matrix]:
    """Return real and imaginary parts of exp(-2 pi i k n / length), (bins, samples); samples past the length give 0."""
    k, n = np.arange(bins, dtype=np.int64)[:, None], np.arange(samples, dtype=np.int64)
    angles = 2 * np.pi * (k * n % length) / length
    waves = np.array([np.cos(angles), -np.sin(angles)])
    waves[np.abs(waves) < 1e-14] = 0.0  # what pi's own rounding leaves of zeros
    waves[:, :, length:] = 0.0
    return waves[0], waves[1]
