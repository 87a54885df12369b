"""Requantization, addition and softmax against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from kernels.oracle import requantize as exact
from tapc.base import arithmetic

INT32 = st.integers(-(2**31), 2**31 - 1)
RATIO = st.floats(2.0**-20, 2.0, width=32, allow_nan=False)


@pytest.mark.parametrize("mode", ["float", "fixed", "tflite"])
@given(acc=INT32, ratio=RATIO, zero=st.integers(-128, 127))
def test_requantization_is_exact(mode: str, acc: int, ratio: float, zero: int) -> None:
    m = arithmetic.multipliers(np.array([ratio], np.float32), mode)
    got = arithmetic.requantize(np.array([acc]), m, zero, -128, 127)
    assert got.tolist() == [exact(acc, ratio, mode, zero, -128, 127)]


@pytest.mark.parametrize("mode", ["float", "fixed"])
@given(acc=st.one_of(INT32, st.sampled_from([-(2**31), 2**31 - 1])), ratio=st.floats(2.0**-80, 2.0**-20, width=32))
def test_tiny_ratios_are_exact_too(mode: str, acc: int, ratio: float) -> None:
    """Weights that are next to nothing make ratios that no 63-bit shift expresses."""
    m = arithmetic.multipliers(np.array([ratio], np.float32), mode)
    got = arithmetic.requantize(np.array([acc]), m, 3, -(2**30), 2**30)
    assert got.tolist() == [exact(acc, ratio, mode, 3, -(2**30), 2**30)]


@pytest.mark.parametrize("mode", ["float", "fixed"])
@given(half=st.integers(-200, 200), shift=st.integers(1, 12))
def test_ties_round_as_the_mode_says(mode: str, half: int, shift: int) -> None:
    acc = (2 * half + 1) << (shift - 1)
    m = arithmetic.multipliers(np.array([2.0**-shift], np.float32), mode)
    got = int(arithmetic.requantize(np.array([acc]), m, 0, -1000, 1000)[0])
    assert got == (half + half % 2 if mode == "float" else half + 1)


@pytest.mark.parametrize("mode", ["float", "fixed"])
@given(acc=st.integers(-(2**20), 2**20), ratio=st.floats(2.0**-12, 2.0**-4, width=32))
def test_both_modes_are_within_half_a_step_and_a_little(mode: str, acc: int, ratio: float) -> None:
    m = arithmetic.multipliers(np.array([ratio], np.float32), mode)
    got = int(arithmetic.requantize(np.array([acc]), m, 0, -(2**30), 2**30)[0])
    assert abs(got - acc * Fraction(ratio)) <= Fraction(1, 2) + abs(acc * Fraction(ratio)) / 2**22


@given(acc=st.one_of(INT32, st.integers(-3, 3)), ratio=st.floats(1.0, 2.0**100, width=32), zero=st.integers(-128, 127))
@pytest.mark.parametrize("mode", ["float", "fixed"])
def test_huge_ratios_saturate(mode: str, acc: int, ratio: float, zero: int) -> None:
    m = arithmetic.multipliers(np.array([ratio], np.float32), mode)
    got = arithmetic.requantize(np.array([acc]), m, zero, -128, 127)
    assert got.tolist() == [exact(acc, ratio, mode, zero, -128, 127)]


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        arithmetic.multipliers(np.array([ratio], np.float32), "float")


@given(
    a=st.integers(-128, 127), b=st.integers(-128, 127), za=st.integers(-128, 127), zb=st.integers(-128, 127),
    scales=st.tuples(*[st.floats(2.0**-8, 1.0, width=32)] * 3), zy=st.integers(-128, 127),
)  # fmt: skip
def test_float_addition_is_two_fused_multiply_adds(
    a: int, b: int, za: int, zb: int, scales: tuple[float, float, float], zy: int
) -> None:
    from kernels.oracle import float32, nearest_even

    f = arithmetic.add_factors((scales[0], za), (scales[1], zb), (scales[2], zy), "float")
    got = int(arithmetic.add(np.array([a]), np.array([b]), f, zy, -128, 127)[0])
    first = float32(Fraction(f.offset) + a * Fraction(f.a))
    total = float32(first + b * Fraction(f.b))
    assert got == min(max(nearest_even(total), -128), 127)


@given(
    a=st.integers(-128, 127), b=st.integers(-128, 127), za=st.integers(-128, 127), zb=st.integers(-128, 127),
    scales=st.tuples(*[st.floats(2.0**-8, 1.0, width=32)] * 3), zy=st.integers(-128, 127),
)  # fmt: skip
def test_fixed_addition_fits_int32_and_is_close(
    a: int, b: int, za: int, zb: int, scales: tuple[float, float, float], zy: int
) -> None:
    f = arithmetic.add_factors((scales[0], za), (scales[1], zb), (scales[2], zy), "fixed")
    products = (a * int(f.a), b * int(f.b))
    partial = [products[0], products[1], sum(products), sum(products) + int(f.offset)]
    assert all(-(2**31) <= p < 2**31 for p in partial)
    got = int(arithmetic.add(np.array([a]), np.array([b]), f, zy, -(2**20), 2**20)[0])
    real = ((a - za) * Fraction(scales[0]) + (b - zb) * Fraction(scales[1])) / Fraction(scales[2]) + zy
    assert abs(got - real) <= Fraction(1, 2) + abs(real - zy) / 2**18 + Fraction(512, 2**f.shift)


CODES = np.arange(-128, 128)


@pytest.mark.parametrize("mode", ["float", "fixed"])
@pytest.mark.parametrize(
    ("a", "b"), [(1.0, 1.0), (1e4, 1e4), (25214.115, 25214.115), (3e-5, 3e-5), (1e6, 0.004), (1.0, 5e5), (9e6, 3e6)]
)
@pytest.mark.parametrize("zeros", [(-128, -128, -128), (7, -100, 3)])
def test_sums_of_extreme_scales_are_within_a_step(mode: str, a: float, b: float, zeros: tuple[int, int, int]) -> None:
    parts = (a, zeros[0]), (b, zeros[1]), (1 / 255, zeros[2])
    f = arithmetic.add_factors(*parts, mode)
    near = np.unique(np.clip([-128, -60, 127, *(zeros[0] + np.arange(-3, 4))], -128, 127))
    got = arithmetic.add(near[:, None], CODES[None], f, zeros[2], -128, 127)
    scales = [Fraction(float(np.float32(scale))) for scale, _ in parts]
    rights = [(int(code) - zeros[1]) * scales[1] / scales[2] + zeros[2] for code in CODES]
    for left, codes in zip(near.tolist(), got.tolist(), strict=True):
        first = (left - zeros[0]) * scales[0] / scales[2]
        for right, code in zip(rights, codes, strict=True):
            assert abs(code - min(max(first + right, -128), 127)) <= 1


@pytest.mark.parametrize("mode", ["float", "fixed"])
@settings(max_examples=20, deadline=None)
@given(
    a=st.floats(-8, 24), b=st.floats(-8, 24), y=st.floats(-8, 8), zeros=st.tuples(*[st.integers(-128, 127)] * 3),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_sum_is_within_a_step_or_refused(mode: str, a: float, b: float, y: float, zeros, seed: int) -> None:
    parts = [(float(np.float32(2.0**power)), zero) for power, zero in zip((a, b, y), zeros, strict=True)]
    try:
        f = arithmetic.add_factors(*parts, mode)
    except ValueError:
        return
    left, right = np.random.default_rng(seed).integers(-128, 128, (2, 150))
    got = arithmetic.add(left, right, f, zeros[2], -128, 127)
    scales = [Fraction(scale) for scale, _ in parts]
    for i, code in enumerate(got.tolist()):
        real = ((int(left[i]) - zeros[0]) * scales[0] + (int(right[i]) - zeros[1]) * scales[1]) / scales[2] + zeros[2]
        assert abs(code - min(max(real, -128), 127)) <= 1


def test_sums_that_float32_cannot_tell_are_refused() -> None:
    """Two scales that differ by two codes of the result: sums of a few codes are differences of large numbers."""
    with pytest.raises(ValueError, match="lost in rounding"):
        arithmetic.add_factors((10000002.0, 0), (1e7, 0), (1.0, 0), "float")


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=300), st.floats(2.0**-10, 0.5, width=32))
def test_softmax_stays_in_range_and_sums_to_about_one(codes: list[int], scale: float) -> None:
    table = arithmetic.softmax_table(scale, len(codes))
    assert int(table.astype(np.int64)[0]) * len(codes) < 2**31
    got = arithmetic.softmax(np.array(codes), table, 256, -128, -128, 127)
    assert got.min() >= -128
    assert got.max() <= 127
    real = np.exp(np.float64(np.float32(scale)) * (np.array(codes) - max(codes)))
    np.testing.assert_array_less(np.abs((got + 128) / 256 - np.minimum(real / real.sum(), 255 / 256)), 0.6 / 256)


@given(
    st.sampled_from(["float", "fixed"]),
    st.tuples(*[st.floats(0.003, 0.3)] * 3),
    st.tuples(*[st.integers(-128, 127)] * 3),
    st.sampled_from([(-128, 127), (-100, 20), (0, 15)]),
)
def test_linear_addition_equals_the_definition_for_every_pair(mode, scales, zeros, limits) -> None:
    parts = [(float(np.float32(scale)), zero) for scale, zero in zip(scales, zeros, strict=True)]
    try:
        f = arithmetic.add_factors(*parts, mode)
    except ValueError:
        return
    low, high = limits
    form = arithmetic.linear_add(f, (-128, 127), (-128, 127), zeros[2], low, high)
    if form is None:
        return
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    total = a * form.factor_a + b * form.factor_b + form.offset
    assert np.abs(total).max() < 2**31
    got = np.clip(total >> form.shift, low, high)
    np.testing.assert_array_equal(got, arithmetic.add(a, b, f, zeros[2], low, high))


def test_linear_addition_exists_unless_many_sums_are_ties() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(50):
        scales = [float(np.float32(v)) for v in rng.uniform(0.01, 0.1, 3)]
        f = arithmetic.add_factors(*[(scale, 3) for scale in scales], "float")
        found += arithmetic.linear_add(f, (-128, 127), (-128, 127), 3, -128, 127) is not None
    assert found >= 48
    # 51 a + 43 b is halfway between multiples of 70 for many pairs; float32 rounds them either way.
    f = arithmetic.add_factors((0.051, -11), (0.043, -9), (0.07, 3), "float")
    assert arithmetic.linear_add(f, (-128, 127), (-128, 127), 3, -128, 127) is None


@pytest.mark.parametrize(("shifts", "largest", "form"), [
    ((32, 40), (1 << 30) - 1, "_right"), ((31, 40), 1 << 20, "_both"), ((25, 40), (1 << 24) - 1, "_both"),
    ((32, 40), 1 << 30, ""), ((25, 40), 1 << 24, ""),
])  # fmt: skip
def test_quick_forms_need_room(shifts: tuple[int, int], largest: int, form: str) -> None:
    factors = arithmetic.Multipliers("tflite", np.array([1 << 30, 1 << 30], np.int32), np.array(shifts, np.int32))
    assert arithmetic.arithmetic_of("tflite").quick(factors, np.full(2, largest)) == form
    assert arithmetic.arithmetic_of("fixed").quick(factors, np.full(2, largest)) == ""


@pytest.mark.parametrize("mode", ["float", "fixed"])
@pytest.mark.parametrize("scale", [10 / 255, 2 / 255, 0.1, 1 / 3])
def test_functions_round_as_quantizelinear(mode: str, scale: float) -> None:
    """Whole numbers between two codes are halves in float32, which they are not quite in float64."""
    codes, x = np.arange(-128, 128), (0.054, -26)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "a", "za"], ["r"]),
        helper.make_node("Floor", ["r"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "b", "zb"], ["y"]),
    ]
    values = {"a": np.float32(x[0]), "za": np.int8(x[1]), "b": np.float32(scale), "zb": np.int8(25)}
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    info = [helper.make_tensor_value_info(name, TensorProto.INT8, [256]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": codes.astype(np.int8)})[0]
    found = arithmetic.arithmetic_of(mode).function(codes, np.floor, x, (scale, 25))
    np.testing.assert_array_equal(np.clip(found, -128, 127), expected)
