"""Networks that are written as TFLite compute what the reference executor does, in TFLite-Micro: no byte differs."""

import numpy as np
import pytest
from numpy.typing import NDArray

from operators.examples import OPERATORS, Case, Instance, case
from tapc.base.errors import UnsupportedError
from tapc.ir.lowering import QdqGraph
from tapc.ir.program import Program
from tapc.ir.tflite import TfliteNetwork, same_pads, tflite_of
from tapc.lower.codes import apart, input_codes, random_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.reference import execute
from tapc.npu.micro import outputs

NUMBERS = range(6)
WITHOUT = {
    "ArgMax", "Ceil", "Celu", "Cos", "Erf", "Exp", "Floor", "GatherND", "Gelu", "HardSigmoid",
    "LayerNormalization", "Log", "LogSoftmax", "LpNormalization", "MatMul", "Mish", "Neg", "PRelu", "Pow",
    "RMSNormalization", "Reciprocal", "Round", "Selu", "Sign", "Sin", "Softplus",
    "Softsign", "Sqrt", "ThresholdedRelu",
}  # fmt: skip
"""Operators of which no instance has a form in TFLite of the same integers, or none that is written."""


def written(given: Case) -> tuple[Program, TfliteNetwork]:
    program = program_from_onnx(given.quantized.onnx, "example", "tflite", "dsp")
    return program, tflite_of(program, QdqGraph(given.quantized.onnx), "a test")


def on_tflite_micro(program: Program, blob: bytes, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the codes of all outputs, rows (N, values)."""
    pytest.importorskip("tflite_micro", reason="needs tflite-micro")
    return outputs(blob, apart(program, program.inputs, codes), len(program.outputs))


def samples(given: Case, program: Program) -> NDArray[np.int64]:
    """Return codes that the network is made for, and any."""
    own, drawn = input_codes(program, given.x), random_codes(program, 10, 0)
    return np.concatenate([own, drawn.reshape(-1, *own.shape[1:])])


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name not in WITHOUT])
def test_tflite_micro_gives_the_bytes_of_the_reference(operator: str) -> None:
    compared = 0
    for number in NUMBERS:
        given = case([Instance(operator, number)], abits=(8,))
        try:
            program, network = written(given)
        except UnsupportedError:
            continue
        codes = samples(given, program)
        expected = execute(program, codes).reshape(len(codes), -1)
        np.testing.assert_array_equal(on_tflite_micro(program, network.blob, codes), expected)
        assert set(network.makers.values()) <= {op.output for op in program.ops}
        compared += 1
    assert compared


@pytest.mark.parametrize("operator", sorted(WITHOUT & set(OPERATORS)))
def test_others_are_told(operator: str) -> None:
    whole = case([Instance(operator, number) for number in NUMBERS], abits=(8,))
    with pytest.raises(UnsupportedError, match=r"TFLite"):
        written(whole)


def test_narrow_activations_are_refused() -> None:
    given = case([Instance("MaxPool", n) for n in range(6)], abits=(4,))
    with pytest.raises(UnsupportedError, match="has 4 bits: a TFLite file takes 8"):
        written(given)


@pytest.mark.parametrize(
    ("extent", "size", "stride", "distance", "ends"),
    [
        (5, 3, 1, 1, (1, 1)),
        (6, 3, 2, 1, (0, 1)),
        (5, 3, 2, 1, (1, 1)),
        (4, 2, 1, 1, (0, 1)),
        (7, 3, 1, 2, (2, 2)),
        (4, 1, 3, 1, (0, 0)),
    ],
)
def test_padding_of_tflites_own(extent: int, size: int, stride: int, distance: int, ends: tuple[int, int]) -> None:
    """By the definition of TensorFlow: as many outputs as steps, what is missing half at each end, more behind."""
    top, left, bottom, right = same_pads((extent, extent), (size, size), (stride, stride), (distance, distance))
    assert (top, bottom) == (left, right) == ends
