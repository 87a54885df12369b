"""Quantized TFLite networks with several inputs and outputs: kept, they equal TFLite-Micro in every output."""

from pathlib import Path

import numpy as np
import pytest

from tapc.base.ports import joined
from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.lower.codes import apart
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.reference import execute
from tapc.quantize.keep import keep
from tflite_micro_files import Int8Builder, Quantization, samples

SHAPE = (1, 4, 3, 5)


def test_every_output_equals_tflite_micro(tmp_path: Path) -> None:
    module = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro")
    rng = np.random.default_rng(0)
    b = Int8Builder(*SHAPE, quantization=Quantization(0.05, 3))
    other = b.scaled(b.tensor(SHAPE, "other", dtype="int8"), Quantization(0.02, -7))
    b.graph.inputs = [b.input, other]
    total = b.node("ADD", [b.input, other], SHAPE, Quantization(0.06, 10), "AddOptions")
    product = b.node("MUL", [total, b.input], SHAPE, Quantization(0.2, -20), "MulOptions")
    blob = b.finish(product, total)
    (tmp_path / "net.tflite").write_bytes(blob)

    model = load(tmp_path / "net.tflite")
    assert model.given is not None
    kept = keep(model, analyse(model.onnx, model.name), model.given)
    program = program_from_onnx(kept.onnx, model.name, "tflite", "dsp")
    given = [samples(SHAPE[1:], zero, rng, 30) for zero in (3, -7)]
    found = apart(program, program.outputs, execute(program, joined(given)))

    interpreter = module.Interpreter.from_bytes(blob)
    for sample in range(30):
        for index, codes in enumerate(given):
            interpreter.set_input(codes[sample : sample + 1], index)
        interpreter.invoke()
        for index, codes in enumerate(found):
            np.testing.assert_array_equal(codes[sample], interpreter.get_output(index)[0])
