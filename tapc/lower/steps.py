"""Integer program -> steps: which kernel instance runs when, on which tensors, with which constants."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, singledispatch
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tapc import arithmetic
from tapc.arithmetic import Mode
from tapc.kernels.builder import Kernel
from tapc.kernels.columns import Window
from tapc.kernels.conv import ConvSpec
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.kernels.elementwise import AddSpec, MoveSpec, SoftmaxSpec
from tapc.kernels.layout import Plane
from tapc.kernels.pool import PoolSpec
from tapc.lower.overlap import Overlap, elementwise_distance, window_distance
from tapc.lower.program import (
    Add,
    Concat,
    Conv,
    Op,
    Pad,
    Pool,
    Program,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)


class Spec(Protocol):
    """What every kernel specification offers; equal specifications share one C function."""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory."""

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A read-only array of the library, made when it is first asked for: planning needs no weights.

    Attributes
    ----------
    role : {"w", "b", "s", "t"}
        Packed weights, bias, requantization factors, table.
    words : int
        32-bit words.
    make : callable
        Returns the array of uint32, int32 or float32.
    """

    role: str
    words: int
    make: Callable[[], NDArray[Any]]

    @cached_property
    def data(self) -> NDArray[Any]:
        """The array, flat."""
        data = self.make()
        assert data.nbytes == self.bytes, self.role
        return data

    @property
    def bytes(self) -> int:
        """Bytes in flash."""
        return 4 * self.words


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel call.

    Attributes
    ----------
    op : Op
        The operator that it belongs to.
    spec : Spec
    tensors : dict of str to str
        Kernel parameter -> tensor, inputs first, `y` the output.
    constants : dict of str to Constant
    scalars : dict of str to int or float
    distance : dict of str to Overlap
        Input tensor that dies here -> where the output may overlap it; inputs that are missing must not overlap.
    """

    op: Op
    spec: Spec
    tensors: dict[str, str]
    constants: dict[str, Constant] = field(default_factory=dict)
    scalars: dict[str, int | float] = field(default_factory=dict)
    distance: dict[str, Overlap] = field(default_factory=dict)

    @property
    def arguments(self) -> int:
        """Arguments of the call, before unused ones are dropped."""
        return len(self.tensors) + len(self.constants) + len(self.scalars) + bool(self.spec.scratch_bytes)

    @property
    def output(self) -> str:
        """Tensor that the step writes."""
        return self.tensors["y"]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that the step reads."""
        return tuple(name for key, name in self.tensors.items() if key != "y")


def steps_of(program: Program) -> tuple[Step, ...]:
    """Select a kernel for every operator; reshapes that move nothing need none."""
    return tuple(step for op in program.ops for step in _select(op, program))


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


def _sum_scalars(program: Program, a: Tensor, b: Tensor, y: Tensor, low: int, high: int) -> dict[str, int | float]:
    f = arithmetic.add_factors(a.quantization, b.quantization, y.quantization, program.mode)
    fixed: dict[str, int | float] = {"add_shift": f.shift, "add_zero": y.zero} if f.mode == "fixed" else {}
    return {"add_a": f.a, "add_b": f.b, "add_offset": f.offset, **fixed, "add_low": low, "add_high": high}


@singledispatch
def _select(op: Op, program: Program) -> list[Step]:
    raise TypeError(f"no kernel for {type(op).__name__}")


def _fits_shifted(op: Conv, x: Tensor, shift: int) -> bool:
    """Whether these weights keep 2^shift times every accumulator within 32 bits, for every input."""
    weights = op.weights.reshape(len(op.bias), -1).astype(np.int64)
    ends = np.stack([weights * (x.low - x.zero), weights * (x.high - x.zero)])
    least, most = ends.min(axis=0).sum(axis=1) + op.bias, ends.max(axis=0).sum(axis=1) + op.bias
    fits = max(int(most.max()), int(-least.min())) << shift < 2**31
    # The ratios divided by 2^shift must stay within what fixed point can express.
    return fits and float(op.ratios.min()) >= 2.0 ** (shift - 31)


@_select.register
def _conv(op: Conv, program: Program) -> list[Step]:
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    _, height, width, _ = op.weights.shape
    window = Window(height, width, *op.stride, *op.pads[:2])
    spec: ConvSpec | DepthwiseSpec
    scalars: dict[str, int | float] = {"pad": x.zero}
    tensors = {"x": op.inputs[0], "y": op.output}
    distance: dict[str, Overlap] = {}
    shift = 0

    def bias() -> NDArray[Any]:
        sums = op.weights.reshape(len(op.bias), -1).astype(np.int64).sum(axis=1)
        # Only the final sum must fit 32 bits: the accumulator may wrap around on its way there.
        folded: NDArray[Any] = (op.bias - x.zero * sums) << shift
        return folded.astype(np.int32)

    if op.depthwise(x.shape[2]):
        clamped = op.low > y.low or op.high < y.high
        spec = DepthwiseSpec(plane(x), plane(y), window, op.w_bits, program.mode, program.isa, clamped)
        if spec.x.row == spec.y.row and spec.multiplier == 1:
            distance[op.inputs[0]] = Overlap(0, spec.x.row)  # channel by channel, each in its own bytes
    else:
        middle = y if op.residual is None else op.residual.middle
        bits = program.tensors[op.inputs[1]].bits if op.residual else 0
        first = op.residual is not None and op.residual.swapped
        clamped = op.low > middle.low or op.high < middle.high
        isa = program.isa
        top = op.w_bits < 8 and _fits_shifted(op, x, 16 - op.w_bits)
        spec = ConvSpec(plane(x), plane(y), window, op.groups, op.w_bits, program.mode, isa, bits, first, clamped, top)
        shift = spec.shift
        if op.groups == 1:
            pixels = spec.schedule.pixels
            distance[op.inputs[0]] = Overlap(window_distance(spec.x, spec.y, window, pixels, buffered=True))
        if op.residual is not None:
            other = program.tensors[op.inputs[1]]
            tensors["r"] = op.inputs[1]
            operands = (other, middle) if first else (middle, other)
            scalars |= _range(middle, op.low, op.high)
            scalars |= _sum_scalars(program, *operands, y, op.residual.low, op.residual.high)
            # Two pixels advance together, so residual and result must keep step byte for byte.
            if other.bits == y.bits and op.groups == 1:
                least = distance[op.inputs[1]].least if op.inputs[1] in distance else 0
                distance[op.inputs[1]] = Overlap(max(0, least))
            else:
                distance.pop(op.inputs[1], None)
    scalars = {**_range(y, op.low, op.high), **scalars}
    constants = {
        "w": Constant("w", spec.weight_words, lambda: spec.pack(op.weights)),
        "bias": Constant("b", len(op.bias), bias),
        "s": _factors(op.ratios / np.float32(1 << shift), program.mode),
    }
    return [Step(op, spec, tensors, constants, scalars, distance)]


@_select.register
def _pool(op: Pool, program: Program) -> list[Step]:
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    window = Window(*op.kernel, *op.stride, *op.pads[:2])
    spec = PoolSpec(plane(x), plane(y), window, op.op, op.include_pad, program.mode)
    constants = {}
    if op.op == "average":
        constants["s"] = _factors(op.ratios, program.mode)
    distance = {op.inputs[0]: Overlap(window_distance(spec.x, spec.y, window, 1, buffered=False))}
    scalars = {"pad": x.zero, **_range(y, op.low, op.high)}
    return [Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, scalars, distance)]


@_select.register
def _add(op: Add, program: Program) -> list[Step]:
    a, b, y = (program.tensors[name] for name in (*op.inputs, op.output))
    spec = AddSpec(plane(a), plane(b), plane(y), program.mode)
    distances = {name: elementwise_distance(plane(program.tensors[name]), spec.y) for name in op.inputs}
    distance = {name: Overlap(d) for name, d in distances.items() if d is not None}
    tensors = {"x": op.inputs[0], "r": op.inputs[1], "y": op.output}
    return [Step(op, spec, tensors, {}, _sum_scalars(program, a, b, y, op.low, op.high), distance)]


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
def _requantize(op: Requantize, program: Program) -> list[Step]:
    planes = (plane(program.tensors[op.inputs[0]]), plane(program.tensors[op.output]))
    return [_move(program, op, op.inputs[0], op.ratio, op.low, op.high, elementwise_distance(*planes))]


@_select.register
def _concat(op: Concat, program: Program) -> list[Step]:
    steps, channel = [], 0
    for name, ratio in zip(op.inputs, op.ratios, strict=True):
        steps.append(_move(program, op, name, ratio, op.low, op.high, None, channel=channel))
        channel += program.tensors[name].shape[2]
    return steps


@_select.register
def _pad(op: Pad, program: Program) -> list[Step]:
    y = program.tensors[op.output]
    where = {"row": op.pads[0], "column": op.pads[1], "fill": True}
    return [_move(program, op, op.inputs[0], op.ratio, y.low, y.high, None, **where)]


@_select.register
def _reshape(op: Reshape, program: Program) -> list[Step]:
    if not op.moves:
        return []
    y = program.tensors[op.output]
    return [_move(program, op, op.inputs[0], np.float32(1), y.low, y.high, None, order=op.order)]


@_select.register
def _softmax(op: Softmax, program: Program) -> list[Step]:
    x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
    spec = SoftmaxSpec(plane(x), plane(y), len(op.table), op.levels)
    constants = {"table": Constant("t", len(op.table), lambda: op.table)}
    return [Step(op, spec, {"x": op.inputs[0], "y": op.output}, constants, _range(y, y.low, y.high))]
