"""What holds for every operator that registers itself: a new one is tested by existing.

A random instance in a small network with random bits: torch and the reference against onnxruntime, bounds, pruning, C
on the host under sanitizers, firmware on every core, and the cost model.
"""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from kernels.programs import run_together_on_host
from numpy.typing import NDArray
from onnx import TensorProto, helper
from operators.examples import OPERATORS, SEEDS, Case, case, float_model

from tapc.base.arithmetic import Ints, Mode, arithmetics
from tapc.base.isa import Isa
from tapc.cost.model import CostModel, load_coefficients
from tapc.device import device_for
from tapc.device.verify import device_inputs, verify
from tapc.firmware import build_firmware
from tapc.graph.analysis import Graph
from tapc.graph.rules import rules
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target, target_names
from tapc.ir.program import Program, Tensor
from tapc.lower import lower
from tapc.lower.bounds import bounds
from tapc.lower.codes import input_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.prune import prune
from tapc.lower.reference import execute
from tapc.quantize.reach import reaches
from tapc.quantize.runtime import batched, session

BOARDS = ("stm32h7", "nrf52840dk", "pico", "mps3-an547")
# An epsilon of less than one unit of the variance's integers counts as one.
FAR = {("LayerNormalization", "fixed"): 2, ("LayerNormalization", "tflite"): 2, ("MatMul", "tflite"): 3}
# TFLite rounds twice: first to 2^-n codes where a factor is about 2^-n.
DIFFER = {"tflite": 0.45}
# Halfway between pixels lie halves, which are rounded to even, or up.
HALVES = {"Resize": 0.2}
MODES = tuple(arithmetic.name for arithmetic in arithmetics())


def values(model: onnx.ModelProto, names: list[str], x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run onnxruntime and return the named float tensors."""
    exposed = batched(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return dict(zip(names, session(exposed, optimized=False).run(names, {"x": x}), strict=True))


def codes_of(t: Tensor, value: NDArray[np.float32]) -> Ints:
    """Return codes (N, H, W, C) of a dequantized tensor."""
    nhwc = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
    codes: Ints = np.rint(nhwc.reshape(len(value), *t.shape) / np.float32(t.scale)).astype(np.int64) + t.zero
    return codes


def of_onnxruntime(given: Case, program: Program) -> dict[str, Ints]:
    """Return the codes of every tensor of the program as onnxruntime computes the QDQ model."""
    readers = {n.input[0]: n.output[0] for n in given.quantized.onnx.graph.node if n.op_type == "DequantizeLinear"}
    known = values(given.quantized.onnx, [readers[key] for key in program.tensors], given.x)
    return {key: codes_of(t, known[readers[key]]) for key, t in program.tensors.items()}


@cache
def with_kernels_of_their_own() -> tuple[str, ...]:
    """Return operators that together run every kind of kernel: others differ in constants alone."""
    seen: set[str] = set()
    chosen = []
    for name in OPERATORS:
        steps = lower(case((name,), SEEDS[0]).quantized.onnx, "example", "float", "scalar").steps
        kinds = {f"{type(step.op).__name__} {step.spec.kind}" for step in steps}
        if not kinds <= seen:
            chosen.append(name)
            seen |= kinds
    return tuple(chosen)


def test_every_operator_occurs() -> None:
    nodes = {node.op_type for name in OPERATORS for node in float_model((name,), 0).graph.node}
    # What looks rows up by tokens needs inputs of its own: test_embedding.py.
    assert nodes == {name for name, rule in rules().items() if not rule.table}


@pytest.mark.parametrize("name", OPERATORS)
def test_torch_and_the_intervals_agree_with_onnxruntime(name: str) -> None:
    from tapc.quantize.torch_graph import TorchGraph, torch

    for seed in SEEDS:
        given = case((name,), seed)
        graph = Graph(given.float_model)
        whole = [str(node.output[0]) for node in graph.nodes if node.op_type == "ArgMax"]  # whole numbers have no codes
        names = [str(node.output[0]) for node in graph.nodes if node.output[0] not in whole]
        expected = values(given.float_model, names, given.x)
        found = TorchGraph(graph).tensors(torch.from_numpy(given.x), names)
        for tensor, bound in reaches(graph).items():
            if tensor == graph.input or tensor in whole:
                continue
            value = expected[tensor]
            largest = max(float(np.abs(value).max()), 1e-6)
            np.testing.assert_allclose(found[tensor].detach().numpy(), value, rtol=0, atol=2e-5 * largest)
            ends = value.min(axis=(0, *range(2, value.ndim))), value.max(axis=(0, *range(2, value.ndim)))
            assert np.all(bound.low <= ends[0] + 1e-4 * largest), tensor
            assert np.all(bound.high >= ends[1] - 1e-4 * largest), tensor


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OPERATORS)
def test_the_reference_is_within_one_step_of_onnxruntime(name: str, mode: Mode) -> None:
    for seed in SEEDS:
        given = case((name,), seed)
        program = program_from_onnx(given.quantized.onnx, "example", mode, "dsp")
        codes = of_onnxruntime(given, program)
        for op in program.ops:
            found = op.reference(program, [codes[key] for key in op.inputs])
            steps = np.abs(found - codes[op.output])
            assert steps.max() <= FAR.get((name, mode), 1), (seed, op)
            assert np.mean(steps > 0) <= DIFFER.get(mode, 0.05 if mode == "float" else HALVES.get(name, 0.05)), (
                seed,
                op,
            )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OPERATORS)
def test_bounds_hold_and_pruning_changes_no_bit(name: str, mode: Mode) -> None:
    for seed in SEEDS:
        given = case((name,), seed)
        program = program_from_onnx(given.quantized.onnx, "example", mode, "dsp")
        known, seen = bounds(program), {program.input: input_codes(program, given.x)}
        expected = execute(program, seen[program.input], observe=lambda op, v, seen=seen: seen.update({op.output: v}))  # type: ignore[misc]
        for key, bound in known.items():
            assert np.all((bound.low <= seen[key]) & (seen[key] <= bound.high)), (seed, key)
        np.testing.assert_array_equal(execute(prune(program), seen[program.input]), expected)


@pytest.mark.parametrize(
    ("isa", "mode"),
    sorted({(t.isa, mode) for t in map(load_target, target_names()) for mode in (t.requantize, "tflite")}),
)
def test_c_on_the_host(isa: Isa, mode: Mode) -> None:
    cases, names = [], with_kernels_of_their_own()
    for name in names:
        given = case((name,), SEEDS[0])
        network = lower(given.quantized.onnx, "example", mode, isa)
        cases.append((network, input_codes(network.program, given.x[:3])))
    with tempfile.TemporaryDirectory() as folder:
        found = run_together_on_host([(n.program, codes, None) for n, codes in cases], Path(folder))
    for name, (network, codes), outputs in zip(names, cases, found, strict=True):
        np.testing.assert_array_equal(outputs, execute(network.reference, codes), name)


@pytest.mark.parametrize("board_name", BOARDS)
def test_firmware_and_its_cost(board_name: str, tmp_path: Path) -> None:
    """All of them in one network: every step's codes, and how far the cost model is off."""
    given, board = case(with_kernels_of_their_own(), SEEDS[-1]), load_board(board_name)
    target = load_target(board.core)
    network = lower(given.quantized.onnx, "example", target.requantize, target.isa)
    codes = input_codes(network.program, given.x[:2])
    (tmp_path / "lib").mkdir()
    network.library().write(tmp_path / "lib")
    images = build_firmware(tmp_path / "lib", board, target, tmp_path, work=tmp_path / "work")
    run = device_for(target).load(images).run(device_inputs(network, codes), layers=len(codes))
    found = verify(network, run, codes)
    assert found.mismatch is None, found.mismatch
    model = CostModel(load_coefficients(target.cost))
    pairs = np.array([(model.instructions(step.spec), n) for step, n in
                      zip(network.steps, run.instructions_per_step, strict=True)])  # fmt: skip
    assert abs(pairs[:, 0].sum() / pairs[:, 1].sum() - 1) <= 0.25
    assert np.median(np.abs(pairs[:, 0] / pairs[:, 1] - 1)) <= 0.2
    # Kernels as small as these differ by what the compiler makes of their borders.
    assert np.all(pairs[:, 0] <= 3 * pairs[:, 1] + 300)
    assert np.all(pairs[:, 1] <= 3 * pairs[:, 0] + 300)
