"""Products of activations whose codes depend on how scales are multiplied: all give the reference executor's."""

import numpy as np
import pytest

from npu.networks import accelerator
from operators.examples import Instance, case
from tapc.base.arithmetic import multipliers, requantize
from tapc.ir.lowering import QdqGraph
from tapc.ir.program import Program, Tensor
from tapc.ir.tflite import tflite_of
from tapc.ir.tflite_product import exact_scales
from tapc.lower.reference import execute
from tapc.npu import micro
from tapc.npu.optimized import read
from tapc.npu.vela import compile_file
from tapc.operators.matmul import MatMul
from tapc.operators.prelu import PRelu

CODES = np.arange(-128, 128)


def delicate(seed: int) -> tuple[float, float, float]:
    """Return scales of which float32's product and float64's give other codes."""
    rng = np.random.default_rng(seed)
    products = CODES[:, None] * CODES
    while True:
        a, b = rng.uniform(0.001, 0.2, 2).astype(np.float32)
        y = np.float32(a * b * rng.uniform(60, 300))
        ratios = np.array([[np.float64(a) * np.float64(b) / y], [np.float64(a * b) / y]])
        first, second = (requantize(products, multipliers(ratio, "tflite"), 0, -128, 127) for ratio in ratios)
        if not np.array_equal(first, second):
            return float(a), float(b), float(y)


@pytest.mark.parametrize("seed", range(4))
def test_products_of_all_codes(seed: int) -> None:
    a, b, y = delicate(seed)
    tensors = {
        "a": Tensor("a", (1, 256, 1), 8, a, 0),
        "b": Tensor("b", (1, 256, 1), 8, b, 0),
        "y": Tensor("y", (1, 256, 256), 8, y, 0),
    }
    program = Program("products", "tflite", tensors, (MatMul("m", ("a", "b"), "y"),), ("a", "b"), ("y",), "dsp")
    expected = execute(program, np.tile(CODES, 2)[None]).ravel()
    weights = QdqGraph(case([Instance("Exp", 0)], abits=(8,)).quantized.onnx)
    blob = tflite_of(program, weights, "a test").blob
    if micro.installed():
        found = micro.outputs(blob, [CODES.reshape(1, 1, 256, 1)] * 2, 1)
        np.testing.assert_array_equal(found[0], expected)
    pytest.importorskip("ethosu", reason="needs ethos-u-vela")
    own = accelerator()
    optimized = read(compile_file(blob, own).blob)
    given = {place.name: CODES[None] for place in optimized.inputs}
    outputs = optimized.run(given, own.outputs_at_once)
    np.testing.assert_array_equal(outputs["y"].ravel(), expected)


def test_scales_stay_near() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        given = tuple(float(np.float32(value)) for value in np.exp(rng.uniform(-9, 1, 3)))
        found = exact_scales(*given)
        assert found == pytest.approx(given, rel=0.02)
        assert float(np.float32(found[0]) * np.float32(found[1])) == found[0] * found[1]


def test_scales_are_sought_further_away() -> None:
    # Of no neighbours within 40 steps is the factor the same.
    given = (2.2155065536499023, 0.05082282796502113, 0.08683428913354874)
    assert exact_scales(*given) == pytest.approx(given, rel=0.08)


@pytest.mark.parametrize("seed", range(4))
def test_slopes_that_float32_would_change_are_left_to_the_cpu(seed: int) -> None:
    pytest.importorskip("ethosu", reason="needs ethos-u-vela")
    x, slope, y = delicate(seed)
    tensors = {key: Tensor(key, (1, 256, 256), 8, scale, 127 * (key == "x")) for key, scale in (("x", x), ("y", y))}
    op = PRelu("p", ("x",), "y", CODES.astype(np.int8), slope, 0, -128, 127)
    program = Program("slopes", "tflite", tensors, (op,), ("x",), ("y",), "dsp")
    weights = QdqGraph(case([Instance("Exp", 0)], abits=(8,)).quantized.onnx)
    blob, codes = tflite_of(program, weights, "a test").blob, np.repeat(CODES, 256).reshape(1, 1, 256, 256)
    if micro.installed():
        np.testing.assert_array_equal(micro.outputs(blob, [codes], 1)[0], execute(program, codes).ravel())
    assert compile_file(blob, accelerator()).on_cpu == ("Prelu",)
