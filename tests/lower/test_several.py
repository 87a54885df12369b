"""Programs with several inputs and outputs: integers near onnxruntime's, an arena that keeps them, names in C."""

from pathlib import Path

import numpy as np
import pytest

from graph_builder import Builder, pair
from kernels.programs import run_on_host
from tapc.device.verify import device_inputs, device_outputs
from tapc.graph.analysis import Graph, analyse
from tapc.lower import Lowered, lower
from tapc.lower.codes import apart, input_codes, output_sizes, values
from tapc.lower.facts import Facts
from tapc.lower.plan import lifetimes
from tapc.lower.reference import execute
from tapc.quantize import calibrate, evaluate, quantize, uniform_bits


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (24, 3 * 64 + 64 + 3)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(x: np.ndarray):  # type: ignore[no-untyped-def]
    model = pair()
    network = analyse(model.onnx, "pair")
    return quantize(model, network, uniform_bits(network, 8, 8), calibrate(model, x, seed=0), x=x)


@pytest.fixture(scope="module")
def network(quantized) -> Lowered:  # type: ignore[no-untyped-def]
    return lower(quantized.onnx, "pair", "float", "dsp")


def test_all_of_the_interface_has_8_bits() -> None:
    model = pair()
    groups = analyse(model.onnx, "pair").groups
    group_of = {tensor: group for group in groups for tensor in group.tensors}
    graph = Graph(model.onnx)
    assert all(group_of[name].interface for name in (*graph.inputs, *graph.outputs))
    assert not all(group.interface for group in groups)


def test_integers_are_near_onnxruntime(quantized, network: Lowered, x: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    program = network.reference
    mine = values(program, execute(program, input_codes(program, x)))
    theirs = evaluate(quantized.onnx, x, optimized=False)
    assert output_sizes(program) == [384, 4, 3]
    scales = np.repeat([program.tensors[name].scale for name in program.outputs], output_sizes(program))
    assert np.abs((mine - theirs) / scales).max() <= 1.001
    assert np.abs((mine - theirs) / scales).mean() < 0.05


def test_rewrites_keep_every_output(network: Lowered, x: np.ndarray) -> None:
    codes = input_codes(network.program, x)
    np.testing.assert_array_equal(execute(network.program, codes), execute(network.reference, codes))


def test_bytes_and_codes_are_inverse(network: Lowered, x: np.ndarray) -> None:
    program = network.program
    codes = input_codes(program, x)
    assert device_inputs(network, codes).shape == (24, 3 * 64 + 64 + 3)
    outputs = execute(program, codes)
    raw = np.concatenate([part.reshape(24, -1) for part in apart(program, program.outputs, outputs)], axis=1)
    np.testing.assert_array_equal(device_outputs(program, raw.astype(np.int8)), outputs)


def test_the_arena_keeps_inputs_from_the_start_and_outputs_to_the_end(network: Lowered) -> None:
    plan, last = network.plan, len(network.steps) - 1
    buffers = {buffer.name: buffer for buffer in plan.buffers}
    assert all(buffers[name].first == 0 for name in network.program.inputs)
    ends = [(plan.offsets[name], network.program.tensors[name].bytes) for name in network.program.outputs]
    assert len([b for b in plan.buffers if b.last == last]) >= 3
    for index, (start, size) in enumerate(ends):
        assert all(start + size <= a or a + b <= start for a, b in ends[:index])
    assert plan.offsets[network.program.outputs[2]] == plan.offsets[network.program.inputs[2]]  # reshaped in place


def test_the_library_on_this_machine(network: Lowered, x: np.ndarray, tmp_path: Path) -> None:
    codes = input_codes(network.program, x[:5])
    np.testing.assert_array_equal(run_on_host(network.program, codes, tmp_path), execute(network.reference, codes))


def test_the_header_names_each(network: Lowered) -> None:
    files = network.shown_files(Facts(labels=("a", "b", "c", "d")))
    header = files["pair.h"]
    for line in (
        "#define PAIR_INPUTS 3", "#define PAIR_INPUT_DEPTH_INDEX 1", "#define PAIR_INPUT_NUMBERS_BYTES 3",
        "int8_t *pair_input_depth(void);", "void *pair_input(int32_t index);", "#define PAIR_OUTPUTS 3",
        "void pair_quantize_x(const float *values, int8_t *codes);",
        "int32_t pair_argmax_scores_out(const int8_t *codes);",
        "extern const char *const pair_labels[PAIR_LABELS];",
    ):  # fmt: skip
        assert line in header
    assert "pair_quantize(" not in header
    assert "pair_input_numbers()" in files["README.md"]


def test_outputs_inside_are_neither_fused_away_nor_written_over(tmp_path: Path) -> None:
    """An addition, a pooling and a last table could each take the place of what they read, which is an output here."""
    b = Builder((1, 3, 8, 8))
    first, second = b.conv("x", "first", 3, 6), b.conv("x", "second", 3, 6)
    total = b.node("Add", [first, second], "total")
    pooled = b.node("MaxPool", [b.conv(total, "third", 6, 8)], "pool", kernel_shape=[2, 2], strides=[2, 2])
    flat = b.node("Flatten", [pooled], "flat", axis=1)
    dense = b.gemm(flat, "dense", 128, 9)
    model = b.build(first, second, "third_out", flat, dense, b.node("Sigmoid", [dense], "sigmoid"))
    x = np.random.default_rng(0).normal(0, 1, (12, 3, 8, 8)).astype(np.float32)
    network = analyse(model.onnx, "net")
    made = quantize(model, network, uniform_bits(network, 4, 8), calibrate(model, x, seed=0), x=x, rounding="nearest")
    lowered = lower(made.onnx, "net", "float", "dsp")
    codes = input_codes(lowered.program, x)
    expected = execute(lowered.reference, codes)
    np.testing.assert_array_equal(execute(lowered.program, codes), expected)
    np.testing.assert_array_equal(run_on_host(lowered.program, codes[:4], tmp_path), expected[:4])
    # The table's result may lie where its input does, but not where that is an output.
    _, overlaps, _ = lifetimes(lowered.program, lowered.steps)
    read = {name for _, name in overlaps}
    assert read
    assert not read & set(lowered.program.outputs)
