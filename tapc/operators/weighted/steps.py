"""The kernel calls of a layer: its specification, constants, and where its output may lie."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import arithmetic_of, smm
from tapc.ir.overlap import Overlap, window_distance
from tapc.ir.program import Constant, Program, Step, Tensor
from tapc.kernels.conv import ConvSpec
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.layout import LINEAR
from tapc.kernels.packing import weights_per_word
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import SPELLED, Schedule, transformed
from tapc.kernels.window import Window
from tapc.kernels.winograd import transform_of
from tapc.operators.common import Requantization, clamp, requantization, sums
from tapc.operators.weighted.layer import MaxPool, Weighted
from tapc.operators.weighted.widths import fits_shifted, possible, proved_run, proved_taps

_WINDOWS = 4
"""Rows of windows whose lines a transform computes at once, at most."""


def _constants(
    op: Weighted, program: Program, spec: ConvSpec | DepthwiseSpec, own: Requantization, shift: int = 0
) -> dict[str, Constant]:
    """Return weights, biases and factors for accumulators that are 2^shift times too large."""
    zero = program.tensors[op.inputs[0]].zero

    def bias() -> NDArray[Any]:
        sums = op.weights.reshape(len(op.bias), -1).astype(np.int64).sum(axis=1)
        lacking = spec.form.lacking(op.weights) if isinstance(spec, ConvSpec) else 0
        # Only the final sum must fit 32 bits: the accumulator may wrap around on its way there.
        folded: NDArray[Any] = (op.bias - zero * sums + lacking) << shift
        return folded.astype(np.int32)

    return {
        "w": Constant("w", spec.weight_words, lambda: spec.pack(op.weights)),
        "bias": Constant("b", len(op.bias), bias),
        "s": own.factors,
    }


def _requantization(op: Weighted, program: Program, y: Tensor, shift: int = 0) -> Requantization:
    """Return how accumulators that are 2^shift times too large become codes of y."""
    largest = _largest(op, program.tensors[op.inputs[0]])
    return requantization(program, op.ratios, largest, y.zero, (op.low, op.high), shift)


def _largest(op: Weighted, x: Tensor) -> NDArray[np.int64]:
    """Return the greatest magnitude of each channel's accumulators."""
    weights = np.abs(op.weights.reshape(len(op.bias), -1).astype(np.int64)).sum(axis=1)
    largest: NDArray[np.int64] = weights * max(x.high - x.zero, x.zero - x.low) + np.abs(op.bias.astype(np.int64))
    return largest


def easier_scales(op: Weighted, program: Program, scales: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return weight scales at which two instructions requantize, where these are none and the kernel has them."""
    if not (smm.available(program.mode, program.isa) and len(scales) == len(op.bias)):
        return None
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    spares = _shifts(op, program) if op.depthwise(x.shape[2]) else _spares(op, program)

    def ratios(of_weights: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(arithmetic_of(program.mode).ratios((x.scale, of_weights), y.scale), np.float32)

    return smm.moved(ratios, scales, y.zero, op.low, op.high, _largest(op, x), spares)


def _shifts(op: Weighted, program: Program) -> tuple[int, ...]:
    """Return by which powers of two a depthwise layer's sums may be larger: its weights still fit 16 bits."""
    return tuple(power for power in (0, 8) if not power or fits_shifted(op, program.tensors[op.inputs[0]], power))


def _spares(op: Weighted, program: Program) -> tuple[int, ...]:
    """Return by which powers of two the ways to compute a layer multiply its sums, the most usual first."""
    plain = dense(op, program, None).spec
    if not isinstance(plain, ConvSpec | PooledSpec):
        return (0,)
    others = [plain.form.nested(SPELLED, single=True), *(transformed(name, single=True) for name in ("f4", "f2"))]
    specs = [plain, *(dense(op, program, schedule).spec for schedule in others if schedule is not None)]
    return tuple(dict.fromkeys(spec.form.shift for spec in specs if isinstance(spec, ConvSpec | PooledSpec)))


def _window(op: Weighted) -> Window:
    _, height, width, _ = op.weights.shape
    # Along a side of one tap there is no distance: equal kernels have equal specifications.
    dilation = (distance if size > 1 else 1 for size, distance in zip((height, width), op.dilation, strict=True))
    return Window(height, width, *op.stride, *op.pads[:2], *dilation)


def depthwise(op: Weighted, program: Program) -> Step:
    """Return the call of a layer whose outputs read one channel each."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    window = _window(op)
    clamped = op.low > y.low or op.high < y.high
    own, shift = _requantization(op, program, y), 0
    if smm.available(program.mode, program.isa):
        # Of large ratios two instructions make codes if the sums are larger, too.
        tried = ((power, _requantization(op, program, y, power)) for power in _shifts(op, program))
        shift, own = next(((power, found) for power, found in tried if smm.shift_of(found.quick)), (0, own))
    spec = DepthwiseSpec(x.plane, y.plane, window, op.w_bits, program.mode, program.isa, clamped, own.quick, 1, shift)
    spec = replace(spec, run=proved_taps(op, x, spec.form.run_bits))
    distance = {}
    if spec.form.in_place and spec.x.row == spec.y.row and spec.multiplier == 1:
        distance[op.inputs[0]] = Overlap(0, spec.x.row)  # channel by channel, each in its own bytes
    scalars = {"pad": x.zero, **clamp(y, op.low, op.high), "zero": own.zero}
    constants = _constants(op, program, spec, own, shift)
    return Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, scalars, distance)


def dense(op: Weighted, program: Program, schedule: Schedule | None) -> Step:
    """Convolution over all channels of a group, with the addition that is fused into it."""
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    if op.pool is not None:
        y = op.pool.middle
    middle = y if op.residual is None else op.residual.middle
    spec = ConvSpec(
        x.plane,
        y.plane,
        _window(op),
        op.groups,
        op.w_bits,
        program.mode,
        program.isa,
        # Kernels saturate to y's codes, which are not those of a summand of other bits.
        clamped=op.low > middle.low or op.high < middle.high or middle.bits != y.bits,
        lines=0 if op.pool is None else op.pool.kernel[0],
    )
    if schedule is not None:
        wanted = _tiled(op, replace(spec, tuned=schedule))
        spec = wanted if possible(op, x, wanted, schedule) else spec
    spec = replace(spec, w_bits=spec.form.stored_bits)
    spec = replace(spec, run=proved_run(op, x, weights_per_word(spec.w_bits), spec.form.runs))
    own = _requantization(op, program, middle, spec.form.shift)
    spec = replace(spec, quick=own.quick)
    if op.pool is not None:
        return _pooled(op, op.pool, program, spec, own)
    distance: dict[str, Overlap] = {}
    if op.groups == 1:
        least = window_distance(spec.x, spec.y, spec.window, spec.form.together, buffered=spec.form.buffered)
        distance[op.inputs[0]] = Overlap(least)
    tensors = {"x": op.inputs[0], "y": op.output}
    scalars = {"pad": x.zero, **clamp(middle, op.low, op.high), "zero": own.zero}
    if op.residual is not None:
        other, residual = program.tensors[op.inputs[1]], op.residual
        tensors["r"] = op.inputs[1]
        operands = (other, middle) if residual.swapped else (middle, other)
        form, summands = sums(program, *operands, y, residual.low, residual.high)
        swapped = residual.swapped
        if swapped and form == LINEAR:  # integers add in any order
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
            ahead = (spec.form.together - 1) * spec.y.row
            distance[op.inputs[1]] = Overlap(max(0, least), apart=ahead)
        else:
            distance.pop(op.inputs[1], None)
    return Step(op, spec, tensors, _constants(op, program, spec, own, spec.form.shift), scalars, distance)


def _tiled(op: Weighted, spec: ConvSpec) -> ConvSpec:
    """Return a transform with a max-pooling behind it.

    It pools in its tiles where windows side by side fill these; else it computes the lines of some rows of windows, of
    as many as leave the fewest rows of tiles.
    """
    if op.pool is None or spec.tuned is None or not spec.transformed:
        return spec
    transform = transform_of(spec.tuned.algorithm, spec.window.height, spec.window.width)
    if transform is None:
        return spec
    (down, across), size = op.pool.kernel, transform.size
    if op.pool.kernel == op.pool.stride and transform.height % down == size % across == 0:
        y = replace(spec.y, height=spec.y.height // down * down, width=spec.y.width // across * across)
        return replace(spec, y=y, lines=0, pool=op.pool.kernel)
    stride = op.pool.stride[0]
    windows = (spec.y.height - down) // stride + 1

    def tiles(rows: int) -> int:
        return -(-windows // rows) * -(-((rows - 1) * stride + down) // size)

    rows = min(range(1, min(windows, _WINDOWS) + 1), key=tiles)
    return replace(spec, lines=(rows - 1) * stride + down)


def _pooled_in_tiles(op: Weighted, pool: MaxPool, program: Program, spec: ConvSpec, own: Requantization) -> Step:
    """Transform that stores the greatest results alone: codes never fall with the sums."""
    x, middle = program.tensors[op.inputs[0]], pool.middle
    window, together = spec.window.behind(pool.kernel, pool.stride), spec.form.together
    least = window_distance(spec.x, spec.stored, window, together, buffered=spec.form.buffered)
    low, high = (min(max(end, pool.low), pool.high) for end in (op.low, op.high))
    spec = replace(spec, clamped=low > middle.low or high < middle.high)
    scalars = {"pad": x.zero, **clamp(middle, low, high), "zero": own.zero}
    constants = _constants(op, program, spec, own, spec.form.shift)
    return Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, scalars, {op.inputs[0]: Overlap(least)})


def _pooled(op: Weighted, pool: MaxPool, program: Program, conv: ConvSpec, own: Requantization) -> Step:
    """Convolution with the max-pooling behind it."""
    if conv.pooled:
        return _pooled_in_tiles(op, pool, program, conv, own)
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    spec = PooledSpec(conv, y.plane, *pool.kernel, *pool.stride)
    # All that the lines of a row of windows, or some rows, need is read before they are written.
    least = window_distance(spec.x, spec.y, spec.window, spec.rows * spec.y.width, buffered=True)
    scalars = {"pad": x.zero, **clamp(pool.middle, op.low, op.high), "zero": own.zero}
    scalars |= {"pool_low": pool.low, "pool_high": pool.high}
    constants = _constants(op, program, conv, own, conv.form.shift)
    return Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, scalars, {op.inputs[0]: Overlap(least)})
