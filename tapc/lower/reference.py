"""The reference executor: the integer program in numpy, with exact integers.

The device must equal it bit for bit. Matrix products run in float64, which is exact here: products of 8-bit
operands stay far below 2^53.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints
from tapc.base.normalization import norm_factors, normalize
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
)

Values = dict[str, Ints]


def execute(
    program: Program, inputs: NDArray[Any], *, observe: Callable[[Op, Ints], None] | None = None
) -> NDArray[np.int64]:
    """Run a program.

    Parameters
    ----------
    program : Program
    inputs : ndarray of int, shape (N, H, W, C)
        Codes of the input tensor.
    observe : callable, optional
        Called with each operator and its output codes, shape (N, H, W, C).

    Returns
    -------
    ndarray of int64, shape (N, H, W, C)
        Codes of the output tensor.
    """
    values: Values = {program.input: np.asarray(inputs).astype(np.int64)}
    last = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
    for i, op in enumerate(program.ops):
        values[op.output] = run_op(op, program, [values[name] for name in op.inputs])
        if observe is not None:
            observe(op, values[op.output])
        for name in set(op.inputs):
            if last[name] == i and name != program.output:
                del values[name]
    return values[program.output]


def run_op(op: Op, program: Program, x: list[Ints]) -> Ints:
    """Run one operator.

    Parameters
    ----------
    op : Op
    program : Program
        Holds its tensors.
    x : list of ndarray of int64, shape (N, H, W, C)
        Codes of its inputs.
    """
    return _run(op, program, x)


def windows(x: NDArray[Any], kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, ...], fill: int) -> Any:
    """View all windows of NHWC data as (N, OH, OW, C, KH, KW); outside the image lies `fill`."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]]


def accumulate(x: Ints, weights: NDArray[np.int8], stride: tuple[int, int], pads: tuple[int, ...], groups: int) -> Ints:
    """Sum products of windows of x (zero point already subtracted) and weights (O, KH, KW, I/groups)."""
    outputs, kh, kw, depth = weights.shape
    view = windows(x.astype(np.float64), (kh, kw), stride, pads, 0)
    n, oh, ow = view.shape[:3]
    if depth == 1 and groups == x.shape[3]:
        per_group = outputs // groups
        filters = weights.reshape(groups, per_group, kh, kw).astype(np.float64)
        result = np.einsum("nhwcij,cmij->nhwcm", view, filters, optimize=True)
        acc: Ints = np.rint(result).astype(np.int64).reshape(n, oh, ow, outputs)
        return acc
    view = view.reshape(n, oh, ow, groups, depth, kh, kw)
    filters = weights.reshape(groups, outputs // groups, kh, kw, depth).astype(np.float64)
    parts = []
    for g in range(groups):
        columns = view[:, :, :, g].reshape(n * oh * ow, -1)
        matrix = filters[g].transpose(3, 1, 2, 0).reshape(-1, outputs // groups)
        parts.append((columns @ matrix).reshape(n, oh, ow, -1))
    acc = np.rint(np.concatenate(parts, axis=-1)).astype(np.int64)
    return acc


@singledispatch
def _run(op: Op, program: Program, x: list[Ints]) -> Ints:
    raise TypeError(f"no reference for {type(op).__name__}")


@_run.register
def _conv(op: Conv, program: Program, x: list[Ints]) -> Ints:
    source = program.tensors[op.inputs[0]]
    y = program.tensors[op.output] if op.pool is None else op.pool.middle
    acc = accumulate(x[0] - source.zero, op.weights, op.stride, op.pads, op.groups) + op.bias
    m = arithmetic.multipliers(op.ratios, program.mode)
    if op.residual is None:
        code = arithmetic.requantize(acc, m, y.zero, op.low, op.high)
        return code if op.pool is None else _highest(code, op.pool)
    middle, other = op.residual.middle, program.tensors[op.inputs[1]]
    code = arithmetic.requantize(acc, m, middle.zero, op.low, op.high)
    first, second = (middle, other) if not op.residual.swapped else (other, middle)
    operands = (code, x[1]) if not op.residual.swapped else (x[1], code)
    f = arithmetic.add_factors(first.quantization, second.quantization, y.quantization, program.mode)
    return arithmetic.add(*operands, f, y.zero, op.residual.low, op.residual.high)


def _highest(x: Ints, op: Pool | MaxPool, pads: tuple[int, ...] = (0, 0, 0, 0)) -> Ints:
    view = windows(x, op.kernel, op.stride, pads, -(2**31))
    highest: Ints = np.clip(view.max(axis=(-2, -1)), op.low, op.high)
    return highest


@_run.register
def _pool(op: Pool, program: Program, x: list[Ints]) -> Ints:
    source, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    if op.op == "max":
        return _highest(x[0], op, op.pads)
    acc = windows(x[0] - source.zero, op.kernel, op.stride, op.pads, 0).sum(axis=(-2, -1))
    inside = np.ones((1, *source.shape[:2], 1), np.int64)
    counts = windows(inside, op.kernel, op.stride, op.pads, 1 if op.include_pad else 0).sum(axis=(-2, -1))
    m = arithmetic.multipliers(op.ratios, program.mode)
    chosen = arithmetic.Multipliers(m.mode, m.factor[counts - 1], m.shift[counts - 1])
    return arithmetic.requantize(acc, chosen, y.zero, op.low, op.high)


@_run.register
def _add(op: Add, program: Program, x: list[Ints]) -> Ints:
    a, b, y = (program.tensors[name] for name in (*op.inputs, op.output))
    f = arithmetic.add_factors(a.quantization, b.quantization, y.quantization, program.mode)
    return arithmetic.add(x[0], x[1], f, y.zero, op.low, op.high)


def _rescale(program: Program, codes: Ints, source: str, target: str, ratio: np.float32, low: int, high: int) -> Ints:
    m = arithmetic.multipliers(np.array([ratio], np.float32), program.mode)
    return arithmetic.requantize(codes - program.tensors[source].zero, m, program.tensors[target].zero, low, high)


@_run.register
def _requantize(op: Requantize, program: Program, x: list[Ints]) -> Ints:
    return _rescale(program, x[0], op.inputs[0], op.output, op.ratio, op.low, op.high)


@_run.register
def _concat(op: Concat, program: Program, x: list[Ints]) -> Ints:
    parts = [
        _rescale(program, codes, name, op.output, ratio, op.low, op.high)
        for codes, name, ratio in zip(x, op.inputs, op.ratios, strict=True)
    ]
    return np.concatenate(parts, axis=-1)


@_run.register
def _pad(op: Pad, program: Program, x: list[Ints]) -> Ints:
    y = program.tensors[op.output]
    top, left, bottom, right = op.pads
    codes = _rescale(program, x[0], op.inputs[0], op.output, op.ratio, y.low, y.high)
    return np.pad(codes, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=y.zero)


@_run.register
def _reshape(op: Reshape, program: Program, x: list[Ints]) -> Ints:
    height, width, channels = program.tensors[op.output].shape
    if op.order == "to_nchw":
        return x[0].transpose(0, 3, 1, 2).reshape(len(x[0]), height, width, channels)
    return x[0].reshape(len(x[0]), channels, height, width).transpose(0, 2, 3, 1)


@_run.register
def _softmax(op: Softmax, program: Program, x: list[Ints]) -> Ints:
    y = program.tensors[op.output]
    return arithmetic.softmax(x[0], op.table, op.levels, y.zero, y.low, y.high)


@_run.register
def _add_constant(op: AddConstant, program: Program, x: list[Ints]) -> Ints:
    a, y = (program.tensors[name] for name in (*op.inputs, op.output))
    f = arithmetic.add_factors(a.quantization, (op.scale, 0), y.quantization, program.mode)
    return arithmetic.add(x[0], op.codes.astype(np.int64), f, y.zero, op.low, op.high)


@_run.register
def _layer_norm(op: LayerNorm, program: Program, x: list[Ints]) -> Ints:
    y = program.tensors[op.output]
    f = norm_factors(op.gain, op.offset, op.epsilon, program.tensors[op.inputs[0]].scale, program.mode)
    return normalize(x[0], f, y.zero, y.low, y.high)


@_run.register
def _lookup(op: Lookup, program: Program, x: list[Ints]) -> Ints:
    return op.table.astype(np.int64)[x[0] + 128]


@_run.register
def _attention(op: Attention, program: Program, x: list[Ints]) -> Ints:
    y, scores = program.tensors[op.output], op.scores
    n, height, width, channels = x[0].shape
    split = (n, height * width, op.heads, channels // op.heads)
    q, k, v = (
        (codes - program.tensors[name].zero).reshape(split).astype(np.float64)
        for codes, name in zip(x, op.inputs, strict=True)
    )
    m = arithmetic.multipliers(scores.ratios, program.mode)
    first, second = (arithmetic.Multipliers(m.mode, m.factor[i : i + 1], m.shift[i : i + 1]) for i in (0, 1))
    acc = np.rint(np.einsum("nqhc,nkhc->nhqk", q, k, optimize=True)).astype(np.int64)
    codes = arithmetic.requantize(acc, first, scores.score.zero, scores.score.low, scores.score.high)
    weight = scores.weight
    weights = arithmetic.softmax(codes, scores.table, scores.levels, weight.zero, weight.low, weight.high)
    sums = np.einsum("nhqk,nkhc->nqhc", (weights - weight.zero).astype(np.float64), v, optimize=True)
    acc = np.rint(sums).astype(np.int64).reshape(x[0].shape)
    return arithmetic.requantize(acc, second, y.zero, y.low, y.high)
