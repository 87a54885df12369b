"""Convolutions and dense layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints, Mode, arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import CHANNELS, Example
from tapc.graph.reach import Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.bands import RowWindow
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering, attributes
from tapc.ir.program import Op, Program, Step, Tensor
from tapc.kernels.conv import ConvSpec
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec
from tapc.operators.common import check_ratios, torch_pads
from tapc.operators.weighted import bands, pruning, rebits, steps, sums
from tapc.operators.weighted.layer import MaxPool, Residual, Weighted
from tapc.operators.wide import WideDense, wide_filter
from tapc.operators.wide_layers import WideLayer

__all__ = ["Conv", "MaxPool", "Residual"]


@dataclass(frozen=True, eq=False)
class Conv(Weighted):
    """Convolution or dense layer with int32 accumulator."""

    @property
    def weight_bits(self) -> int:
        return self.w_bits

    def kind(self, spec: KernelSpec) -> str:
        if isinstance(spec, DepthwiseSpec):
            return "depthwise"
        assert isinstance(spec, ConvSpec | PooledSpec)
        name = "dense" if isinstance(spec, ConvSpec) and spec.y.pixels == 1 else "conv"
        if spec.transformed and spec.tuned is not None:
            name += f"-{spec.tuned.algorithm}"
        return name + ("+maxpool" if self.pool is not None else "+add" if self.residual is not None else "")

    def macs(self, program: Program) -> int:
        height, width, _ = (program.tensors[self.output] if self.pool is None else self.pool.middle).shape
        return height * width * int(self.weights.size)

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self.ratios, mode)

    def easier_scales(self, program: Program, scales: NDArray[np.float32]) -> NDArray[np.float32] | None:
        return steps.easier_scales(self, program, scales)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        return sums.run(self, program, x)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return sums.bounds(self, program, x[0])

    def cleared(self, program: Program, known: Mapping[str, Bounds]) -> Self:
        return pruning.cleared(self, program, known)

    def keep(self, kept: Kept) -> None:
        pruning.keep(self, self._reads(kept), kept)

    def sliced(self, kept: Kept) -> Self:
        return pruning.sliced(self, self._reads(kept), kept.masks)

    def with_bits(self, program: Program, weights: Mapping[str, int], changed: Callable[[Tensor], Tensor]) -> Self:
        return rebits.with_bits(self, program, weights, changed)

    def row_windows(self, program: Program) -> tuple[RowWindow, ...]:
        return bands.row_windows(self)

    def banded(self, inputs: tuple[str, ...], output: str, rows: int, pads: tuple[int, int]) -> Self:
        return bands.banded(self, inputs, output, rows, pads)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        if self.depthwise(program.tensors[self.inputs[0]].shape[2]):
            return [steps.depthwise(self, program)]
        return [steps.dense(self, program, schedules.get(self.name))]

    def _reads(self, kept: Kept) -> pruning.Reads:
        source = self.inputs[0]
        return kept.once(self.output, lambda: pruning.reads(self, kept.zeros[source], kept.known[source]))


def _conv(lowering: Lowering, node: onnx.NodeProto) -> None:
    x, a = lowering.source(node), attributes(node)
    codes, scales, bits = lowering.graph.dequantized_constant(node.input[1])
    pads, groups = tuple(a.get("pads", (0, 0, 0, 0))), int(a.get("group", 1))
    stride, dilation = (tuple(a.get(name, (1, 1))) for name in ("strides", "dilations"))
    _weighted(lowering, node, x, codes.transpose(0, 2, 3, 1), scales, bits, stride, pads, groups, dilation)


def _gemm(lowering: Lowering, node: onnx.NodeProto) -> None:
    x = lowering.source(node)
    codes, scales, bits = lowering.graph.dequantized_constant(node.input[1])
    _weighted(lowering, node, x, codes[:, None, None, :], scales, bits, (1, 1), (0, 0, 0, 0), 1)


def _weighted(
    lowering: Lowering,
    node: onnx.NodeProto,
    x: Tensor,
    weights: NDArray[np.int64],
    scales: NDArray[np.float32],
    bits: int,
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    groups: int,
    dilation: tuple[int, int] = (1, 1),
) -> None:
    bias = lowering.graph.dequantized_constant(node.input[2])[0]
    bound = np.abs(bias) + np.abs(weights).reshape(len(bias), -1).sum(axis=1) * 255
    if bound.max() >= 2**31 and x.bits != 16:
        channel = int(bound.argmax())
        raise UnsupportedError(
            f"node {node.name!r}, channel {channel}: the accumulator may reach {int(bound.max())}, beyond int32"
        )

    def make(y: Tensor, key: str, low: int, high: int) -> Op:
        ratios = arithmetic_of(lowering.mode).ratios((x.scale, scales), y.scale)
        if node.name in lowering.exact.single:
            ratios = (np.float32(x.scale) * scales / np.float32(y.scale)).astype(ratios.dtype)
        ratios = np.broadcast_to(ratios, bias.shape).copy()
        inputs = (lowering.graph.quantized(node.input[0]),)
        if bits == 16:
            return wide_filter(
                node.name,
                inputs[0],
                x,
                y,
                key,
                weights,
                bias,
                ratios,
                groups,
                (*pads, *np.subtract(stride, 1)),
                low,
                high,
            )
        if x.bits == 8 and y.bits == 16 and weights[0].size == np.prod(x.shape) and y.shape[:2] == (1, 1):
            rows = weights.reshape(len(bias), -1).astype(np.int8)
            return WideDense(node.name, inputs, key, rows, bits, bias.astype(np.int32), ratios, low, high)
        if 16 in (x.bits, y.bits):
            if 4 in (x.bits, y.bits):
                raise UnsupportedError(f"node {node.name!r}: no kernel for 4-bit codes on one side and 16 on the other")
            return WideLayer(
                node.name, inputs, key, weights.astype(np.int8), bits, bias.astype(np.int32), ratios, stride, pads,
                groups, low, high, dilation, node.name not in lowering.exact.short,
            )  # fmt: skip
        return Conv(
            node.name, inputs, key, weights.astype(np.int8), bits, bias.astype(np.int32), ratios,
            stride, pads, groups, low, high, dilation,
        )  # fmt: skip

    lowering.add(node, make)


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    x, weights = operands[0], graph.constants[node.input[1]].astype(np.float64)
    groups = int(attribute(node, "group", 1))
    x = x.with_zero() if any(attribute(node, "pads", ())) else x
    rows = weights.reshape(groups, len(weights) // groups, weights.shape[1], -1)
    least, most = (bound.reshape(groups, 1, -1) for bound in (x.low, x.high))
    rising, falling = np.maximum(rows, 0).sum(axis=3), np.minimum(rows, 0).sum(axis=3)
    bias = graph.constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else 0.0
    ends = [
        (_products(rising, a) + _products(falling, b)).sum(axis=2).reshape(-1) + bias
        for a, b in ((least, most), (most, least))
    ]
    return Reach(*ends)


def _products(weights: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply; a weight of zero takes nothing from what has no bound."""
    with np.errstate(invalid="ignore"):
        product: NDArray[np.float64] = np.where(weights == 0, 0.0, weights * bounds)
    return product


def _torch_conv(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    from torch.nn import functional

    stride, dilation = (tuple(attribute(node, name, (1, 1))) for name in ("strides", "dilations"))
    groups = int(attribute(node, "group", 1))
    left, right, top, bottom = pads = torch_pads(node)
    even = (left, top) == (right, bottom)

    def step(operands: list[Any]) -> Any:
        x, weight, bias = operands
        x = x if even else functional.pad(x, pads)
        return functional.conv2d(x, weight, bias, stride, (top, left) if even else 0, dilation, groups)

    return step


def _torch_gemm(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    from torch.nn import functional

    given = {name: attribute(node, name, default) for name, default in (("transA", 0), ("transB", 0))}
    scales = {name: attribute(node, name, 1.0) for name in ("alpha", "beta")}
    if given != {"transA": 0, "transB": 1} or set(scales.values()) != {1.0}:
        raise UnsupportedError(
            f"node {node.name!r}: a canonical Gemm has transB=1, alpha=beta=1, not {given}, {scales}"
        )
    return lambda operands: functional.linear(*operands)


def _example(e: Example, op: str) -> str:
    channels, *extents = e.shape()
    groups = e.pick(1, 1, channels, *(n for n in range(2, channels) if channels % n == 0))
    per_group, outputs = channels // groups, e.pick(1, 2, 3) if groups > 1 else e.pick(1, 2, 5, 8, 13)
    kernel, dilations = [e.pick(1, 2, 3, 3, 5) for _ in extents], [e.pick(1, 1, 1, 2, 3) for _ in extents]
    reach = [(size - 1) * distance + 1 for size, distance in zip(kernel, dilations, strict=True)]
    pads = [e.pick(0, 0, *range(size)) for size in (*reach, *reach)]
    extents = [max(n, size - sum(pads[axis::2])) for axis, (n, size) in enumerate(zip(extents, reach, strict=True))]
    weights, bias = e.normal((groups * outputs, per_group, *kernel), 0.5), e.normal((groups * outputs,), 0.2)
    weights[:, e.pick(0, per_group - 1)] *= e.pick(0, 1, 1)
    weights[e.pick(0, groups * outputs - 1)] *= e.pick(0, 1, 1)
    y = e.node(
        op, e.map(channels, *extents), e.constant(weights), e.constant(bias), kernel_shape=kernel,
        strides=[e.pick(1, 1, 2, 3) for _ in kernel], pads=pads, group=groups, dilations=dilations,
    )  # fmt: skip
    if e.pick(0, 1, 2):
        return e.activation(y)
    return e.behind(y)


def _example_dense(e: Example, op: str) -> str:
    features, outputs = e.pick(*CHANNELS, 100), e.pick(1, 2, 4, 10, 17)
    parts = e.constant(e.normal((outputs, features), 0.5)), e.constant(e.normal((outputs,), 0.2))
    return e.activation(e.node(op, e.vector(features), *parts, transB=1))


_LAYER = Rule(_conv, _torch_conv, _reach, weighted=True, clamped=True, wide=True, any_size=True, example=_example)
register(_LAYER, "Conv")
register(replace(_LAYER, lower=_gemm, torch=_torch_gemm, example=_example_dense), "Gemm")
