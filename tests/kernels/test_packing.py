"""Packing round trips and layouts, against bit arithmetic on Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapc.kernels.conv import ConvSpec
from tapc.kernels.intrinsics import INTRINSICS
from tapc.kernels.layout import Plane
from tapc.kernels.packing import (
    linear_words,
    pack_activations,
    pair_words,
    unpack_activations,
    unpack_linear_words,
    unpack_pair_words,
    weights_per_word,
)
from tapc.kernels.window import Window

BITS = st.sampled_from([2, 4, 8])


@st.composite
def codes(draw: st.DrawFn, whole_words: bool) -> tuple[int, np.ndarray]:
    bits = draw(BITS)
    half = 1 << (bits - 1)
    count = draw(st.integers(1, 40))
    if whole_words:
        count = -(-count // weights_per_word(bits)) * weights_per_word(bits)
    values = draw(st.lists(st.integers(-half, half - 1), min_size=count, max_size=count))
    return bits, np.array(values, np.int8)


@given(codes(whole_words=True))
def test_pair_words_round_trip(case: tuple[int, np.ndarray]) -> None:
    bits, values = case
    words = pair_words(values, bits)
    assert words.nbytes == len(values) * bits // 8
    np.testing.assert_array_equal(unpack_pair_words(words, bits), values)


@given(codes(whole_words=True))
def test_one_mask_gives_a_pair(case: tuple[int, np.ndarray]) -> None:
    """Pair s of a word is what the kernels take: SXTB16 for bytes, a masked shift for narrower fields."""
    bits, values = case
    table = {entry.name: entry.meaning for entry in INTRINSICS}
    pairs = values.reshape(-1, 2).tolist()
    for w, word in enumerate(pair_words(values, bits).tolist()):
        for s in range(16 // bits):
            low, high = pairs[w * (16 // bits) + s]
            if bits == 8:
                meaning = table["t_sxtb16" if s == 0 else "t_sxtb16_ror8"]
                assert meaning is not None
                got = meaning(word) & 0xFFFFFFFF
            else:
                mask = (((1 << bits) - 1) << (16 - bits)) * 0x10001
                got = word << (16 - bits - s * bits) & mask if s * bits <= 16 - bits else 0
                low, high = low << (16 - bits), high << (16 - bits)
            assert got == (low & 0xFFFF) | ((high & 0xFFFF) << 16)


@given(codes(whole_words=False))
def test_linear_words_round_trip(case: tuple[int, np.ndarray]) -> None:
    bits, values = case
    words = linear_words(values, bits)
    np.testing.assert_array_equal(unpack_linear_words(words, bits, len(values)), values)
    offset = 0 if bits == 8 else 1 << (bits - 1)
    bitstring = sum(((v + offset) & ((1 << bits) - 1)) << (i * bits) for i, v in enumerate(values.tolist()))
    stored = sum(w << (32 * i) for i, w in enumerate(words.tolist()))
    assert stored & ((1 << (bits * len(values))) - 1) == bitstring


@given(st.sampled_from([4, 8]), st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_activations_round_trip(bits: int, pixels: int, channels: int, seed: int) -> None:
    low, high = (0, 15) if bits == 4 else (-128, 127)
    values = np.random.default_rng(seed).integers(low, high + 1, (2, pixels, 1, channels))
    packed = pack_activations(values, bits)
    assert packed.nbytes == 2 * pixels * -(-channels * bits // 8)
    raw = packed.reshape(2, -1)
    np.testing.assert_array_equal(unpack_activations(raw, (pixels, 1, channels), bits), values)


@pytest.mark.parametrize("a_bits", [4, 8])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("depth", [1, 3, 4, 8, 16])
def test_column_order_is_a_permutation(a_bits: int, groups: int, depth: int) -> None:
    planes = Plane(4, 4, depth * groups, a_bits), Plane(4, 4, 6 * groups, 8)
    spec = ConvSpec(*planes, Window(3, 3, 1, 1, 1, 1), groups, 4, "float")
    order = spec.form.columns.order()
    assert sorted(order[order >= 0].tolist()) == list(range(9 * depth))
    weights = np.random.default_rng(0).integers(-8, 8, (6 * groups, 3, 3, depth)).astype(np.int8)
    words = spec.pack(weights)
    assert words.size == spec.weight_words
    rows = words.reshape(3 * groups, -1, 2).swapaxes(1, 2).reshape(6 * groups, -1)
    column = unpack_pair_words(rows, 4)[:, : len(order)]
    np.testing.assert_array_equal(column[:, order >= 0], weights.reshape(6 * groups, -1)[:, order[order >= 0]])


def test_intrinsics_mean_what_their_portable_c_does() -> None:
    """Spot values from the Armv7-M manual's definitions."""
    table = {entry.name: entry.meaning for entry in INTRINSICS if entry.meaning is not None}
    assert table["t_smlad"](0x0002FFFF, 0x00030004, 10) == 10 + (-1) * 4 + 2 * 3
    assert table["t_smlad"](-(2**31), -(2**31), 2**31 - 1) == 2**30 + 2**31 - 1 - 2**32
    assert table["t_smlabt"](0x00050003, 0x0007FFFE, 1) == 1 + 3 * 7
    assert table["t_smlatb"](0x00050003, 0x0007FFFE, 1) == 1 + 5 * -2
    assert table["t_top_fields"](0xF000F000 - 2**32, 0x00A000B0, 8) == 0xA000B000 - 2**32
    assert table["t_requant_float8"](2**31 - 1, 1e9, 127) == 127
    assert table["t_requant_float4"](-5, 0.5, 3) == 1  # half to even
    assert table["t_sxtb16"](0x80FF7F01) == (0xFFFF << 16 | 1) - 2**32
    assert table["t_pair"](-1, 1) == 0x1FFFF
    assert table["t_ratio"](3, 256, 7) == 110
    assert table["t_requant_float"](5, 0.5, 0, -128, 127) == 2  # half to even
    assert table["t_requant_fixed"](5, 2**30, 31, 0, -128, 127) == 3  # half up
