"""Integer program -> steps: which kernel instance runs when, on which tensors, with which constants."""

from collections.abc import Mapping
from dataclasses import replace
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Mode
from tapc.base.normalization import norm_factors
from tapc.kernels.attention import AttentionSpec, LayerNormSpec, LookupSpec
from tapc.kernels.conv import ConvSpec
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.dsp.conv import SHORT, DspConv
from tapc.kernels.elementwise import AddSpec, MoveSpec, SoftmaxSpec
from tapc.kernels.layout import Plane, SumForm
from tapc.kernels.packing import weights_per_word
from tapc.kernels.pool import PoolSpec
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.scalar.conv import ScalarConv
from tapc.kernels.schedule import Schedule
from tapc.kernels.window import Window
from tapc.lower.overlap import Overlap, elementwise_distance, window_distance
from tapc.lower.program import (
    Add,
    AddConstant,
    Attention,
    Concat,
    Conv,
    LayerNorm,
    Lookup,
    MaxPool,
    Op,
    Pad,
    Pool,
    Program,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)
from tapc.lower.step import Constant, Spec, Step
from tapc.lower.widths import packed_run, top_run

__all__ = ["Constant", "Spec", "Step", "plane", "steps_of"]


def steps_of(program: Program, schedules: Mapping[str, Schedule] | None = None) -> tuple[Step, ...]:
    """Select a kernel for every operator; reshapes that move nothing need none.

    Parameters
    ----------
    program : Program
    schedules : mapping of str to Schedule, optional
        Operator -> schedule, in place of the default.
    """
    return tuple(step for op in program.ops for step in _select(op, program, schedules or {}))


def plane(t: Tensor) -> Plane:
    """Return the kernel's view of a tensor."""
    return Plane(*t.shape, t.bits)


def _factors(ratios: NDArray[np.float32], mode: Mode) -> Constant:
    def make() -> NDArray[Any]:
        m = arithmetic.multipliers(ratios, mode)
        if mode == "float":
            return m.factor
        return np.stack([m.factor, m.shift], axis=1).astype(np.int32).ravel()

    return Constant("s", ratios.size * (1 if mode == "float" else 2), make)


def _range(y: Tensor, low: int, high: int) -> dict[str, int | float]:
    return {"zero": y.zero, "low": low, "high": high}


def _sum(
    program: Program, a: Tensor, b: Tensor, y: Tensor, low: int, high: int
) -> tuple[SumForm, dict[str, int | float]]:
    """Return the form of an addition and its scalars: three integer operations where they are exact."""
    f = arithmetic.add_factors(a.quantization, b.quantization, y.quantization, program.mode)
    limits: dict[str, int | float] = {"add_low": low, "add_high": high}
    linear = arithmetic.linear_add(f, (a.low, a.high), (b.low, b.high), y.zero, low, high)
    if linear is not None:
        scalars = {"add_a": linear.factor_a, "add_b": linear.factor_b, "add_offset": linear.offset}
        return "linear", {**scalars, "add_shift": linear.shift, **limits}
    fixed: dict[str, int | float] = {"add_shift": f.shift, "add_zero": y.zero} if f.mode == "fixed" else {}
    return f.mode, {"add_a": f.a, "add_b": f.b, "add_offset": f.offset, **fixed, **limits}


@singledispatch
def _select(op: Op, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
    raise TypeError(f"no kernel for {type(op).__name__}")


@_select.register
def _conv(op: Conv, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
    if op.depthwise(program.tensors[op.inputs[0]].shape[2]):
        return [_depthwise(op, program)]
    return [_dense(op, program, schedules.get(op.name))]


def _constants(op: Conv, program: Program, spec: ConvSpec | DepthwiseSpec, shift: int = 0) -> dict[str, Constant]:
    """Return weights, biases and factors for accumulators that are 2^shift times too large."""
    zero = program.tensors[op.inputs[0]].zero

    def bias() -> NDArray[Any]:
        sums = op.weights.reshape(len(op.bias), -1).astype(np.int64).sum(axis=1)
        # Only the final sum must fit 32 bits: the accumulator may wrap around on its way there.
        folded: NDArray[Any] = (op.bias - zero * sums) << shift
        return folded.astype(np.int32)

    return {
        "w": Constant("w", spec.weight_words, lambda: spec.pack(op.weights)),
        "bias": Constant("b", len(op.bias), bias),
        "s": _factors(op.ratios / np.float32(1 << shift), program.mode),
    }


def _window(op: Conv) -> Window:
    _, height, width, _ = op.weights.shape
    return Window(height, width, *op.stride, *op.pads[:2])


def _depthwise(op: Conv, program: Program) -> Step:
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    window = _window(op)
    clamped = op.low > y.low or op.high < y.high
    spec = DepthwiseSpec(plane(x), plane(y), window, op.w_bits, program.mode, program.isa, clamped)
    distance = {}
    if spec.form.in_place and spec.x.row == spec.y.row and spec.multiplier == 1:
        distance[op.inputs[0]] = Overlap(0, spec.x.row)  # channel by channel, each in its own bytes
    scalars = {"pad": x.zero, **_range(y, op.low, op.high)}
    return Step(op, spec, {"x": op.inputs[0], "y": op.output}, _constants(op, program, spec), scalars, distance)


def _dense(op: Conv, program: Program, schedule: Schedule | None) -> Step:
    """Convolution over all channels of a group, with the addition that is fused into it."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    if op.pool is not None:
        y = op.pool.middle
    middle = y if op.residual is None else op.residual.middle
    bits = 8 if program.isa == "dsp" and op.weights[0].size <= SHORT else op.w_bits
    spec = ConvSpec(
        plane(x),
        plane(y),
        _window(op),
        op.groups,
        bits,
        program.mode,
        program.isa,
        clamped=op.low > middle.low or op.high < middle.high,
        tuned=schedule,
        lines=0 if op.pool is None else op.pool.kernel[0],
    )
    if isinstance(spec.form, DspConv):
        order = spec.form.columns.order()
        spec = replace(spec, run=top_run(op, x, weights_per_word(bits), spec.form.top, order))
    elif isinstance(spec.form, ScalarConv) and spec.pixels > 1:
        spec = replace(spec, run=packed_run(op, x, weights_per_word(bits)))
    if op.pool is not None:
        return _pooled(op, op.pool, program, spec)
    distance: dict[str, Overlap] = {}
    if op.groups == 1:
        pixels, buffered = spec.form.schedule.pixels, spec.form.buffered
        least = window_distance(spec.x, spec.y, spec.window, pixels, buffered=buffered)
        distance[op.inputs[0]] = Overlap(least)
    tensors = {"x": op.inputs[0], "y": op.output}
    scalars = {"pad": x.zero, **_range(middle, op.low, op.high)}
    if op.residual is not None:
        other, residual = program.tensors[op.inputs[1]], op.residual
        tensors["r"] = op.inputs[1]
        operands = (other, middle) if residual.swapped else (middle, other)
        form, summands = _sum(program, *operands, y, residual.low, residual.high)
        swapped = residual.swapped
        if swapped and form == "linear":  # integers add in any order
            swapped = False
            summands |= {"add_a": summands["add_b"], "add_b": summands["add_a"]}
        scalars |= summands
        spec = replace(
            spec,
            residual_bits=other.bits,
            residual_first=swapped,
            sum_form=form,
            sum_clamped=residual.low > y.low or residual.high < y.high,
        )
        # Pixels of a tile advance together, some channels at a time: where the result does not keep step with the
        # residual byte for byte, a tile's last pixel must stay behind what its first still has to read.
        if other.bits == y.bits and op.groups == 1:
            least = distance[op.inputs[1]].least if op.inputs[1] in distance else 0
            ahead = (spec.form.schedule.pixels - 1) * spec.y.row
            distance[op.inputs[1]] = Overlap(max(0, least), apart=ahead)
        else:
            distance.pop(op.inputs[1], None)
    return Step(op, spec, tensors, _constants(op, program, spec, spec.form.shift), scalars, distance)


def _pooled(op: Conv, pool: MaxPool, program: Program, conv: ConvSpec) -> Step:
    """Convolution with the max-pooling behind it."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    spec = PooledSpec(conv, plane(y), *pool.kernel, *pool.stride)
    # All that a line of the output needs is read before the line is written.
    least = window_distance(spec.x, spec.y, spec.window, spec.y.width, buffered=True)
    scalars = {"pad": x.zero, **_range(pool.middle, op.low, op.high), "pool_low": pool.low, "pool_high": pool.high}
    constants = _constants(op, program, conv, conv.form.shift)
    return Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, scalars, {op.inputs[0]: Overlap(least)})


@_select.register
def _pool(op: Pool, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    window = Window(*op.kernel, *op.stride, *op.pads[:2])
    spec = PoolSpec(plane(x), plane(y), window, op.op, op.include_pad, program.mode)
    constants = {}
    if op.op == "average":
        constants["s"] = _factors(op.ratios[-spec.counts :], program.mode)
    distance = {op.inputs[0]: Overlap(window_distance(spec.x, spec.y, window, 1, buffered=False))}
    scalars = {"pad": x.zero, **_range(y, op.low, op.high)}
    return [Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, scalars, distance)]


@_select.register
def _add(op: Add, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    a, b, y = (program.tensors[name] for name in (*op.inputs, op.output))
    form, scalars = _sum(program, a, b, y, op.low, op.high)
    spec = AddSpec(plane(a), plane(b), plane(y), form, op.low > y.low or op.high < y.high)
    distances = {name: elementwise_distance(plane(program.tensors[name]), spec.y) for name in op.inputs}
    distance = {name: Overlap(d) for name, d in distances.items() if d is not None}
    tensors = {"x": op.inputs[0], "r": op.inputs[1], "y": op.output}
    return [Step(op, spec, tensors, {}, scalars, distance)]


def _move(
    program: Program, op: Op, source: str, ratio: np.float32, low: int, high: int, distance: int | None, **where: Any
) -> Step:
    x, y = program.tensors[source], program.tensors[op.output]
    spec = MoveSpec(plane(x), plane(y), program.mode, **where)
    constants = {"s": _factors(np.array([ratio], np.float32), program.mode)}
    scalars = {"pad": x.zero, **_range(y, low, high)}
    overlap = {} if distance is None else {source: Overlap(distance)}
    return Step(op, spec, {"x": source, "y": op.output}, constants, scalars, overlap)


@_select.register
def _requantize(op: Requantize, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    planes = (plane(program.tensors[op.inputs[0]]), plane(program.tensors[op.output]))
    return [_move(program, op, op.inputs[0], op.ratio, op.low, op.high, elementwise_distance(*planes))]


@_select.register
def _concat(op: Concat, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    steps, channel = [], 0
    for name, ratio in zip(op.inputs, op.ratios, strict=True):
        steps.append(_move(program, op, name, ratio, op.low, op.high, None, channel=channel))
        channel += program.tensors[name].shape[2]
    return steps


@_select.register
def _pad(op: Pad, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    y = program.tensors[op.output]
    where = {"row": op.pads[0], "column": op.pads[1], "fill": True}
    return [_move(program, op, op.inputs[0], op.ratio, y.low, y.high, None, **where)]


@_select.register
def _reshape(op: Reshape, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    if not op.moves:
        return []
    y = program.tensors[op.output]
    return [_move(program, op, op.inputs[0], np.float32(1), y.low, y.high, None, order=op.order)]


@_select.register
def _softmax(op: Softmax, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    spec = SoftmaxSpec(plane(x), plane(y), len(op.table), op.levels)
    constants = {"table": Constant("t", len(op.table), lambda: op.table)}
    return [Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, _range(y, y.low, y.high))]


def _bytes(codes: NDArray[np.int8]) -> NDArray[np.uint32]:
    flat = codes.ravel()
    return np.pad(flat, (0, -len(flat) % 4)).view(np.uint32)


@_select.register
def _add_constant(op: AddConstant, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    other = Tensor("", x.shape, 8, op.scale, 0)
    form, scalars = _sum(program, x, other, y, op.low, op.high)
    spec = AddSpec(plane(x), plane(other), plane(y), form, op.low > y.low or op.high < y.high)
    distance = elementwise_distance(spec.a, spec.y)
    overlap = {} if distance is None else {op.inputs[0]: Overlap(distance)}
    constants = {"r": Constant("m", -(-op.codes.size // 4), lambda: _bytes(op.codes))}
    return [Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, scalars, overlap)]


@_select.register
def _layer_norm(op: LayerNorm, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    spec = LayerNormSpec(plane(x), plane(y), program.mode)
    f = norm_factors(op.gain, op.offset, op.epsilon, x.scale, program.mode)
    constants = {
        "s": Constant("s", len(f.gain), lambda: f.gain),
        "bias": Constant("b", len(f.offset), lambda: f.offset),
    }
    scalars = {"epsilon": f.epsilon, "shift": f.shift, **_range(y, y.low, y.high)}
    return [Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, scalars, {op.inputs[0]: Overlap(0)})]


@_select.register
def _lookup(op: Lookup, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    spec = LookupSpec(plane(program.tensors[op.inputs[0]]), plane(program.tensors[op.output]))
    constants = {"table": Constant("t", 64, lambda: _bytes(op.table))}
    return [Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, {}, {op.inputs[0]: Overlap(0)})]


@_select.register
def _attention(op: Attention, program: Program, _schedules: Mapping[str, Schedule]) -> list[Step]:
    q, k, v, y = (program.tensors[name] for name in (*op.inputs, op.output))
    scores = op.scores
    spec = AttentionSpec(plane(q), op.heads, scores.levels, program.mode)
    constants = {
        "s": _factors(scores.ratios, program.mode),
        "table": Constant("t", len(scores.table), lambda: scores.table),
    }
    zeros = {"x_zero": q.zero, "k_zero": k.zero, "v_zero": v.zero, "score_zero": scores.score.zero}
    scalars: dict[str, int | float] = {**zeros, "weight_zero": scores.weight.zero, **_range(y, y.low, y.high)}
    tensors = dict(zip(("x", "k", "v", "y"), (*op.inputs, op.output), strict=True))
    # A query's own bytes are read before its result is written, head by head, so that whole queries must lie between
    # them; keys and values are needed to the end.
    distance = {op.inputs[0]: Overlap(0, spec.x.row)} if op.inputs[0] not in op.inputs[1:] else {}
    return [Step(op, spec, tensors, constants, scalars, distance)]
