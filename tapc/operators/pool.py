"""Max and average pooling."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import onnx

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Multipliers, Ratios, arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register, rule
from tapc.ir.bands import RowWindow
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering, attributes
from tapc.ir.overlap import Overlap, window_distance
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.pool import PoolSpec
from tapc.kernels.schedule import Schedule
from tapc.kernels.window import Window
from tapc.operators.common import (
    check_ratios,
    clamp,
    encoded,
    highest,
    keep_alike,
    largest_code,
    monotone,
    torch_pads,
    windows,
)


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """Max or average pooling; `ratios[n - 1]` scales a sum over n taps; `whole` where there is one window."""

    op: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    include_pad: bool
    ratios: Ratios
    low: int
    high: int
    whole: bool = False
    dilation: tuple[int, int] = (1, 1)

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratios, mode)

    def divides(self, program: Program) -> bool:
        """Whether codes are averaged as they are, without factors."""
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        own = arithmetic_of(program.mode).averages and not (self.whole or self.include_pad)
        return self.op == "average" and own and x.quantization == y.quantization

    def multipliers(self, mode: Mode) -> Multipliers:
        """Return what scales sums, `[n - 1]` those over n taps."""
        return (arithmetic.mean_multipliers if self.whole else arithmetic.multipliers)(self.ratios, mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        source, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        if self.op == "max":
            return highest(x[0], self.kernel, self.stride, self.pads, self.low, self.high, self.dilation)
        divided = self.divides(program)
        centred = x[0] if divided else x[0] - source.zero
        acc = windows(centred, self.kernel, self.stride, self.pads, 0, self.dilation).sum(axis=(-2, -1))
        border = 1 if self.include_pad else 0
        counts = _taps(source.shape[:2], self.kernel, self.stride, self.pads, border, self.dilation)
        if divided:
            return np.clip(arithmetic_of(program.mode).average(acc, counts), self.low, self.high)
        return arithmetic.requantize(acc, self.multipliers(program.mode)[counts - 1], y.zero, self.low, self.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        keep_alike(self, kept)

    def row_windows(self, program: Program) -> tuple[RowWindow, ...] | None:
        size = (self.kernel[0] - 1) * self.dilation[0] + 1
        return None if self.whole else (RowWindow(size, self.stride[0], self.pads[0]),)

    def banded(self, inputs: tuple[str, ...], output: str, rows: int, pads: tuple[int, int]) -> Self:
        return replace(self, inputs=inputs, output=output, pads=(pads[0], self.pads[1], pads[1], self.pads[3]))

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        window = Window(*self.kernel, *self.stride, *self.pads[:2], *self.dilation)
        divided = self.divides(program)
        spec = PoolSpec(x.plane, y.plane, window, self.op, self.include_pad, program.mode, divided)
        constants = {}
        if self.op == "average" and not divided:
            counts = _taps(x.shape[:2], self.kernel, self.stride, self.pads, int(self.include_pad), self.dilation)
            own = arithmetic_of(program.mode).quick(
                self.multipliers(program.mode)[np.unique(counts) - 1], np.array(largest_code(x) * window.taps)
            )
            # Means are shifted to both sides by ratios of more than a half alone: not worth a form of its own.
            spec = replace(spec, quick=own if own == "_right" else "")
            constants["s"] = encoded(lambda: self.multipliers(program.mode)[-spec.counts :], spec.counts, program.mode)
        distance = {self.inputs[0]: Overlap(window_distance(spec.x, spec.y, window, 1, buffered=False))}
        scalars = {"pad": 0 if divided else x.zero, **clamp(y, self.low, self.high)}
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars, distance)]


@write.register
def _write(op: Pool, file: TfliteFile) -> None:
    x, y = file.program.tensors[op.inputs[0]], file.program.tensors[op.output]
    if op.whole:
        clamp = file.clamped(op.output, op.low, op.high, fused=False)
        axes = [n for n, size in enumerate(op.kernel, 1) if size > 1]
        if axes:
            operands = [file.tensor(op.inputs[0]), file.constant(np.array(axes, np.int32))]
            file.node("MEAN", operands, clamp.output, "ReducerOptions", 2, keepDims=True)
        else:
            file.node("QUANTIZE", [file.tensor(op.inputs[0])], clamp.output, "QuantizeOptions", 2)
        file.finish(clamp)
        return
    clamp = file.clamped(op.output, op.low, op.high)
    window = {"strideH": op.stride[0], "strideW": op.stride[1], "fusedActivationFunction": clamp.activation}
    size = {"filterHeight": op.kernel[0], "filterWidth": op.kernel[1]}
    if op.op == "max" or op.divides(file.program):
        lowest = x.low if op.op == "max" else None
        read = file.window(op.inputs[0], op.kernel, op.stride, op.pads, pad=lowest) if op.dilation == (1, 1) else None
        if read is None:
            raise UnsupportedError(f"operator {op.name!r}: TFLite has no such padding or dilation of a pooling")
        kind = f"{op.op.upper()}_POOL_2D"
        file.node(kind, [read[0]], clamp.output, "Pool2DOptions", 2, padding=read[1], **size, **window)
    else:
        # Means at another scale: a depthwise convolution with ones.
        counts = _taps(x.shape[:2], op.kernel, op.stride, op.pads, int(op.include_pad), op.dilation)
        read = file.window(op.inputs[0], op.kernel, op.stride, op.pads, op.dilation, pad=x.zero)
        if read is None or len(np.unique(counts)) > 1:
            raise UnsupportedError(
                f"operator {op.name!r}: TFLite has no mean at another scale of windows that reach over the border"
            )
        ratio = op.ratios[counts.flat[0] - 1]
        share = np.full(x.shape[2], ratio * y.scale / x.scale, np.float32)
        assert np.all(arithmetic_of(file.program.mode).ratios((x.scale, share), y.scale) == ratio), op.name
        ones = file.constant(np.ones((1, *op.kernel, x.shape[2]), np.int8), share, 3)
        bias = file.constant(np.zeros(x.shape[2], np.int32), np.float32(x.scale) * share)
        dilations = {"dilationHFactor": op.dilation[0], "dilationWFactor": op.dilation[1], "depthMultiplier": 1}
        table = "DepthwiseConv2DOptions"
        options = {"padding": read[1], **dilations, **window}
        file.node("DEPTHWISE_CONV_2D", [read[0], ones, bias], clamp.output, table, 3, **options)
    file.finish(clamp)


@functools.lru_cache(maxsize=256)
def _taps(
    extents: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    border: int,
    dilation: tuple[int, int],
) -> Ints:
    """Return how many values each window sums, shape (1, OH, OW, 1); one outside the map counts `border`."""
    found: Ints = windows(np.ones((1, *extents, 1), np.int64), kernel, stride, pads, border, dilation).sum(
        axis=(-2, -1)
    )
    found.flags.writeable = False
    return found


def _pool(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, a = lowering.source(node), attributes(node)
    kind = node.op_type
    if kind == "GlobalAveragePool":
        a = {"kernel_shape": x.shape[:2]}
    kernel = tuple(a["kernel_shape"])
    counts = np.arange(1, kernel[0] * kernel[1] + 1, dtype=np.float32)
    whole = rule(node).global_pool

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        return Pool(
            node.name, (lowering.graph.quantized(node.input[0]),), key,
            "max" if kind == "MaxPool" else "average", kernel, tuple(a.get("strides", (1, 1))),
            tuple(a.get("pads", (0, 0, 0, 0))), bool(a.get("count_include_pad", 0)),
            arithmetic_of(lowering.mode).mean_ratios(x.scale, y.scale, counts), low, high, whole,
            tuple(a.get("dilations", (1, 1))),
        )  # fmt: skip

    lowering.add(node, make)


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    """Refuse windows that lie beside the image, or between whose elements it lies."""
    kernel, given = attribute(node, "kernel_shape", ()), attribute(node, "pads", (0, 0, 0, 0))
    strides, dilations = (attribute(node, name, (1, 1)) for name in ("strides", "dilations"))
    before, after = graph.shape(node.input[0])[2:], graph.shape(node.output[0])[2:]
    for axis, size in enumerate(kernel):
        first = np.arange(after[axis]) * strides[axis] - given[axis]
        if not _meets(first, size, dilations[axis], before[axis]):
            raise UnsupportedError(
                f"node {node.name!r}: pads {list(given)} leave windows of {list(kernel)} without an element"
            )


def _meets(first: Ints, size: int, distance: int, extent: int) -> bool:
    """Whether each of the windows that begin there has an element of the image."""
    places = first[:, None] + np.arange(size) * distance
    return bool(((places >= 0) & (places < extent)).any(axis=1).all())


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    return operands[0].with_zero() if any(attribute(node, "pads", ())) else operands[0]


def _torch_max(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch
    from torch.nn import functional

    kernel, stride = attribute(node, "kernel_shape", None), attribute(node, "strides", (1, 1))
    pads, dilation = torch_pads(node), attribute(node, "dilations", (1, 1))

    def step(operands: list[Any]) -> Any:
        # torch refuses pads beyond half a window, so the border is made here.
        x = functional.pad(operands[0], pads, value=-torch.inf) if any(pads) else operands[0]
        return functional.max_pool2d(x, tuple(kernel), tuple(stride), dilation=tuple(dilation))

    return step


def _torch_average(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch
    from torch.nn import functional

    kernel, stride = attribute(node, "kernel_shape", None), attribute(node, "strides", (1, 1))
    pads, border_counts = torch_pads(node), bool(attribute(node, "count_include_pad", 0))
    dilation = tuple(attribute(node, "dilations", (1, 1)))

    def pool(x: Any) -> Any:
        x = functional.pad(x, pads)
        if dilation == (1, 1):
            return functional.avg_pool2d(x, tuple(kernel), tuple(stride))
        means = x.new_full((x.shape[1], 1, *kernel), 1 / (kernel[0] * kernel[1]))
        return functional.conv2d(x, means, None, tuple(stride), 0, dilation, x.shape[1])

    def step(operands: list[Any]) -> Any:
        x = operands[0]
        return pool(x) if border_counts or not any(pads) else pool(x) / pool(torch.ones_like(x[:1, :1]))

    return step


def _torch_global(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    return lambda operands: operands[0].mean((2, 3), keepdim=True)


@samples("network", 0.12)
@samples("pooling", 1.0)
def _sample(s: Sampler) -> None:
    side, size, pad = s.pick(4, 8, 9), s.pick(2, 3, 4, 8), s.pick(0, 0, 1)
    if side + 2 * pad < size:
        return
    x = s.tensor((side, side, s.pick(1, 3, 8, 16, 64)), s.bits())
    extent = (side + 2 * pad - size) // 2 + 1
    alike = {"scale": x.scale, "zero": x.zero} if s.rng.random() < 0.3 else {}
    y = s.tensor((extent, extent, x.shape[2]), x.bits if alike else s.bits(), **alike)
    kind: Literal["max", "average"] = "max" if s.rng.random() < 0.5 else "average"
    ratios = (s.rng.uniform(0.2, 1.2) / np.arange(1, size * size + 1)).astype(np.float32)
    s.add(Pool(s.name, (x.name,), y.name, kind, (size, size), (2, 2), (pad,) * 4, False, ratios, y.low, y.high))


def _example(e: Example, op: str) -> str:
    channels, *extents = e.shape()
    if op == "GlobalAveragePool":
        return e.node(op, e.map(channels, *extents))
    kernel, strides, dilations = (
        [e.pick(*own) for _ in extents] for own in ((1, 2, 3, 4), (1, 1, 2, 3), (1, 1, 1, 2, 3))
    )
    pads = [e.pick(0, 0, *range(size)) for size in (*kernel, *kernel)]
    for axis, size in enumerate(kernel):
        reach, added = (size - 1) * dilations[axis] + 1, sum(pads[axis::2])
        extents[axis] = max(extents[axis], reach - added)
        count = (extents[axis] + added - reach) // strides[axis] + 1
        if not _meets(np.arange(count) * strides[axis] - pads[axis], size, dilations[axis], extents[axis]):
            extents[axis] += reach
    given = {} if op == "MaxPool" else {"count_include_pad": e.pick(0, 1)}
    if max(dilations) > 1:
        given["dilations"] = dilations
    return e.node(op, e.map(channels, *extents), kernel_shape=kernel, strides=strides, pads=pads, **given)


_AVERAGE = Rule(
    _pool,
    _torch_average,
    _reach,
    scales=True,
    keeps_sign=True,
    any_size=True,
    wide=True,
    pools="average",
    check=_check,
    example=_example,
)
register(replace(_AVERAGE, torch=_torch_max, repeats=True, pools="max"), "MaxPool")
register(_AVERAGE, "AveragePool")
register(replace(_AVERAGE, torch=_torch_global, global_pool=True), "GlobalAveragePool")
