"""The comparison itself: a single wrong element anywhere is found, and the first one is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels.programs import conv_op, lowered, program, random_codes, tensor
from tapc.device import DeviceRun
from tapc.device.verify import Verification, verify
from tapc.kernels.packing import pack_activations
from tapc.lower import Lowered
from tapc.lower.prune import prune
from tapc.lower.reference import execute


@pytest.fixture(scope="module")
def case() -> tuple[Lowered, np.ndarray, list[list[bytes]], np.ndarray]:
    """A network of two layers, its inputs, and what a correct device would give."""
    rng = np.random.default_rng(3)
    x, m, y = tensor("x", (3, 4, 5), 8, rng), tensor("m", (3, 4, 3), 4, rng), tensor("y", (3, 4, 2), 8, rng)
    same = ((1, 1), (1, 1), (0, 0, 0, 0), 1, 4)
    p = program([conv_op(rng, x, m, *same, "first"), conv_op(rng, m, y, *same, "second")], [x, m, y])
    codes = random_codes(x, 3, rng)
    layers: dict[str, np.ndarray] = {}
    outputs = execute(p, codes, observe=lambda op, values: layers.update({op.name: values}))
    dumped = [
        [pack_activations(layers[name][i], bits).tobytes() for name, bits in (("first", 4), ("second", 8))]
        for i in range(2)
    ]
    return lowered(p), codes, dumped, outputs.astype(np.int8).reshape(3, -1)


def run(layers: list[list[bytes]], outputs: np.ndarray) -> DeviceRun:
    return DeviceRun(Path("twin.elf"), outputs, tuple(map(tuple, layers)), (1, 1), 2, 100, np.zeros((0, 3), np.uint64))


def test_a_correct_device_passes(case) -> None:
    network, codes, layers, outputs = case
    result = verify(network, run(layers, outputs), codes)
    assert result.exact
    assert result.outputs_exact
    assert result.layers == {"first": True, "second": True}
    assert result.samples == 2


def test_a_wrong_nibble_in_a_layer_is_named_although_the_outputs_are_right(case) -> None:
    network, codes, layers, outputs = case
    broken = [list(sample) for sample in layers]
    raw = bytearray(broken[1][0])
    raw[2 * 3 + 1] ^= 0x01  # pixel 3 of sample 1, low nibble of its second byte: channel 2
    broken[1][0] = bytes(raw)
    result = verify(network, run(broken, outputs), codes)
    assert result.outputs_exact
    assert result.layers == {"first": False, "second": True}
    mismatch = result.mismatch
    assert mismatch is not None
    assert (mismatch.sample, mismatch.layer, mismatch.element) == (1, "first", (0, 3, 2))
    assert mismatch.actual == mismatch.expected ^ 1
    assert "'first'" in str(mismatch)


def test_padding_of_an_odd_number_of_nibbles_does_not_count(case) -> None:
    network, codes, layers, outputs = case
    padded = [list(sample) for sample in layers]
    raw = bytearray(padded[0][0])
    raw[1] ^= 0xF0
    padded[0][0] = bytes(raw)
    assert verify(network, run(padded, outputs), codes).exact


def test_a_wrong_output_of_a_sample_without_layers_is_found(case) -> None:
    network, codes, layers, outputs = case
    broken = outputs.copy()
    broken[2, 5] ^= 1
    result = verify(network, run(layers, broken), codes)
    assert not result.exact
    assert result.mismatch is not None
    assert (result.mismatch.sample, result.mismatch.layer, result.mismatch.element) == (2, "second", (0, 2, 1))


def test_removed_channels_are_left_out_and_the_others_keep_their_numbers() -> None:
    """The reference is the network before pruning; a difference is named by the network's channel."""
    rng = np.random.default_rng(5)
    x, m, y = tensor("x", (2, 2, 3), 8, rng), tensor("m", (2, 2, 5), 8, rng), tensor("y", (2, 2, 2), 8, rng)
    same = ((1, 1), (1, 1), (0, 0, 0, 0), 1, 8)
    first, second = (
        replace(conv_op(rng, a, b, *same, name), low=-128, high=127, bias=np.zeros(b.shape[2], np.int32))
        for a, b, name in ((x, m, "first"), (m, y, "second"))
    )
    first.weights[[0, 2]] = 0
    source = program([first, second], [x, m, y])
    pruned = prune(source)
    assert np.flatnonzero(pruned.live["m"]).tolist() == [1, 3, 4]
    network = replace(lowered(pruned), source=source)
    codes = random_codes(x, 2, rng)
    layers: dict[str, np.ndarray] = {}
    execute(source, codes, observe=lambda op, values: layers.update({op.name: values}))
    dumped = [[layers["first"][i][..., [1, 3, 4]], layers["second"][i]] for i in range(2)]
    outputs = layers["second"].astype(np.int8).reshape(2, -1)

    def check() -> Verification:
        raw = [[pack_activations(values, 8).tobytes() for values in sample] for sample in dumped]
        return verify(network, run(raw, outputs), codes)

    assert check().exact
    dumped[1][0][1, 0, 2] ^= 1
    mismatch = check().mismatch
    assert mismatch is not None
    assert (mismatch.sample, mismatch.layer, mismatch.element) == (1, "first", (1, 0, 4))
