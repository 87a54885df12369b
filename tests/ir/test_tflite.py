"""Networks that are written as TFLite compute what the reference executor does, in TFLite-Micro: no byte differs."""

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import assume, given, settings
from hypothesis import strategies as st
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
from tapc.operators.lookup import Lookup

NUMBERS = range(6)
WITHOUT = {"GRU", "GatherND", "LSTM", "LayerNormalization", "RMSNormalization", "RNN"}
"""Operators of which no instance has a form in TFLite of the same integers, or none that is written."""
SEVERAL = ("ArgMax", "Gelu", "HardSigmoid", "LogSoftmax", "LpNormalization", "MatMul", "Neg", "PRelu")
"""Operators that become several, or one of their own integers: more instances."""


def written(made: Case) -> tuple[Program, TfliteNetwork]:
    program = program_from_onnx(made.quantized.onnx, "example", "tflite", "dsp")
    return program, tflite_of(program, QdqGraph(made.quantized.onnx), "a test")


def on_tflite_micro(program: Program, blob: bytes, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the codes of all outputs, rows (N, values)."""
    pytest.importorskip("tflite_micro", reason="needs tflite-micro")
    return outputs(blob, apart(program, program.inputs, codes), len(program.outputs))


def by_reference_kernels(program: Program, blob: bytes, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the same of LiteRT without its optimized kernels."""
    kernels = OpResolverType.BUILTIN_REF
    interpreter = Interpreter(model_content=blob, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    found, ends = [], zip(interpreter.get_input_details(), apart(program, program.inputs, codes), strict=True)
    inputs = [(int(end["index"]), part.astype(np.int8)) for end, part in ends]
    for sample in range(len(codes)):
        for index, part in inputs:
            interpreter.set_tensor(index, part[sample : sample + 1])
        interpreter.invoke()
        outs = [interpreter.get_tensor(end["index"]).ravel() for end in interpreter.get_output_details()]
        found.append(np.concatenate(outs))
    return np.stack(found).astype(np.int64)


def samples(made: Case, program: Program) -> NDArray[np.int64]:
    """Return codes that the network is made for, and any."""
    own, drawn = input_codes(program, made.x), random_codes(program, 10, 0)
    return np.concatenate([own, drawn.reshape(-1, *own.shape[1:])])


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name not in WITHOUT])
def test_tflite_micro_gives_the_bytes_of_the_reference(operator: str) -> None:
    compared = 0
    for number in NUMBERS:
        made = case([Instance(operator, number)], abits=(8,))
        try:
            program, network = written(made)
        except UnsupportedError:
            continue
        codes = samples(made, program)
        expected = execute(program, codes).reshape(len(codes), -1)
        np.testing.assert_array_equal(on_tflite_micro(program, network.blob, codes), expected)
        if operator != "Elu":  # which LiteRT has no such kernel of
            np.testing.assert_array_equal(by_reference_kernels(program, network.blob, codes), expected)
        assert set(network.makers.values()) <= {op.output for op in program.ops}
        compared += 1
    assert compared


@pytest.mark.parametrize("operator", SEVERAL)
@settings(max_examples=25, deadline=None)
@given(number=st.integers(6, 10**6))
def test_operators_of_several_parts_give_the_bytes_of_the_reference(operator: str, number: int) -> None:
    made = case([Instance(operator, number)], abits=(8,))
    try:
        program, network = written(made)
    except UnsupportedError as error:
        assume(operator != "LpNormalization" or "LayerNorm" not in str(error))
        raise
    codes = samples(made, program)
    expected = execute(program, codes).reshape(len(codes), -1)
    np.testing.assert_array_equal(on_tflite_micro(program, network.blob, codes), expected)


@pytest.mark.parametrize("seed", range(3))
def test_any_table_gives_its_entries_for_all_codes(seed: int) -> None:
    made = case([Instance("Exp", 0)], abits=(8,))
    program, _ = written(made)
    (last,) = (op for op in program.ops if isinstance(op, Lookup))
    rng = np.random.default_rng(seed)
    table = rng.integers(-128, 128, 256).astype(np.int8)
    x, y = last.inputs[0], last.output
    tensors = {key: replace(program.tensors[key], shape=(4, 8, 8)) for key in (x, y)}
    alone = Program("example", "tflite", tensors, (replace(last, table=table),), (x,), (y,), "dsp")
    network = tflite_of(alone, QdqGraph(made.quantized.onnx), "a test")
    codes = rng.permutation(np.arange(-128, 128)).reshape(1, 4, 8, 8)
    np.testing.assert_array_equal(on_tflite_micro(alone, network.blob, codes)[0], table[codes.ravel() + 128])
    assert network.makers == {2: y}


@pytest.mark.parametrize("operator", sorted(WITHOUT & set(OPERATORS)))
def test_others_are_told(operator: str) -> None:
    whole = case([Instance(operator, number) for number in NUMBERS], abits=(8,))
    with pytest.raises(UnsupportedError, match=r"TFLite"):
        written(whole)


def test_narrow_activations_are_refused() -> None:
    made = case([Instance("MaxPool", n) for n in range(6)], abits=(4,))
    with pytest.raises(UnsupportedError, match="has 4 bits, a TFLite file takes 8: compile the network with --abits 8"):
        written(made)


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
