"""Write small int8 TFLite files and run them with TFLite-Micro, whose integers are the meaning of `tflite`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frontend.tflite_builder import TfliteBuilder

Codes = NDArray[np.int8]


def run(blob: bytes, samples: Codes) -> Codes:
    """Return the output codes (N, ...) of a file with one input and one output, which is (N, ...) of input codes."""
    module = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro")
    interpreter = module.Interpreter.from_bytes(blob)
    shape = interpreter.get_input_details(0)["shape"]
    found = []
    for sample in samples:
        interpreter.set_input(sample.reshape(shape), 0)
        interpreter.invoke()
        found.append(np.array(interpreter.get_output(0)))
    return np.stack(found)[:, 0]


def run_file(path: Path, samples: Codes, x: tuple[float, int], y: tuple[float, int]) -> Codes:
    """Return the output codes (N, ...) of a network file, whose input and output may be float32 values of codes."""
    module = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro")
    interpreter = module.Interpreter.from_file(str(path), arena_size=1 << 23)
    details, found = interpreter.get_input_details(0), []
    for sample in samples:
        values: NDArray[Any] = sample
        if details["dtype"] == np.float32:
            values = (sample.astype(np.float32) - x[1]) * np.float32(x[0])
        interpreter.set_input(values.reshape(details["shape"]), 0)
        interpreter.invoke()
        result = np.array(interpreter.get_output(0))
        if result.dtype == np.float32:
            result = np.rint(result / np.float32(y[0])) + y[1]
        found.append(result.astype(np.int8))
    return np.stack(found)[:, 0]


def samples(shape: tuple[int, ...], zero: int, rng: np.random.Generator, count: int = 50) -> Codes:
    """Return codes (count, *shape): lowest, highest, zero point, alternating, then random ones."""
    drawn = rng.integers(-128, 128, (count, *shape)).astype(np.int8)
    alternating = np.where(np.arange(drawn[0].size) % 2, 127, -128).reshape(shape)
    for index, edge in enumerate((-128, 127, zero, alternating)):
        drawn[index] = edge
    return drawn


@dataclass(frozen=True)
class Quantization:
    """Scale and zero point."""

    scale: float
    zero: int

    @staticmethod
    def draw(rng: np.random.Generator, low: float = 0.01, high: float = 0.1) -> "Quantization":
        return Quantization(float(np.float32(rng.uniform(low, high))), int(rng.integers(-128, 128)))


class Int8Builder(TfliteBuilder):
    """Every activation is int8 and gets its scale where it is made."""

    def __init__(self, *shape: int, quantization: Quantization, seed: int = 0) -> None:
        super().__init__(*shape, seed=seed, dtype="int8")
        self.scaled(self.input, quantization)

    def scaled(self, index: int, q: Quantization) -> int:
        self.quantize(index, np.array([q.scale], np.float32), 0, q.zero)
        return index

    def scale(self, index: int) -> float:
        return float(np.float32(self.graph.tensors[index].quantization.scale[0]))

    def node(
        self, kind: str, inputs: list[int], shape: tuple[int, ...], q: Quantization, table: str = "", **options: Any
    ) -> int:
        index = self.operator(kind, inputs, shape, table, **options)
        self.graph.tensors[index].type = 9
        return self.scaled(index, q)

    def layer(
        self, kind: str, x: int, weights: Codes, scales: NDArray[np.float32], axis: int, shape: tuple[int, ...],
        q: Quantization, table: str, bias: NDArray[np.int32] | None = None, **options: Any,
    ) -> int:  # fmt: skip
        """Add a layer; its bias is drawn where none is given."""
        outputs = weights.shape[axis]
        w = self.constant(weights)
        self.quantize(w, scales, axis)
        bias = self.rng.integers(-2000, 2000, outputs).astype(np.int32) if bias is None else bias
        b = self.constant(bias)
        self.quantize(b, (np.float32(self.scale(x)) * scales).astype(np.float32), 0)
        return self.node(kind, [x, w, b], shape, q, table, **options)
