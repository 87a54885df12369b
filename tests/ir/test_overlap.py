"""Every rule on how an output may overlap its inputs, against the kernels themselves: no distance changes a code."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from kernels.overlapped import Host, allowed
from kernels.programs import conv_op, program, tensor
from tapc.base.arithmetic import softmax_table
from tapc.base.isa import Isa
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.kernels.schedule import Schedule
from tapc.lower.steps import steps_of
from tapc.operators.add import Add, AddConstant
from tapc.operators.attention import Attention, Scores
from tapc.operators.binary import Binary
from tapc.operators.layer_norm import LayerNorm
from tapc.operators.lookup import Lookup
from tapc.operators.pool import Pool
from tapc.operators.requantize import Requantize
from tapc.operators.weighted import Conv, MaxPool, Residual

BATCH = 10  # programs that are compiled together


def check(programs: Sequence[Program], schedules: Sequence[dict[str, Schedule]] = ()) -> int:
    """Run every step at all distances that its rules allow; return how many there were."""
    cases = [
        (p, step)
        for p, chosen in zip(programs, schedules or [{}] * len(programs), strict=True)
        for step in steps_of(p, chosen)
        if step.distance
    ]
    tried = 0
    with tempfile.TemporaryDirectory() as folder:
        host = Host(cases, Path(folder))
        for i, (p, step) in enumerate(cases):
            rng = np.random.default_rng(i)
            inputs = {name: p.tensors[name] for name in step.inputs}
            codes = {name: rng.integers(t.low, t.high + 1, t.shape) for name, t in inputs.items()}
            expected = host.run(i, codes)
            for name in step.distance:
                for distance in allowed(step, p.tensors[name], p.tensors[step.output], rng):
                    got = host.run(i, codes, name, distance)
                    assert np.array_equal(got, expected), (step.spec, name, distance, step.distance[name])
                    tried += 1
    return tried


@pytest.mark.parametrize("isa", get_args(Isa))
@pytest.mark.parametrize("kind", ["plain", "residual", "pooled"])
def test_convolutions(isa: str, kind: str) -> None:
    rng = np.random.default_rng(["plain", "residual", "pooled"].index(kind))
    change = {"plain": lambda p, _: p, "residual": with_residual, "pooled": with_pooling}[kind]
    programs = [change(random_conv(rng, isa), rng) for _ in range(BATCH)]
    assert check(programs, [tuned(p, rng) for p in programs]) > 60


@pytest.mark.parametrize("isa", get_args(Isa))
@pytest.mark.parametrize("bits", [4, 8])
def test_whole_vectors_with_a_residual(isa: str, bits: int) -> None:
    """Layers as networks have them: more channels than a tile, odd numbers of pixels, 1x1 layers that copy nothing."""
    rng = np.random.default_rng(bits)
    programs: list[Program] = []
    for kernel, channels, pixels in [(1, 16, (3, 3)), (3, 12, (3, 5)), (1, 32, (2, 3))]:
        x, r = tensor("x", (*pixels, channels), 8, rng), tensor("r", (*pixels, channels), bits, rng)
        middle, y = tensor("y", r.shape, bits, rng), tensor("y", r.shape, bits, rng)
        op = conv_op(rng, x, middle, (kernel, kernel), (1, 1), (kernel // 2,) * 4, 1, 8)
        for residual in (r, x) if bits == 8 else (r,):
            fused = Residual("add", middle, y.low, y.high, bool(rng.integers(2)))
            programs.append(
                program([replace(op, inputs=("x", residual.name), residual=fused)], [x, r, y], "float", isa)
            )
    assert check(programs) > 100
    assert check(programs, [{"conv": widest(p)} for p in programs]) > 100


def widest(p: Program) -> Schedule:
    """Return the schedule with most pixels a tile."""
    (step,) = steps_of(p)
    return max(step.spec.form.candidates(), key=lambda s: (s.pixels, s.rows))  # type: ignore[attr-defined]


def random_conv(rng: np.random.Generator, isa: str) -> Program:
    """Make a convolution of any shape, one with a border or stride as often as not."""

    def one(*values: int) -> int:
        return int(rng.choice(values))

    height, width, groups = one(1, 3, 4, 5), one(2, 4, 5), one(*[1] * 7, 2)
    kernel, stride = (one(1, 2, 3), one(1, 2, 3)), (one(1, 1, 2), one(1, 1, 2))
    pads = tuple(min(one(0, 1), size - 1) for size in kernel * 2)
    kernel = (min(kernel[0], height), kernel[1])
    dilation = (one(1, 1, 2), one(1, 1, 2))
    rows = (height + pads[0] + pads[2] - (kernel[0] - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (width + pads[1] + pads[3] - (kernel[1] - 1) * dilation[1] - 1) // stride[1] + 1
    if min(rows, columns) < 1:
        return random_conv(rng, isa)
    x = tensor("x", (height, width, groups * one(1, 3, 4, 8, 16)), one(4, 8), rng)
    y = tensor("y", (rows, columns, groups * one(1, 2, 5, 8, 9)), one(4, 8), rng)
    op = conv_op(rng, x, y, kernel, stride, pads, groups, one(2, 4, 8), dilation=dilation)  # type: ignore[arg-type]
    return program([op], [x, y], "float" if rng.random() < 0.6 else "fixed", isa)


def tuned(p: Program, rng: np.random.Generator) -> dict[str, Schedule]:
    """Choose a schedule for a convolution that has several, as often as not."""
    step, op = steps_of(p)[0], p.ops[0]
    if rng.random() < 0.5 or not hasattr(step.spec, "with_schedule"):
        return {}
    candidates = step.spec.form.candidates()  # type: ignore[attr-defined]
    return {op.name: candidates[rng.integers(len(candidates))]}


def with_residual(p: Program, rng: np.random.Generator) -> Program:
    """Add another tensor, or the input where it has the shape, to a convolution's result."""
    (op,) = p.ops
    assert isinstance(op, Conv)
    middle, x = p.tensors["y"], p.tensors["x"]
    if op.depthwise(x.shape[2]):
        op = replace(op, groups=1, weights=np.repeat(op.weights, x.shape[2], axis=3))
    r = tensor("r", middle.shape, middle.bits, rng)
    y = tensor("y", middle.shape, int(rng.choice([4, 8])) if rng.random() < 0.3 else r.bits, rng)
    other = "x" if x.shape == y.shape else "r"
    residual = Residual("add", middle, y.low, y.high, bool(rng.integers(2)))
    fused = replace(op, inputs=("x", other), residual=residual)
    return replace(p, ops=(fused,), tensors={"x": x, "r": r, "y": y})


def with_pooling(p: Program, rng: np.random.Generator) -> Program:
    """Let a max-pooling follow whose windows share no line."""
    (op,) = p.ops
    assert isinstance(op, Conv)
    middle = p.tensors["y"]
    if op.groups > 1:
        op = replace(op, groups=1, weights=np.repeat(op.weights, op.groups, axis=3))
    kernel = tuple(int(rng.integers(1, min(size, 3) + 1)) for size in middle.shape[:2])
    stride = (kernel[0] + int(rng.integers(2)), int(rng.integers(1, 3)))
    shape = [(size - k) // s + 1 for size, k, s in zip(middle.shape[:2], kernel, stride, strict=True)]
    y = Tensor("pooled", (shape[0], shape[1], middle.shape[2]), middle.bits, middle.scale, middle.zero)
    pool = MaxPool("pool", middle, (kernel[0], kernel[1]), stride, y.low, y.high)
    return replace(p, ops=(replace(op, output="pooled", pool=pool),), tensors={"x": p.tensors["x"], "pooled": y})


@pytest.mark.parametrize("mode", ["float", "fixed"])
def test_kernels_of_every_other_operator(mode: str) -> None:
    rng = np.random.default_rng(3)
    programs = [*sums(mode, rng), *pools(mode, rng), *tokens(mode, rng)]
    assert {type(step.spec).__name__ for p in programs for step in steps_of(p) if step.distance} == {
        "AddSpec", "AttentionSpec", "BinarySpec", "LayerNormSpec", "LookupSpec", "MoveSpec", "PoolSpec"
    }  # fmt: skip
    assert check(programs) > 300


def sums(mode: str, rng: np.random.Generator) -> list[Program]:
    """Make additions and changes of scale."""
    found: list[Program] = []
    for bits in [(8, 8, 8), (4, 4, 4), (8, 4, 4), (4, 8, 8), (8, 8, 4)]:
        for channels in (1, 5, 16):
            a, b, y = (tensor(n, (3, 4, channels), w, rng) for n, w in zip("aby", bits, strict=True))
            codes = rng.integers(-127, 128, y.shape).astype(np.int8)
            ratio = np.float32(a.scale / y.scale)
            ops: list[Op] = [
                Add("add", ("a", "b"), "y", y.low, y.high),
                AddConstant("constant", ("a",), "y", codes, 0.02, y.low, y.high),
                Requantize("requantize", ("a",), "y", ratio, y.low, y.high),
                *(Binary(kind, ("a", "b"), "y", kind, y.low, y.high) for kind in ("sub", "max")),
            ]
            found += [program([op], [a, b, y], mode) for op in ops]
            one = replace(b, shape=(1, 1, channels))
            found.append(program([Binary("mul", ("a", "b"), "y", "mul", y.low, y.high)], [a, one, y], mode))
    return found


def pools(mode: str, rng: np.random.Generator) -> list[Program]:
    """Make poolings, with and without a border, whose result is wider than the input or narrower."""
    found: list[Program] = []
    for bits in [(8, 8), (4, 4), (8, 4), (4, 8)]:
        for kind in ("max", "average"):
            for kernel, stride, pad in [(2, 2, 0), (3, 1, 1), (3, 2, 1), (1, 1, 0)]:
                size = (6 + 2 * pad - kernel) // stride + 1
                x, y = tensor("x", (6, 6, 3), bits[0], rng), tensor("y", (size, size, 3), bits[1], rng)
                ratios = np.float32(x.scale) / (np.float32(y.scale) * np.arange(1, 10, dtype=np.float32))
                if kind == "max" and x.bits != y.bits:
                    continue
                op = Pool(
                    "pool", ("x",), "y", kind, (kernel,) * 2, (stride,) * 2, (pad,) * 4, False, ratios, y.low, y.high
                )  # fmt: skip
                found.append(program([op], [x, y], mode))
    return found


def tokens(mode: str, rng: np.random.Generator) -> list[Program]:
    """Make what transformers add."""
    found: list[Program] = []
    for pixels, channels in [((1, 5), 8), ((2, 3), 12), ((1, 4), 6)]:
        shape = (*pixels, channels)
        x, y = tensor("x", shape, 8, rng), tensor("y", shape, 8, rng)
        gain, offset = (rng.uniform(5, 40, channels).astype(np.float32) for _ in range(2))
        found.append(program([LayerNorm("norm", ("x",), "y", gain, offset, 1e-5)], [x, y], mode))
        found.append(program([Lookup("gelu", ("x",), "y", rng.integers(-128, 128, 256).astype(np.int8))], [x, y], mode))
        for heads in (1, 2, 3):
            if channels % heads:
                continue
            q, k, v = (tensor(name, shape, 8, rng) for name in "qkv")
            score, weight = tensor("score", shape, 8, rng), Tensor("weight", shape, 8, 1 / 256, -128)
            table = softmax_table(score.scale, pixels[0] * pixels[1])
            scores = Scores(score, weight, np.array([0.002, 0.005], np.float32), table, 256)
            for inputs in [("q", "k", "v"), ("q", "k", "k")]:
                found.append(program([Attention("attend", inputs, "y", heads, scores)], [q, k, v, y], mode))
    return found


def test_a_depthwise_layer_replaces_its_input_by_whole_pixels() -> None:
    rng = np.random.default_rng(5)
    programs = []
    for isa in get_args(Isa):
        for bits in (4, 8):
            for channels in (5, 8):
                x, y = (tensor(name, (5, 4, channels), bits, rng) for name in "xy")
                op = conv_op(rng, x, y, (3, 3), (1, 1), (1, 1, 1, 1), channels, 8)
                programs.append(program([op], [x, y], "float", isa))
    steps: list[Step] = [step for p in programs for step in steps_of(p)]
    assert all(step.distance for step in steps)
    assert check(programs) >= len(programs) * 10
