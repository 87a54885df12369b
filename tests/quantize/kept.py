"""Keep a small int8 TFLite file as it is, and compare every byte of its reference with TFLite-Micro."""

from pathlib import Path

import numpy as np

from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.reference import execute
from tapc.quantize.keep import keep
from tflite_micro_files import Codes, Int8Builder, run, samples


def assert_kept(b: Int8Builder, output: int, zero: int, folder: Path, largest: int = 128) -> Codes:
    """Assert that 50 inputs, of codes up to `largest` from the zero point, give the same; return what they give."""
    blob = b.finish(output)
    (folder / "net.tflite").write_bytes(blob)
    model = load(folder / "net.tflite")
    assert model.given is not None
    quantized = keep(model, analyse(model.onnx, model.name), model.given)
    program = program_from_onnx(quantized.onnx, model.name, model.given.mode, "dsp")
    shape = tuple(b.graph.tensors[b.input].shape[1:])
    drawn = np.clip(samples(shape, zero, b.rng, 50), max(zero - largest, -128), min(zero + largest, 127))
    expected = run(blob, drawn)
    x = model.inputs[0].canonical(drawn.reshape(len(drawn), -1)).astype(np.int64)
    maps = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    found = execute(program, np.ascontiguousarray(maps).reshape(len(x), *program.tensors[program.input].shape))
    canonical = found.transpose(0, 3, 1, 2).reshape(len(x), *model.outputs[0].shape[1:])
    np.testing.assert_array_equal(model.outputs[0].restored(canonical).reshape(expected.shape), expected)
    return expected
