"""Linear interpolation of rows and columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import Ints, Mode, Ratios, arithmetic_of
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.example import Example
from tapc.graph.reach import Doubles, Reach
from tapc.graph.rules import Rule, TorchStep, register
from tapc.ir.channels import Bounds, Kept
from tapc.ir.lowering import Lowering, attributes
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.ir.tflite import TfliteFile, write
from tapc.kernels.resize import FRACTION, ResizeSpec
from tapc.kernels.schedule import Schedule
from tapc.operators.common import LARGEST, check_ratios, clamp, factors, keep_alike, monotone, quick

_PLACES = {
    "half_pixel": lambda o, before, after: (o + 0.5) * before / after - 0.5,
    "pytorch_half_pixel": lambda o, before, after: (o + 0.5) * before / after - 0.5 if after > 1 else o * 0.0,
    "align_corners": lambda o, before, after: o * (before - 1) / (after - 1) if after > 1 else o * 0.0,
    "asymmetric": lambda o, before, after: o * before / after,
}
"""coordinate_transformation_mode -> (outputs, extents before and after) -> where outputs lie in the input."""


def places(mode: str, before: int, after: int) -> Doubles:
    """Return where an axis' outputs lie in the input, float64 (after,)."""
    found: Doubles = np.clip(_PLACES[mode](np.arange(after, dtype=np.float64), before, after), 0, before - 1)
    return found


@dataclass(frozen=True, eq=False)
class Axis:
    """Which neighbours an axis' outputs have, and how near they are.

    Attributes
    ----------
    first : ndarray of int64, shape (outputs,)
        The other one follows, if the axis has more than one.
    weight : ndarray of int64, shape (outputs,)
        Of the other one, with `FRACTION` fractional bits.
    """

    first: Ints
    weight: Ints

    @property
    def words(self) -> NDArray[np.int32]:
        """Both in turn, as kernels read them."""
        return np.stack([self.first, self.weight], axis=1).astype(np.int32).ravel()


def axis_of(mode: str, before: int, after: int) -> Axis:
    """Return the neighbours along an axis."""
    place = places(mode, before, after)
    first = np.minimum(np.floor(place), max(before - 2, 0))
    weight = np.rint((place - first) * 2**FRACTION) if before > 1 else np.zeros(after)
    return Axis(first.astype(np.int64), weight.astype(np.int64))


def steps_of(mode: str, before: int, after: int) -> Axis:
    """Return the neighbours as an arithmetic that averages codes finds them: by a step of 10 fractional bits."""
    unit, half = 1 << 10, mode == "half_pixel" or (mode == "pytorch_half_pixel" and after > 1)
    step = (unit * before + after // 2) // after
    if mode == "align_corners" and after > 1:
        step = (unit * (before - 1) + (after - 1) // 2) // (after - 1)
    place = np.arange(after) * step + (step // 2 - unit // 2 if half else 0)
    place = np.clip(place, 0, unit * (before - 1))
    first = np.minimum(place // unit, max(before - 2, 0))
    return Axis(first, (place - first * unit) << (FRACTION - 10))


@dataclass(frozen=True, eq=False)
class Resize(Op):
    """Linear interpolation; `mode` is ONNX's coordinate_transformation_mode."""

    mode: str

    def _averages(self, tensors: Mapping[str, Tensor], mode: Mode) -> bool:
        """Whether codes are averaged as they are."""
        x, y = tensors[self.inputs[0]], tensors[self.output]
        return arithmetic_of(mode).averages and x.quantization == y.quantization

    def _axes(self, program: Program) -> tuple[Axis, Axis]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        found = steps_of if self._averages(program.tensors, program.mode) else axis_of
        rows, columns = (found(self.mode, x.shape[i], y.shape[i]) for i in (0, 1))
        return rows, columns

    def _ratio(self, tensors: Mapping[str, Tensor], mode: Mode) -> Ratios:
        x, y = tensors[self.inputs[0]], tensors[self.output]
        return np.atleast_1d(arithmetic_of(mode).ratios((x.scale, 4.0**-FRACTION), y.scale))

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        check_ratios(self._ratio(tensors, mode), mode)

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        source, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        own_codes = self._averages(program.tensors, program.mode)
        values = x[0] if own_codes else x[0] - source.zero
        for axis, own in enumerate(self._axes(program), 1):
            weight = own.weight.reshape(-1, *[1] * (3 - axis))
            other = np.minimum(own.first + 1, source.shape[axis - 1] - 1)
            values = values.take(own.first, axis) * (2**FRACTION - weight) + values.take(other, axis) * weight
        m = arithmetic.multipliers(self._ratio(program.tensors, program.mode), program.mode)
        return arithmetic.requantize(values, m, 0 if own_codes else y.zero, y.low, y.high)

    def bounds(self, program: Program, x: list[Bounds]) -> Bounds:
        return monotone(self, program, x)

    def keep(self, kept: Kept) -> None:
        keep_alike(self, kept)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        x, y = program.tensors[self.inputs[0]], program.tensors[self.output]
        rows, columns = self._axes(program)
        ratio = self._ratio(program.tensors, program.mode)
        constants = {
            "rows": Constant("t", 2 * len(rows.first), lambda: rows.words),
            "columns": Constant("l", 2 * len(columns.first), lambda: columns.words),
            "s": factors(ratio, program.mode),
        }
        scalars = {"offset": x.zero << 2 * FRACTION, **clamp(y, y.low, y.high)}
        if self._averages(program.tensors, program.mode):
            scalars |= {"offset": 0, "zero": 0}
        spec = ResizeSpec(x.plane, y.plane, program.mode, quick(program, ratio, LARGEST << 2 * FRACTION))
        return [Step(self, spec, {"x": self.inputs[0], "y": self.output}, constants, scalars)]


@write.register
def _write(op: Resize, file: TfliteFile) -> None:
    y = file.program.tensors[op.output]
    modes = {"half_pixel": {"halfPixelCenters": True}, "align_corners": {"alignCorners": True}, "asymmetric": {}}
    if not op._averages(file.program.tensors, file.program.mode) or op.mode not in modes:
        raise UnsupportedError(f"operator {op.name!r}: TFLite interpolates at one scale, between its own places")
    size = file.constant(np.array(y.shape[:2], np.int32))
    options = modes[op.mode]
    file.node("RESIZE_BILINEAR", [file.tensor(op.inputs[0]), size], file.tensor(op.output), "ResizeBilinearOptions", 3,
              **options)  # fmt: skip


def _mode(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _resize(lowering: Lowering, node: onnx.NodeProto) -> None:
    mode = _mode(attributes(node).get("coordinate_transformation_mode", "half_pixel"))
    source = lowering.graph.quantized(node.input[0])
    lowering.add(node, lambda y, key, low, high: Resize(node.name, (source,), key, mode))


def _check(graph: Graph, node: onnx.NodeProto) -> None:
    kind, mode = (_mode(attribute(node, name, default)) for name, default in
                  (("mode", "nearest"), ("coordinate_transformation_mode", "half_pixel")))  # fmt: skip
    if kind != "linear" or mode not in _PLACES or list(attribute(node, "axes", ())) != [2, 3]:
        raise UnsupportedError(
            f"node {node.name!r}: a canonical Resize is linear along axes 2 and 3, by {', '.join(_PLACES)}; "
            f"not {kind} by {mode}"
        )


def _reach(graph: Graph, node: onnx.NodeProto, operands: list[Reach]) -> Reach:
    return operands[0]


def _torch(graph: Graph, node: onnx.NodeProto, dtype: Any) -> TorchStep:
    import torch

    mode = _mode(attribute(node, "coordinate_transformation_mode", "half_pixel"))
    (height, width), (rows, columns) = graph.shape(node.input[0])[2:], graph.shape(node.output[0])[2:]

    def matrix(before: int, after: int) -> Any:
        place = places(mode, before, after)
        near = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(before)))
        return torch.tensor(near, dtype=dtype)

    down, across = matrix(height, rows), matrix(width, columns)
    return lambda operands: down @ operands[0] @ across.T


@samples("resize", 1.0)
def _sample(s: Sampler) -> None:
    height, width, channels = s.pick(1, 3, 4), s.pick(1, 3, 4), s.pick(2, 5, 8, 16, 32)
    bits = s.bits()
    x, y = s.tensor((height, width, channels), bits), s.tensor((s.pick(2, 6, 7), s.pick(2, 6, 7), channels), bits)
    s.add(Resize(s.name, (x.name,), y.name, "half_pixel"))


def _example(e: Example, op: str) -> str:
    x = e.map(*e.shape())
    sizes = e.constant(np.array([e.pick(1, 2, 3, 5, 6, 9), e.pick(1, 2, 5, 7, 8)]))
    return e.node(op, x, "", "", sizes, mode="linear", axes=[2, 3], coordinate_transformation_mode=e.pick(*_PLACES))


register(
    Rule(
        # Where onnxruntime turns the axes around it, it turns the sizes of all four.
        _resize,
        _torch,
        _reach,
        repeats=True,
        scales=True,
        keeps_sign=True,
        unoptimized=True,
        check=_check,
        example=_example,
    ),
    "Resize",
)
