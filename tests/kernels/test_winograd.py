"""Convolutions by Winograd's transforms: every code of the direct ones, on the host and on the cores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from kernels import oracle
from kernels.overlapped import Host, allowed
from kernels.programs import conv_op, lowered, program, random_codes, run_together_on_host, side_by_side, tensor
from kernels.twin import run_twin
from tapc.base.ports import joined
from tapc.device.qemu import QemuDevice
from tapc.device.verify import device_inputs
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.ir.program import Program, Tensor
from tapc.kernels import winograd
from tapc.kernels.conv import ConvSpec
from tapc.kernels.packing import unpack_activations
from tapc.kernels.schedule import Algorithm, Schedule
from tapc.kernels.winograd import LINES, TRANSFORMS
from tapc.lower.fuse import fuse
from tapc.lower.reference import execute
from tapc.operators.add import Add
from tapc.operators.pool import Pool
from tapc.operators.weighted import Conv, MaxPool
from thorough import thorough

ALGORITHMS: list[Algorithm] = list(TRANSFORMS)
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a smaller case would take minutes to find
SLOW = settings(max_examples=3, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def layers(draw: st.DrawFn) -> tuple[Program, Schedule]:
    """Draw a convolution that transforms can compute, of random weights or of the largest."""
    rng = default_rng(draw(st.integers(0, 2**32 - 1)))
    algorithm = draw(st.sampled_from(ALGORITHMS))
    kernel = draw(st.sampled_from([(3, 3), *((1, taps) for own, taps in LINES if own == algorithm)]))
    pads = tuple(draw(st.integers(0, size - 1)) for size in kernel * 2)
    shape = [draw(st.integers(max(1, n - pads[i] - pads[i + 2]), 11)) for i, n in enumerate(kernel)]
    if kernel[0] == 1:
        shape = [1, shape[1] + draw(st.sampled_from([0, 0, 20]))]
    x = tensor("x", (shape[0], shape[1], draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 36, 40]))), 8, rng)
    x = replace(x, zero=draw(st.sampled_from([x.zero, -128, 127])))
    size = [n + pads[i] + pads[i + 2] - kernel[i] + 1 for i, n in enumerate(shape)]
    y = tensor("y", (*size, draw(st.sampled_from([1, 2, 3, 5, 8]))), draw(st.sampled_from([4, 8])), rng)
    op = conv_op(rng, x, y, kernel, (1, 1), pads, 1, draw(st.sampled_from([2, 4, 8])))  # type: ignore[arg-type]
    if draw(st.booleans()):
        op = replace(op, weights=np.where(op.weights < 0, -128, 127).astype(np.int8), w_bits=8)
    schedule = Schedule(2, 2, 1, algorithm, draw(st.booleans()))
    mode, isa = draw(st.sampled_from([("float", "dsp"), ("fixed", "dsp"), ("fixed", "scalar")]))
    return program([op], [x, y], mode, isa), schedule


@st.composite
def pooled_layers(draw: st.DrawFn) -> tuple[Program, Schedule]:
    """Draw such a convolution with a max-pooling behind it whose windows share no line."""
    p, schedule = draw(layers().filter(lambda case: case[0].tensors["y"].shape[1] > 1))
    middle = p.tensors["y"]
    in_tiles = draw(st.booleans())
    sizes, gaps = ((1, 2, 2, 4), (0,)) if in_tiles else ((1, 2, 3, 4), (0, 1))
    kernel = tuple(draw(st.sampled_from([n for n in sizes if n <= size])) for size in middle.shape[:2])
    stride = tuple(n + draw(st.sampled_from(gaps)) for n in kernel)
    sides = [(size - n) // step + 1 for size, n, step in zip(middle.shape, kernel, stride, strict=False)]
    y = replace(middle, name="pooled", shape=(*sides, middle.shape[2]))
    low, high = sorted(draw(st.sampled_from([y.low, y.high, y.zero])) for _ in range(2))
    pool = Pool("pool", ("y",), "pooled", "max", kernel, stride, (0,) * 4, False, np.ones(1, np.float32), low, high)
    return replace(p, ops=(*p.ops, pool), tensors=p.tensors | {"pooled": y}, outputs=("pooled",)), schedule


def inputs(x: Tensor) -> np.ndarray:
    """Return random codes, all the largest, extremes in turn, and the zero point."""
    rng = default_rng(0)
    codes = random_codes(x, 4, rng)
    codes[1] = rng.choice([x.low, x.high], x.shape)
    codes[2] = np.where(np.indices(x.shape).sum(axis=0) % 2, x.low, x.high)
    codes[3] = x.zero
    return codes


def check(programs: Sequence[Program], results: Sequence[np.ndarray]) -> None:
    for p, y in zip(programs, results, strict=True):
        (op,) = p.ops
        assert isinstance(op, Conv)
        np.testing.assert_array_equal(y, oracle.conv(p, op, inputs(p.tensors["x"])))


def on_host(cases: Sequence[tuple[Program, Schedule]], folder: object, cc: str = "gcc") -> list[np.ndarray]:
    given_ = [(p, inputs(p.tensors["x"]), {"conv": schedule}) for p, schedule in cases]
    return run_together_on_host(given_, folder, cc)  # type: ignore[arg-type]


@SLOW
@given(st.lists(layers(), min_size=8, max_size=8), st.sampled_from(["gcc", "clang"]))
def test_any_shape(tmp_path_factory: pytest.TempPathFactory, cases: list[tuple[Program, Schedule]], cc: str) -> None:
    for p, schedule in cases:
        (step,) = lowered(p, {"conv": schedule}).steps
        assert isinstance(step.spec, ConvSpec)
        # What the weights do not prove to fit is computed directly.
        (op,) = p.ops
        assert isinstance(op, Conv)
        most = np.abs(op.weights.astype(np.int64)).sum() * 255
        assert step.spec.tuned == schedule or most << TRANSFORMS[schedule.algorithm].shift >= 2**28
    check([p for p, _ in cases], on_host(cases, tmp_path_factory.mktemp("host"), cc))


@SLOW
@given(st.lists(pooled_layers(), min_size=8, max_size=8), st.sampled_from(["gcc", "clang"]))
def test_any_pooling_behind(
    tmp_path_factory: pytest.TempPathFactory, cases: list[tuple[Program, Schedule]], cc: str
) -> None:
    fused = [(fuse(p), schedule) for p, schedule in cases]
    specs = [lowered(p, {"conv": schedule}).steps[0].spec for p, schedule in fused]
    assert sum(spec.transformed for spec in specs) > len(specs) / 2
    found = on_host(fused, tmp_path_factory.mktemp("host"), cc)
    for (p, _), y in zip(cases, found, strict=True):
        np.testing.assert_array_equal(y, execute(p, inputs(p.tensors["x"])))


def _many(x_channels: int, seed: int = 0, core: str = "cortex-m7") -> tuple[Program, Tensor]:
    target = load_target(core)
    rng = default_rng(seed)
    x, y = tensor("x", (6, 9, x_channels), 8, rng), tensor("y", (6, 9, 6), 8, rng)
    op = conv_op(rng, x, y, (3, 3), (1, 1), (1,) * 4, 1, 8)
    return program([op], [x, y], target.requantize, target.isa), x


@pytest.mark.parametrize("isa", ["dsp", "scalar"])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_residuals(algorithm: Algorithm, swapped: bool, isa: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = default_rng(swapped)
    x, c, y = (tensor(name, (7, 6, 8), 8, rng) for name in "xcy")
    conv = conv_op(rng, x, c, (3, 3), (1, 1), (1,) * 4, 1, 8)
    add = Add("add", ("x", "c") if swapped else ("c", "x"), "y", y.low, y.high)
    p = program([conv, add], [x, c, y], "float" if isa == "dsp" else "fixed", isa)
    fused = fuse(p)
    (op,) = fused.ops
    codes = inputs(x)
    schedule = {op.name: Schedule(2, 2, 1, algorithm)}
    (step,) = lowered(fused, schedule).steps
    assert isinstance(step.spec, ConvSpec)
    assert step.spec.tuned is not None
    assert step.spec.residual_bits == 8
    (found,) = run_together_on_host([(fused, codes, schedule)], tmp_path_factory.mktemp("host"))
    np.testing.assert_array_equal(found, execute(p, codes))


def _along_a_line(x_channels: int, taps: int, seed: int, core: str = "cortex-m7") -> tuple[Program, Tensor]:
    target = load_target(core)
    rng = default_rng(seed)
    x, y = tensor("x", (1, 29, x_channels), 8, rng), tensor("y", (1, 29, 6), 8, rng)
    op = conv_op(rng, x, y, (1, taps), (1, 1), (0, taps // 2) * 2, 1, 8)  # type: ignore[arg-type]
    return program([op], [x, y], target.requantize, target.isa), x


def _with_pool(p: Program, kernel: tuple[int, int], stride: tuple[int, int] | None = None) -> Program:
    """Return a layer with a max-pooling behind it, in one operator."""
    (op,), middle, stride = p.ops, p.tensors["y"], stride or kernel
    assert isinstance(op, Conv)
    sides = [(size - n) // step + 1 for size, n, step in zip(middle.shape, kernel, stride, strict=False)]
    y = replace(middle, shape=(sides[0], sides[1], middle.shape[2]))
    pool = MaxPool("pool", middle, kernel, stride, y.low + 3, y.high)
    return replace(p, ops=(replace(op, pool=pool),), tensors=p.tensors | {"y": y})


@pytest.mark.parametrize(
    "board_name",
    ["stm32h7", *map(thorough, ("pico", "nrf52840dk", "nucleo-u575zi-q", "nucleo-f103rb", "hifive1"))],
)
def test_on_cores(board_name: str) -> None:
    """Both transforms with both ways to load, few channels and so many that there is a loop."""
    programs, schedules = [], []
    for depth in (4, 5, 40):
        for algorithm in ALGORITHMS:
            for single in (False, True):
                p, _ = _many(depth, len(programs), load_board(board_name).core)
                programs.append(p)
                schedules.append(Schedule(2, 2, 1, algorithm, single))
    for algorithm, taps in LINES:
        for depth, single in ((4, False), (5, True), (40, True)):
            p, _ = _along_a_line(depth, taps, len(programs), load_board(board_name).core)
            programs.append(p)
            schedules.append(Schedule(2, 2, 1, algorithm, single))
    plain = len(programs)
    # Windows that fill tiles, and others.
    for kernel in ((2, 2), (1, 2), (3, 3)):
        for algorithm in ALGORITHMS if kernel != (3, 3) else ALGORITHMS[:2]:
            p, _ = _many(6, len(programs), load_board(board_name).core)
            programs.append(_with_pool(p, kernel))
            schedules.append(Schedule(2, 2, 1, algorithm))
    codes = [inputs(p.tensors["x"]) for p in programs]
    together = side_by_side(programs)
    network = lowered(together, {op.name: s for op, s in zip(together.ops, schedules, strict=True)})
    assert all(s.spec.transformed for s in network.steps)
    board = QemuDevice(load_target(load_board(board_name).core)).roomy_board()  # some hold few layers
    run = run_twin(network, board, device_inputs(network, joined(codes)), layers=len(codes[0]))
    found = []
    for index, op in enumerate(together.ops):
        raw = np.stack([np.frombuffer(sample[index], np.uint8) for sample in run.layer_outputs])
        found.append(unpack_activations(raw, together.tensors[op.output].shape, 8))
    check(programs[:plain], found[:plain])
    for p, y in zip(programs[plain:], found[plain:], strict=True):
        np.testing.assert_array_equal(y, execute(p, inputs(p.tensors["x"])))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_outputs_over_their_inputs(algorithm: Algorithm, tmp_path: Path) -> None:
    """At every distance that is allowed, and at one that is not some code is lost."""
    rng = default_rng(1)
    x, y = tensor("x", (9, 5, 4), 8, rng), tensor("y", (9, 5, 4), 8, rng)
    op = conv_op(rng, x, y, (3, 3), (1, 1), (1,) * 4, 1, 8)
    op = replace(op, low=-128, high=127, bias=np.zeros(4, np.int32), ratios=np.full(4, 5e-4, np.float32))
    p = program([op], [x, y])
    (step,) = op.steps(p, {"conv": Schedule(2, 2, 1, algorithm)})
    host, codes = Host([(p, step)], tmp_path), random_codes(x, 2, rng)[1:]
    expected = oracle.conv(p, op, codes)
    for distance in allowed(step, x, y, rng):
        np.testing.assert_array_equal(host.run(0, {"x": codes[0]}, "x", distance), expected[0], f"{distance}")
    too_close = step.distance["x"].least - 1
    assert not np.array_equal(host.run(0, {"x": codes[0]}, "x", too_close), expected[0])


@pytest.mark.parametrize(("algorithm", "taps"), list(LINES))
def test_outputs_over_their_inputs_along_a_line(algorithm: Algorithm, taps: int, tmp_path: Path) -> None:
    rng = default_rng(2)
    x, y = tensor("x", (1, 45, 4), 8, rng), tensor("y", (1, 45, 7), 8, rng)
    op = conv_op(rng, x, y, (1, taps), (1, 1), (0, taps // 2) * 2, 1, 8)  # type: ignore[arg-type]
    op = replace(op, low=-128, high=127, bias=np.zeros(7, np.int32), ratios=np.full(7, 5e-4, np.float32))
    p = program([op], [x, y])
    (step,) = op.steps(p, {"conv": Schedule(2, 2, 1, algorithm)})
    assert step.spec.transformed
    host, codes = Host([(p, step)], tmp_path), random_codes(x, 2, rng)[1:]
    expected = oracle.conv(p, op, codes)
    for distance in allowed(step, x, y, rng):
        np.testing.assert_array_equal(host.run(0, {"x": codes[0]}, "x", distance), expected[0], f"{distance}")
    too_close = step.distance["x"].least - 1
    assert not np.array_equal(host.run(0, {"x": codes[0]}, "x", too_close), expected[0])


@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((1, 4), (1, 4)), ((3, 3), (3, 3)), ((2, 1), (4, 2))])
@pytest.mark.parametrize("algorithm", ALGORITHMS[:2])
def test_pooled_outputs_over_their_inputs(
    algorithm: Algorithm, kernel: tuple[int, int], stride: tuple[int, int], tmp_path: Path
) -> None:
    rng = default_rng(1)
    x, y = tensor("x", (15, 9, 4), 8, rng), tensor("y", (15, 9, 24), 8, rng)
    op = conv_op(rng, x, y, (3, 3), (1, 1), (1,) * 4, 1, 8)
    op = replace(op, low=-128, high=127, bias=np.zeros(24, np.int32), ratios=np.full(24, 5e-4, np.float32))
    p = _with_pool(program([op], [x, y]), kernel, stride)
    (step,) = p.ops[0].steps(p, {"conv": Schedule(2, 2, 1, algorithm)})
    assert step.spec.transformed
    host, codes = Host([(p, step)], tmp_path), random_codes(x, 2, rng)[1:]
    expected = execute(p, codes)
    for distance in allowed(step, x, p.tensors["y"], rng):
        np.testing.assert_array_equal(host.run(0, {"x": codes[0]}, "x", distance), expected[0], f"{distance}")
    too_close = step.distance["x"].least - 1
    if too_close > 0:
        assert not np.array_equal(host.run(0, {"x": codes[0]}, "x", too_close), expected[0])


@pytest.mark.parametrize("algorithm", ["f2", "f4"])
def test_a_wrong_constant_is_caught(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    transform = TRANSFORMS[algorithm]
    rows = transform.rows.copy()
    rows[1, 1] += 1
    monkeypatch.setitem(winograd.TRANSFORMS, algorithm, replace(transform, rows=rows))
    p, _ = _many(4)
    with pytest.raises(AssertionError):
        check([p], on_host([(p, Schedule(2, 2, 1, algorithm))], tmp_path_factory.mktemp("host")))


def test_weights_that_may_go_too_far_are_left_to_the_direct_form() -> None:
    rng = default_rng(0)
    x, y = replace(tensor("x", (4, 4, 160), 8, rng), zero=-128), tensor("y", (4, 4, 2), 8, rng)
    op = conv_op(rng, x, y, (3, 3), (1, 1), (1,) * 4, 1, 8)
    op = replace(op, weights=np.full_like(op.weights, 127))
    for algorithm, fits in (("f2", True), ("f4", False)):
        (step,) = op.steps(program([op], [x, y]), {"conv": Schedule(2, 2, 1, algorithm)})  # type: ignore[arg-type]
        assert isinstance(step.spec, ConvSpec)
        assert (step.spec.tuned is not None) == fits
