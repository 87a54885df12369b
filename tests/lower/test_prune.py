"""Pruning: the same bits from fewer channels, and no channel too few."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from kernels import oracle
from kernels.programs import conv_op, lowered, program, random_codes, tensor
from lower.dead_channels import plant, programs
from tapc.ir.program import Program, Tensor
from tapc.lower.bounds import bounds
from tapc.lower.fuse import fuse
from tapc.lower.prune import prune
from tapc.lower.reference import execute
from tapc.operators.add import Add
from tapc.operators.weighted import Conv

MODES = ["float", "fixed", "tflite"]


def trace(p: Program, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Codes of every tensor."""
    values = {p.input: codes}
    execute(p, codes, observe=lambda op, result: values.update({op.output: result}))
    return values


def assert_same(p: Program, codes: np.ndarray) -> Program:
    """Prune, and compare every tensor on its live channels, before and after fusion."""
    pruned, whole = prune(p), trace(p, codes)
    for variant in (pruned, fuse(pruned)):
        for name, values in trace(variant, codes).items():
            live = variant.live.get(name, np.ones(p.tensors[name].shape[2], np.bool_))
            np.testing.assert_array_equal(values, whole[name][..., live], err_msg=name)
            assert values.shape[1:] == variant.tensors[name].shape
            assert live.any()
    assert p.input not in pruned.live
    assert p.output not in pruned.live
    return pruned


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_random_programs_keep_every_bit(mode: str, data: st.DataObject) -> None:
    p = data.draw(programs(mode))
    codes = random_codes(p.tensors[p.input], 4, default_rng(data.draw(st.integers(0, 999))))
    codes[1] = p.tensors[p.input].low
    pruned = assert_same(p, codes)
    lowered(fuse(pruned))  # kernels exist for what is left
    again = prune(pruned)
    assert again.tensors == pruned.tensors
    for before, after in zip(pruned.ops, again.ops, strict=True):
        if isinstance(before, Conv):
            np.testing.assert_array_equal(before.weights, after.weights)
            np.testing.assert_array_equal(before.bias, after.bias)


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_bounds_hold(mode: str, data: st.DataObject) -> None:
    p = data.draw(programs(mode))
    codes = random_codes(p.tensors[p.input], 6, default_rng(0))
    codes[1] = p.tensors[p.input].low
    found = bounds(p)
    for name, values in trace(p, codes).items():
        assert (found[name].low <= values).all(), name
        assert (values <= found[name].high).all(), name


@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=40)
def test_bounds_of_a_layer_are_those_of_all_inputs(mode: str, seed: int, size: int) -> None:
    """All 256 inputs of a 4-bit image of two codes, by rational arithmetic."""
    rng = default_rng(seed)
    shape = (1, 1, 2) if size == 1 else (1, 2, 1)
    x, y = tensor("x", shape, 4, rng), tensor("y", (*shape[:2], 6), int(rng.choice([4, 8])), rng)
    op = plant(conv_op(rng, x, y, (size, size), (1, 1), (size // 2,) * 4, 1, 4), x, rng)
    p = program([op], [x, y], mode)
    codes = np.array(list(product(range(16), repeat=2))).reshape(-1, *shape)
    outputs = oracle.conv(p, op, codes)
    found = bounds(p)["y"]
    np.testing.assert_array_equal(found.low, outputs.min(axis=0))
    np.testing.assert_array_equal(found.high, outputs.max(axis=0))
    constant = (outputs == outputs[:1, :1, :1]).all(axis=(0, 1, 2))
    np.testing.assert_array_equal(found.constant, constant)


def block(mode: str, bits: int) -> Program:
    """Build pointwise -> padded depthwise -> pointwise -> pointwise; dead channels by hand.

    Channels of the first layer's output: 0 live; 1 constant at the zero point; 2 constant elsewhere, but the
    depthwise layer clamps it to one code; 3 and 4 constant elsewhere and different at the border, which the next
    layer reads from 3 and ignores from 4; 5 saturated, and ignored by the depthwise layer; 6 live but ignored by the
    layer after it.
    """
    rng, unused = default_rng(2), default_rng(0)
    zero = 5 if bits == 4 else 10
    x, a, b, c, y = (
        Tensor(name, (4, 5, n), bits, 0.1, zero) for name, n in (("x", 3), ("a", 7), ("b", 7), ("c", 4), ("y", 2))
    )
    unit = 2e-3 if bits == 8 else 2e-2

    def layer(x: Tensor, y: Tensor, size: int, groups: int, low: int | None = None) -> Conv:
        op = conv_op(unused, x, y, (size, size), (1, 1), (size // 2,) * 4, groups, 8, f"{x.name}{y.name}")
        weights = rng.integers(1, 9, op.weights.shape).astype(np.int8)
        ratios, bias = np.full(y.shape[2], unit, np.float32), np.zeros(y.shape[2], np.int32)
        return replace(op, weights=weights, bias=bias, ratios=ratios, low=y.low if low is None else low, high=y.high)

    first, middle, last, out = layer(x, a, 1, 1), layer(a, b, 3, 7, zero), layer(b, c, 1, 1), layer(c, y, 1, 1)
    first.weights[1:5] = 0
    first.bias[[2, 3, 4]] = np.rint(6 / unit)
    first.bias[5] = 10**8
    middle.weights[2] *= -1  # at most the zero point, wherever the window lies
    middle.weights[5] = 0
    middle.ratios[:], last.ratios[:], out.ratios[:] = 0.02, 0.04, 0.2
    middle.bias[5] = 150
    last.weights[..., [4, 6]] = 0
    return program([first, middle, last, out], [x, a, b, c, y], mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [4, 8])
def test_planted_channels_disappear(mode: str, bits: int) -> None:
    p = block(mode, bits)
    codes = random_codes(p.tensors["x"], 8, default_rng(0))
    whole = trace(p, codes)
    assert len(np.unique(whole["b"][..., 3])) > 1, "no border to get wrong"
    assert len(np.unique(whole["b"][..., 5])) == 1
    assert whole["b"][0, 0, 0, 5] != p.tensors["b"].zero, "nothing to fold"
    pruned = assert_same(p, codes)
    assert np.flatnonzero(pruned.live["a"]).tolist() == [0, 3]
    assert np.flatnonzero(pruned.live["b"]).tolist() == [0, 3]
    assert pruned.ops[1].groups == 2
    assert "c" not in pruned.live
    assert sum(op.macs(pruned) for op in pruned.ops) == 4 * 5 * (3 * 2 + 9 * 2 + 2 * 4 + 4 * 2)


def test_a_constant_is_not_folded_through_a_padded_window() -> None:
    """A 3x3 layer behind a constant other than the zero point: its share is smaller at the border."""
    rng = default_rng(0)
    x, a, y = (Tensor(name, (4, 4, n), 8, 0.1, 3) for name, n in (("x", 2), ("a", 3), ("y", 2)))
    first = conv_op(rng, x, a, (1, 1), (1, 1), (0, 0, 0, 0), 1, 8, "first")
    first = replace(first, low=-128, high=127, ratios=np.full(3, 0.01, np.float32))
    first.weights[1:] = 0
    first.bias[1:] = 0, 5000
    last = conv_op(rng, a, y, (3, 3), (1, 1), (1, 1, 1, 1), 1, 8, "last")
    p = program([first, last], [x, a, y])
    assert np.flatnonzero(assert_same(p, random_codes(x, 4, rng)).live["a"]).tolist() == [0, 2]
    inside = replace(y, shape=(2, 2, 2))
    p = program([first, replace(last, pads=(0, 0, 0, 0))], [x, a, inside])
    assert np.flatnonzero(assert_same(p, random_codes(x, 4, rng)).live["a"]).tolist() == [0]


def test_an_addition_keeps_a_channel_that_one_side_needs() -> None:
    rng = default_rng(2)
    x, a, b, s, y = (Tensor(name, (2, 2, n), 8, 0.1, 0) for name, n in zip("xabsy", (4, 4, 4, 4, 2), strict=True))
    one = ((1, 1), (1, 1), (0, 0, 0, 0), 1, 8)
    left, right, last = conv_op(rng, x, a, *one, "l"), conv_op(rng, x, b, *one, "r"), conv_op(rng, s, y, *one, "last")
    for op in (left, right):
        op.bias[:] = 300
    left.weights[[0, 1]] = 0  # 0: constant on both sides; 1: on the left only
    right.weights[0] = 0
    last.weights[..., 3] = 0  # 3: nobody reads the sum
    add = Add("sum", ("a", "b"), "s", s.low, s.high)
    pruned = assert_same(program([left, right, add, last], [x, a, b, s, y]), random_codes(x, 5, rng))
    for name in "abs":
        assert np.flatnonzero(pruned.live[name]).tolist() == [1, 2], name


def test_a_bias_that_would_overflow_keeps_the_channel() -> None:
    """Two constant inputs whose shares cancel: each alone would leave int32."""
    rng, wide = default_rng(3), 640
    x, a, y = (
        Tensor("x", (1, 1, 1), 8, 0.1, 0),
        Tensor("a", (1, 1, wide + 2), 8, 0.1, 0),
        Tensor("y", (1, 1, 1), 8, 1, -128),
    )
    one = ((1, 1), (1, 1), (0, 0, 0, 0), 1, 8)
    first = replace(conv_op(rng, x, a, *one), ratios=np.ones(wide + 2, np.float32), low=0, high=127)
    first.weights[:, 0, 0, 0], first.bias[:] = [1] * wide + [0, 0], [0] * wide + [100, 100]
    last = conv_op(rng, a, y, *one, "last")
    last = replace(last, ratios=np.full(1, 1.1e-7, np.float32), low=-128, high=127)
    last.weights[0, 0, 0] = [-127] * wide + [100, -100]
    everything = np.arange(-128, 128).reshape(-1, 1, 1, 1)
    p = program([first, last], [x, a, y])
    last.bias[:] = 2**31 - 200
    assert "a" not in assert_same(p, everything).live
    last.bias[:] = 2**31 - 2**15
    assert np.flatnonzero(~assert_same(p, everything).live["a"]).tolist() == [wide, wide + 1]


def test_groups_stay_of_one_size() -> None:
    rng = default_rng(4)
    x, a, b, y = (Tensor(name, (3, 3, n), 8, 0.1, 0) for name, n in (("x", 2), ("a", 9), ("b", 6), ("y", 2)))
    one = ((1, 1), (1, 1), (0, 0, 0, 0))
    first, middle = conv_op(rng, x, a, *one, 1, 8, "first"), conv_op(rng, a, b, *one, 3, 8, "middle")
    last = conv_op(rng, b, y, *one, 1, 8, "last")
    last.weights[..., [2, 3]] = 0  # nobody needs the second group
    last.weights[..., [5]] = 0  # nor the second output of the third; the first group needs both
    middle.weights[0:2, ..., 0] = 0
    middle.weights[4:, ..., [0, 1]] = 0
    for op in (first, middle, last):
        op.bias[:] = 0
    first, middle, last = (replace(op, low=-128, high=127) for op in (first, middle, last))
    pruned = assert_same(program([first, middle, last], [x, a, b, y]), random_codes(x, 5, rng))
    assert np.flatnonzero(pruned.live["a"]).tolist() == [1, 2, 6, 8]
    assert np.flatnonzero(pruned.live["b"]).tolist() == [0, 1, 4, 5]
    assert pruned.ops[1].groups == 2


def test_visual_wake_words_needs_half_of_its_macs(shared_data: Path) -> None:
    """The reference network has 971 pointwise outputs whose weights are all zero."""
    from tapc.frontend import load
    from tapc.graph.analysis import analyse
    from tapc.lower.codes import input_codes
    from tapc.lower.from_onnx import program_from_onnx
    from tapc.quantize import calibrate, quantize, uniform_bits

    model = load(str(shared_data / "mlperf-tiny" / "vww_96_float.tflite"))
    network = analyse(model.onnx, model.name)
    x = default_rng(0).random((16, *model.input_shape[1:]), np.float32)
    quantized = quantize(model, network, uniform_bits(network, 8, 8), calibrate(model, x, seed=0), x=x)
    p = program_from_onnx(quantized.onnx, model.name, "float", "dsp")
    dead = sum(
        int((op.weights == 0).all(axis=(1, 2, 3)).sum())
        for op in p.ops
        if isinstance(op, Conv) and not op.depthwise(p.tensors[op.inputs[0]].shape[2])
    )
    assert dead == 971
    for mode in MODES:
        pruned = assert_same(replace(p, mode=mode), input_codes(p, x[:4]))
        assert sum(op.macs(p) for op in p.ops) == sum(layer.macs for layer in network.layers) == 7_489_664
        assert sum(op.macs(pruned) for op in pruned.ops) <= 3_740_000
