"""Weights of which two share a half-word: every code of the usual form, on the host and on the cores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from kernels import oracle
from kernels.programs import conv_op, lowered, program, random_codes, run_together_on_host, side_by_side, tensor
from kernels.strategies import conv_programs, pooled_programs
from kernels.twin import run_twin
from tapc.base.ports import joined
from tapc.device.qemu import QemuDevice
from tapc.device.verify import device_inputs
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.ir.program import Program, Tensor
from tapc.kernels import nested
from tapc.kernels.conv import ConvSpec
from tapc.kernels.packing import unpack_activations
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import Schedule
from tapc.lower.fuse import fuse
from tapc.lower.reference import execute
from tapc.operators.add import Add
from tapc.operators.weighted import Conv

MODES = ("float", "fixed", "tflite")
SLOW = settings(
    max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.reuse, Phase.generate)
)


def schedule(p: Program, *, single: bool) -> Schedule | None:
    """Return the schedule of nested weights of the first layer, where it is computed with it."""
    step = lowered(p).steps[0]
    if not isinstance(step.spec, ConvSpec | PooledSpec):
        return None
    found = step.spec.form.nested(36, single=single)
    if found is None:
        return None
    spec = lowered(p, {step.op.name: found}).steps[0].spec
    assert isinstance(spec, ConvSpec | PooledSpec)
    return found if spec.tuned == found else None


def narrowed(p: Program) -> Program:
    """Return the same without -128 among the weights."""
    ops = [replace(op, weights=np.maximum(op.weights, -127)) if isinstance(op, Conv) else op for op in p.ops]
    return p.with_ops(tuple(ops))


def inputs(x: Tensor) -> np.ndarray:
    """Return random codes, extremes, all the least and all the largest."""
    rng = default_rng(0)
    codes = random_codes(x, 4, rng)
    codes[1] = rng.choice([x.low, x.high], x.shape)
    codes[2], codes[3] = x.low, x.high
    return codes


@SLOW
@given(st.data(), st.sampled_from(MODES), st.booleans(), st.sampled_from(["gcc", "clang"]))
def test_any_shape(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, mode: str, single: bool, cc: str
) -> None:
    def draws(strategy: st.SearchStrategy[Program], count: int) -> list[Program]:
        fit = strategy.map(narrowed).filter(lambda p: schedule(p, single=single) is not None)
        return data.draw(st.lists(fit, min_size=count, max_size=count))

    plain, pooled = draws(conv_programs(mode, "dsp"), 10), [fuse(p) for p in draws(pooled_programs(mode, "dsp"), 2)]
    cases: list[tuple[Program, np.ndarray, Mapping[str, Schedule] | None]] = []
    for p in (*plain, *pooled):
        own = schedule(p, single=single)
        cases.append((p, inputs(p.tensors["x"]), {} if own is None else {p.ops[0].name: own}))
    results = run_together_on_host(cases, tmp_path_factory.mktemp("host"), cc)
    for (p, x, _), y in zip(cases[:10], results[:10], strict=True):
        (op,) = p.ops
        assert isinstance(op, Conv)
        np.testing.assert_array_equal(y, oracle.conv(p, op, x))
    for (p, x, own_), y in zip(cases[10:], results[10:], strict=True):
        assert own_
        np.testing.assert_array_equal(y, execute(p, x))


def _layers(board: str) -> list[Program]:
    """Return layers with loops and words behind them, borders, groups, narrow weights, and taps of all numbers."""
    target = load_target(load_board(board).core)
    programs = []
    for number, (shape, depth, outputs, size, groups, w_bits) in enumerate((
        ((5, 6), 16, 6, 3, 1, 8), ((5, 5), 3, 4, 3, 1, 8), ((5, 6), 64, 5, 1, 1, 8), ((4, 3), 92, 4, 1, 1, 8),
        ((1, 1), 136, 10, 1, 1, 8), ((1, 1), 70, 7, 1, 1, 8), ((1, 1), 68, 16, 1, 1, 4), ((4, 4), 32, 8, 1, 2, 2),
        ((6, 3), 1, 3, 3, 1, 8),
    )):  # fmt: skip
        rng = default_rng(number)
        x, y = tensor("x", (*shape, depth), 8, rng), tensor("y", (*shape, outputs), 8, rng)
        op = conv_op(rng, x, y, (size, size), (1, 1), (size // 2,) * 4, groups, w_bits)
        op = replace(op, bias=np.zeros_like(op.bias))
        programs.append(narrowed(program([op], [x, y], target.requantize, target.isa)))
    return programs


@pytest.mark.parametrize("board_name", ["stm32h7", "nrf52840dk", "nucleo-u575zi-q"])
@pytest.mark.parametrize("single", [False, True])
def test_on_cores(board_name: str, single: bool) -> None:
    programs = _layers(board_name)
    own = [schedule(p, single=single) for p in programs]
    assert all(own)
    codes = [inputs(p.tensors["x"]) for p in programs]
    together = side_by_side(programs)
    network = lowered(together, {op.name: s for op, s in zip(together.ops, own, strict=True) if s is not None})
    board = QemuDevice(load_target(load_board(board_name).core)).roomy_board()
    run = run_twin(network, board, device_inputs(network, joined(codes)), layers=len(codes[0]))
    for index, (p, x) in enumerate(zip(programs, codes, strict=True)):
        (op,) = p.ops
        assert isinstance(op, Conv)
        raw = np.stack([np.frombuffer(sample[index], np.uint8) for sample in run.layer_outputs])
        np.testing.assert_array_equal(unpack_activations(raw, p.tensors["y"].shape, 8), oracle.conv(p, op, x))


@pytest.mark.parametrize("single", [False, True])
def test_residuals(single: bool, tmp_path: Path) -> None:
    rng = default_rng(3)
    x, c, y = (tensor(name, (7, 5, 8), 8, rng) for name in "xcy")
    conv = conv_op(rng, x, c, (3, 3), (1, 1), (1,) * 4, 1, 8)
    fused = narrowed(fuse(program([conv, Add("add", ("c", "x"), "y", y.low, y.high)], [x, c, y])))
    own = schedule(fused, single=single)
    assert own is not None
    codes = inputs(x)
    (found,) = run_together_on_host([(fused, codes, {fused.ops[0].name: own})], tmp_path)
    np.testing.assert_array_equal(found, execute(fused, codes))


def _check(cases: Sequence[Program], folder: Path) -> None:
    given_ = [(p, inputs(p.tensors["x"]), {"conv": schedule(p, single=True)}) for p in cases]
    for p, y in zip(cases, run_together_on_host(given_, folder), strict=True):
        (op,) = p.ops
        assert isinstance(op, Conv)
        np.testing.assert_array_equal(y, oracle.conv(p, op, inputs(p.tensors["x"])))


def test_a_wrong_bias_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (layer, *_) = _layers("stm32h7")
    monkeypatch.setattr(nested, "LEAD", 126)
    with pytest.raises(AssertionError):
        _check([layer], tmp_path)


def test_words_are_what_one_unpacking_needs() -> None:
    weights = default_rng(0).integers(-127, 128, (3, 64)).astype(np.int8)
    weights[0, :8] = [-127, -127, -127, -127, 127, 127, 127, 127]
    halves = nested.nested_words(weights).view(np.int16).reshape(3, 16, 2).astype(np.int64)
    low = halves.astype(np.int8)  # SXTB16
    np.testing.assert_array_equal(low, weights.reshape(3, 16, 2, 2)[:, :, 1])
    np.testing.assert_array_equal((halves - low) // 256, weights.reshape(3, 16, 2, 2)[:, :, 0])


@pytest.mark.parametrize(("weight", "depth", "is_nested"), [(-127, 200, True), (-128, 200, False), (127, 300, False)])
def test_what_may_go_too_far_is_left_to_the_usual_form(weight: int, depth: int, is_nested: bool) -> None:
    rng = default_rng(0)
    x, y = replace(tensor("x", (1, 1, depth), 8, rng), zero=-128), tensor("y", (1, 1, 4), 8, rng)
    op = conv_op(rng, x, y, (1, 1), (1, 1), (0,) * 4, 1, 8)
    op = replace(op, weights=np.full_like(op.weights, weight), bias=np.zeros_like(op.bias))
    assert (schedule(program([op], [x, y]), single=False) is not None) == is_nested
