"""Generated C on the host, under sanitizers and with warnings as errors, against independent oracles."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels import oracle
from kernels.programs import conv_op, lowered, program, random_codes, run_on_host, run_together_on_host, tensor
from kernels.strategies import conv_programs, depthwise_extremes, extreme_codes, pooled_programs
from tapc.base.isa import Isa
from tapc.ir.program import Program, Tensor
from tapc.kernels.conv import ConvSpec
from tapc.kernels.elementwise import AddSpec
from tapc.kernels.schedule import Schedule
from tapc.lower.fuse import fuse
from tapc.lower.reference import execute
from tapc.lower.steps import steps_of
from tapc.operators.add import Add
from tapc.operators.concat import Concat
from tapc.operators.pad import Pad
from tapc.operators.pool import Pool
from tapc.operators.requantize import Requantize
from tapc.operators.reshape import Reshape
from tapc.operators.softmax import Softmax
from tapc.operators.weighted import Conv
from thorough import thorough

COMPILERS = [c for c in ("gcc", "clang") if shutil.which(c)]
TOGETHER = 5
"""Programs that are built into one executable."""
SLOW = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
QUICK = {("scalar", "fixed"), ("dsp", "float"), ("mve", "tflite")}
CASES = [
    (isa, mode) if (isa, mode) in QUICK else thorough(isa, mode)
    for isa in get_args(Isa)
    for mode in ("float", "fixed", "tflite")
]


def on_host(p: Program, codes: np.ndarray, cc: str = "gcc") -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return run_on_host(p, codes, Path(folder), cc)


def together_on_host(
    programs: Sequence[Program],
    codes: Sequence[np.ndarray],
    cc: str = "gcc",
    schedules: Sequence[Mapping[str, Schedule] | None] | None = None,
) -> list[np.ndarray]:
    cases = list(zip(programs, codes, schedules or [None] * len(programs), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        return run_together_on_host(cases, Path(folder), cc)


def several(strategy: st.SearchStrategy[Program]) -> st.SearchStrategy[list[Program]]:
    return st.lists(strategy, min_size=TOGETHER, max_size=TOGETHER)


def inputs_of(programs: Sequence[Program], count: int) -> list[np.ndarray]:
    return [random_codes(p.tensors["x"], count, np.random.default_rng(1)) for p in programs]


@pytest.mark.parametrize(("isa", "mode"), CASES)
@SLOW
@given(st.data(), st.sampled_from(COMPILERS))
def test_conv(isa: str, mode: str, data: st.DataObject, cc: str) -> None:
    programs = data.draw(several(conv_programs(mode, isa)))
    codes = inputs_of(programs, 3)
    for p, x, y in zip(programs, codes, together_on_host(programs, codes, cc), strict=True):
        op = p.ops[0]
        assert isinstance(op, Conv)
        np.testing.assert_array_equal(y, oracle.conv(p, op, x))


@pytest.mark.parametrize("isa", ["scalar", *map(thorough, ("dsp", "mve"))])
def test_depthwise_sums_at_the_ends_of_half_words(isa: str) -> None:
    programs = depthwise_extremes("fixed", isa)
    codes = [extreme_codes(p.tensors["x"]) for p in programs]
    for p, x, y in zip(programs, codes, together_on_host(programs, codes), strict=True):
        op = p.ops[0]
        assert isinstance(op, Conv)
        np.testing.assert_array_equal(y, oracle.conv(p, op, x))


def candidates(p: Program) -> Sequence[Schedule]:
    (step,) = steps_of(p)
    return step.spec.form.candidates() if isinstance(step.spec, ConvSpec) else ()


@pytest.mark.parametrize("isa", ["dsp", *map(thorough, ("scalar", "mve"))])
@SLOW
@given(st.data())
def test_every_schedule_gives_the_same(isa: str, data: st.DataObject) -> None:
    programs = data.draw(several(conv_programs("fixed", isa).filter(candidates)))
    schedules = [{p.ops[0].name: data.draw(st.sampled_from(candidates(p)))} for p in programs]
    codes = inputs_of(programs, 2)
    for p, x, y in zip(programs, codes, together_on_host(programs, codes, schedules=schedules), strict=True):
        op = p.ops[0]
        assert isinstance(op, Conv)
        np.testing.assert_array_equal(y, oracle.conv(p, op, x))


@pytest.mark.parametrize(("w_bits", "taps"), [(4, 1204), (2, 2000), (4, 24)])
def test_sums_too_large_for_the_top_of_an_accumulator(w_bits: int, taps: int) -> None:
    rng = np.random.default_rng(0)
    x, y = tensor("x", (1, 1, taps), 8, rng), tensor("y", (1, 1, 5), 8, rng)
    op = conv_op(rng, x, y, (1, 1), (1, 1), (0, 0, 0, 0), 1, w_bits)
    weights = np.full_like(op.weights, -(1 << (w_bits - 1)))
    spread = np.float32(50 / (128 * taps * (1 << (w_bits - 1))))
    op = replace(op, weights=weights, bias=np.full(5, 2**22, np.int32), ratios=np.full(5, spread, np.float32))
    p = program([op], [x, y])
    (step,) = steps_of(p)
    assert isinstance(step.spec, ConvSpec)
    assert step.spec.run > 0
    codes = np.stack([np.full(x.shape, v) for v in (-128, 127, 5)])
    np.testing.assert_array_equal(on_host(p, codes), oracle.conv(p, op, codes))


def test_grouped_convolution_whose_windows_reach_over_the_border() -> None:
    rng = np.random.default_rng(0)
    x, y = tensor("x", (3, 2, 4), 8, rng), tensor("y", (2, 2, 2), 8, rng)
    op = conv_op(rng, x, y, (2, 2), (2, 1), (0, 0, 1, 1), 2, 8)
    p = program([op], [x, y])
    codes = random_codes(x, 3, rng)
    np.testing.assert_array_equal(on_host(p, codes), oracle.conv(p, op, codes))


@pytest.mark.parametrize("isa", get_args(Isa))
@pytest.mark.parametrize("mode", ["float", "fixed", "tflite"])
@pytest.mark.parametrize(("bits", "swapped", "width"), [(8, False, 5), (4, True, 4), (8, True, 3)])
def test_fused_residual_equals_separate_addition(isa: str, mode: str, bits: int, swapped: bool, width: int) -> None:
    rng = np.random.default_rng(bits + swapped)
    x, c = tensor("x", (4, width, 5), bits, rng), tensor("c", (4, width, 5), bits, rng)
    y = tensor("y", (4, width, 5), bits, rng)
    conv = conv_op(rng, x, c, (3, 3), (1, 1), (1, 1, 1, 1), 1, 4)
    add = Add("add", ("x", "c") if swapped else ("c", "x"), "y", y.low, y.high)
    p = program([conv, add], [x, c, y], mode, isa)
    fused = fuse(p)
    (op,) = fused.ops
    assert isinstance(op, Conv)
    assert op.residual is not None
    assert op.residual.swapped == swapped  # two roundings: the order of the operands matters
    codes = random_codes(x, 4, rng)
    expected = execute(p, codes)
    np.testing.assert_array_equal(execute(fused, codes), expected)
    for found in together_on_host([fused, p], [codes, codes]):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("isa", "mode"), CASES)
@settings(SLOW, max_examples=2)
@given(st.data(), st.sampled_from(COMPILERS))
def test_fused_pooling_equals_separate_pooling(isa: str, mode: str, data: st.DataObject, cc: str) -> None:
    programs = data.draw(several(pooled_programs(mode, isa).filter(lambda p: len(fuse(p).ops) == 1)))
    fused, codes = [fuse(p) for p in programs], inputs_of(programs, 3)
    for p, q, x, y in zip(programs, fused, codes, together_on_host(fused, codes, cc), strict=True):
        expected = execute(p, x)
        np.testing.assert_array_equal(execute(q, x), expected)
        np.testing.assert_array_equal(y, expected)


def test_fused_pooling_saves_memory() -> None:
    rng = np.random.default_rng(0)
    x, middle, y = tensor("x", (16, 16, 4), 8, rng), tensor("m", (16, 16, 8), 8, rng), tensor("y", (8, 8, 8), 8, rng)
    conv = conv_op(rng, x, middle, (3, 3), (1, 1), (1, 1, 1, 1), 1, 8)
    pool = Pool("pool", ("m",), "y", "max", (2, 2), (2, 2), (0,) * 4, False, np.ones(1, np.float32), -128, 127)
    p = program([conv, pool], [x, middle, y])
    assert lowered(fuse(p)).plan.size < x.bytes + y.bytes + 3 * 16 * 8 < lowered(p).plan.size
    assert fuse(p).ops[0].macs(fuse(p)) == conv.macs(p)


@pytest.mark.parametrize("mode", ["float", "fixed", "tflite"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("op", ["max", "average", "average_padded"])
def test_pool(mode: str, bits: int, op: str) -> None:
    rng = np.random.default_rng(bits)
    x = tensor("x", (7, 6, 3), bits, rng)
    y = tensor("y", (3, 3, 3), bits, rng)
    kind = "max" if op == "max" else "average"
    ratios = np.float32(x.scale) / (np.float32(y.scale) * np.arange(1, 10, dtype=np.float32))
    pool = Pool("pool", ("x",), "y", kind, (3, 3), (3, 2), (1, 1, 1, 0), op == "average_padded", ratios, y.low, y.high)
    p = program([pool], [x, y], mode)
    codes = random_codes(x, 4, rng)
    got = on_host(p, codes)
    if kind == "max":
        padded = np.pad(codes, ((0, 0), (1, 1), (1, 0), (0, 0)), constant_values=-1000)
    else:
        padded = np.pad(codes - x.zero, ((0, 0), (1, 1), (1, 0), (0, 0)))
    inside = np.pad(np.ones((7, 6), int), ((1, 1), (1, 0)))
    for i in range(3):
        for j in range(3):
            part = padded[:, i * 3 : i * 3 + 3, j * 2 : j * 2 + 3]
            if kind == "max":
                expected = np.clip(part.max(axis=(1, 2)), y.low, y.high)
            else:
                taps = 9 if op == "average_padded" else int(inside[i * 3 : i * 3 + 3, j * 2 : j * 2 + 3].sum())
                ratio = float(ratios[taps - 1])
                sums = part.sum(axis=(1, 2))
                scaled = [oracle.requantize(int(v), ratio, mode, y.zero, y.low, y.high) for v in sums.ravel()]
                expected = np.array(scaled).reshape(sums.shape)
            np.testing.assert_array_equal(got[:, i, j], expected)


@pytest.mark.parametrize("mode", ["float", "fixed", "tflite"])
@pytest.mark.parametrize(("bits", "result"), [(8, 8), (4, 4), (8, 4), (4, 8)])
def test_add_is_within_half_a_step_of_the_real_sum(mode: str, bits: int, result: int) -> None:
    rng = np.random.default_rng(result)
    x, y = tensor("x", (3, 5, 7), bits, rng), tensor("y", (3, 5, 7), result, rng)
    p = program([Add("add", ("x", "x"), "y", y.low, y.high)], [x, y], mode)
    codes = random_codes(x, 3, rng)
    got = on_host(p, codes)
    np.testing.assert_array_equal(got, execute(p, codes))
    real = 2 * x.scale * (codes - x.zero) / y.scale + y.zero
    np.testing.assert_array_less(np.abs(got - np.clip(real, y.low, y.high)), 0.501)


@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-20, 30)])
def test_addition_without_a_linear_form(low: int, high: int) -> None:
    x, y = Tensor("x", (4, 8, 8), 8, 0.051, -11), Tensor("y", (4, 8, 8), 8, 0.07, 3)
    p = program([Add("add", ("x", "x"), "y", low, high)], [x, y])
    (step,) = steps_of(p)
    codes = random_codes(x, 3, np.random.default_rng(0))
    expected = execute(p, codes)
    assert isinstance(step.spec, AddSpec)
    assert step.spec.form == "float"
    np.testing.assert_array_equal(on_host(p, codes), expected)


@pytest.mark.parametrize("mode", ["float", "fixed", "tflite"])
def test_moves(mode: str) -> None:
    rng = np.random.default_rng(7)
    x, wide = tensor("x", (4, 3, 5), 8, rng), tensor("wide", (4, 3, 5), 4, rng)
    joined, padded, flat = (tensor("joined", (4, 3, 10), 4, rng), tensor("padded", (6, 4, 10), 4, rng), None)
    flat = tensor("flat", (1, 1, 240), 4, rng)
    flat = type(flat)("flat", flat.shape, 4, padded.scale, padded.zero)
    ops = [
        Requantize("requantize", ("x",), "wide", np.float32(x.scale / wide.scale), 2, 14),
        Concat("concat", ("wide", "x"), "joined",
               (np.float32(wide.scale / joined.scale), np.float32(x.scale / joined.scale)), 0, 15),
        Pad("pad", ("joined",), "padded", (1, 0, 1, 1), np.float32(joined.scale / padded.scale)),
        Reshape("flatten", ("padded",), "flat", "to_nchw", True),
    ]  # fmt: skip
    p = program(ops, [x, wide, joined, padded, flat], mode)
    codes = random_codes(x, 3, rng)
    got = on_host(p, codes).reshape(3, 240)

    def scaled(values: np.ndarray, a, b, low: int, high: int) -> np.ndarray:
        ratio = float(np.float32(a.scale / b.scale))
        flat_values = [oracle.requantize(int(v), ratio, mode, b.zero, low, high) for v in (values - a.zero).ravel()]
        return np.array(flat_values).reshape(values.shape)

    first = scaled(codes, x, wide, 2, 14)
    both = np.concatenate([scaled(first, wide, joined, 0, 15), scaled(codes, x, joined, 0, 15)], axis=-1)
    around = np.pad(scaled(both, joined, padded, 0, 15), ((0, 0), (1, 1), (0, 1), (0, 0)), constant_values=padded.zero)
    np.testing.assert_array_equal(got, around.transpose(0, 3, 1, 2).reshape(3, 240))


@pytest.mark.parametrize("classes", [2, 10, 257])
def test_softmax_is_within_one_step_of_the_real_one(classes: int) -> None:
    from tapc.base.arithmetic import softmax_table

    rng = np.random.default_rng(classes)
    x = tensor("x", (1, 1, classes), 8, rng)
    y = type(x)("y", x.shape, 8, 1 / 256, -128)
    p = program([Softmax("softmax", ("x",), "y", softmax_table(x.scale, classes), 256)], [x, y])
    codes = random_codes(x, 20, rng)
    got = on_host(p, codes)
    real = np.exp(x.scale * (codes - codes.max(axis=-1, keepdims=True)))
    real = real / real.sum(axis=-1, keepdims=True)
    np.testing.assert_array_less(np.abs((got + 128) / 256 - np.minimum(real, 255 / 256)), 0.6 / 256)
    np.testing.assert_array_equal(got, execute(p, codes))
