"""What several operators share: constants of requantization and sums, windows, moves."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base import arithmetic
from tapc.base.arithmetic import AddFactors, Ints, Mode, Multipliers, Ratios, arithmetic_of, smm
from tapc.base.arithmetic.interface import Quick
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import attribute
from tapc.ir.channels import Bounds, Kept
from tapc.ir.overlap import Overlap
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler
from tapc.kernels.elementwise import MoveSpec
from tapc.kernels.layout import LINEAR, NEAR, SumForm

Scalars = dict[str, int | float]
LARGEST = 255
"""Magnitude of a code of 8 bits less its zero point."""


def largest_code(x: Tensor) -> int:
    """Return the greatest magnitude of a code less its zero point."""
    return 1 << 15 if x.bits == 16 else LARGEST


def factors(ratios: Ratios, mode: Mode) -> Constant:
    """Return a kernel's requantization factors for these ratios."""
    return encoded(lambda: arithmetic.multipliers(ratios, mode), ratios.size, mode)


def encoded(make: Callable[[], Multipliers], count: int, mode: Mode) -> Constant:
    """Return a kernel's requantization factors, of which there are `count`."""
    own = arithmetic_of(mode)
    return Constant("s", count * own.words, lambda: own.constant(make()))


def quick(program: Program, ratios: Ratios, largest: Any) -> Quick:
    """Return how accumulators of at most this magnitude, of all or of each, are requantized; see `Arithmetic.quick`."""
    m = arithmetic.multipliers(np.atleast_1d(ratios), program.mode)
    return arithmetic_of(program.mode).quick(m, np.asarray(largest, np.int64))


@dataclass(frozen=True, eq=False)
class Requantization:
    """How a kernel makes codes of accumulators, and what it is given for that.

    Attributes
    ----------
    quick : Quick
    factors : Constant
    zero : int
        In place of the result's zero point, which it holds.
    """

    quick: Quick
    factors: Constant
    zero: int


def requantization(
    program: Program, ratios: Ratios, largest: Ints, zero: int, ends: tuple[int, int], shift: int = 0
) -> Requantization:
    """Return the least work that gives the arithmetic's codes.

    Parameters
    ----------
    program : Program
    ratios : ndarray, shape (channels,)
    largest : ndarray of int64, shape (channels,)
        The accumulators' greatest magnitudes.
    zero : int
    ends : (int, int)
        Bounds of the codes.
    shift : int
        The kernel's accumulators are 2^shift times as large; see `Arithmetic.homogeneous`.
    """
    if smm.available(program.mode, program.isa):
        found = _smm(ratios.tobytes(), np.asarray(largest, np.int64).tobytes(), zero, ends, shift)
        if found is not None:
            words = found.factors
            return Requantization(found.name, Constant("s", words.size, lambda: words), found.added)
    back = shift if arithmetic_of(program.mode).homogeneous else 0
    own = factors(ratios / ratios.dtype.type(1 << back), program.mode)
    if program.isa == "scalar" and not shift:
        m = arithmetic.multipliers(np.atleast_1d(ratios), program.mode)
        if arithmetic_of(program.mode).near(m, np.asarray(largest, np.int64)):
            return Requantization(NEAR, own, zero)
    return Requantization(quick(program, ratios, largest), own, zero)


@functools.lru_cache(maxsize=4096)
def _smm(ratios: bytes, largest: bytes, zero: int, ends: tuple[int, int], shift: int) -> smm.Smm | None:
    """Return factors that are exact for every channel; layers are lowered again and again with the same integers."""
    found = smm.find(np.frombuffer(ratios, np.float32), zero, *ends, np.frombuffer(largest, np.int64), shift)
    return found[0] if found is not None and found[1].all() else None


def scale_ratio(x: Tensor, y: Tensor, mode: Mode) -> Ratios:
    """Return the scale of one tensor over that of another, shape ()."""
    return arithmetic_of(mode).ratios((x.scale,), y.scale)


def clamp(y: Tensor, low: int, high: int) -> Scalars:
    """Return a kernel's scalars for the zero point and the bounds of its result."""
    return {"zero": y.zero, "low": low, "high": high}


def sums(
    program: Program, a: Tensor, b: Tensor, y: Tensor, low: int, high: int, f: AddFactors | None = None
) -> tuple[SumForm, Scalars]:
    """Return the form of an addition and its scalars: three integer operations where they are exact."""
    f = f or arithmetic.add_factors(a.quantization, b.quantization, y.quantization, program.mode)
    limits: Scalars = {"add_low": low, "add_high": high}
    linear = arithmetic.linear_add(f, (a.low, a.high), (b.low, b.high), y.zero, low, high)
    if linear is not None:
        scalars = {"add_a": linear.factor_a, "add_b": linear.factor_b, "add_offset": linear.offset}
        return LINEAR, {**scalars, "add_shift": linear.shift, **limits}
    return f.mode, {**{f"add_{name}": value for name, value in f.scalars(y.zero).items()}, **limits}


def as_words(codes: NDArray[np.int8]) -> NDArray[np.uint32]:
    """Return bytes as words, padded with zeros."""
    flat = codes.ravel()
    return np.pad(flat, (0, -len(flat) % 4)).view(np.uint32)


def check_ratios(ratios: Any, mode: Mode) -> None:
    """Raise ValueError where a mode cannot express a ratio."""
    arithmetic.multipliers(np.atleast_1d(np.asarray(ratios)), mode)


def monotone(op: Op, program: Program, x: list[Bounds]) -> Bounds:
    """Bound an operator that never reverses an order: its reference, run on the smallest and on the largest codes."""
    return Bounds(*op.reference(program, [np.stack([b.low, b.high]) for b in x]))


def keep_alike(op: Op, kept: Kept) -> None:
    """Keep the same channels of everything that an operator reads and writes."""
    kept.couple(*(kept.masks[name] for name in (*op.inputs, op.output)))


def windows(
    x: NDArray[Any],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, ...],
    fill: int,
    dilation: tuple[int, int] = (1, 1),
) -> Any:
    """View all windows of NHWC data as (N, OH, OW, C, KH, KW); outside the image lies `fill`."""
    # What numpy has for this, `pad` and `sliding_window_view`, takes longer than small maps do.
    if any(pads):
        top, left, bottom, right = pads
        padded = np.full((len(x), top + x.shape[1] + bottom, left + x.shape[2] + right, x.shape[3]), fill, x.dtype)
        padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
        x = padded
    batch, row, column, channel = x.strides
    height, width = (
        (extent - (size - 1) * distance - 1) // step + 1
        for extent, size, distance, step in zip(x.shape[1:3], kernel, dilation, stride, strict=True)
    )
    return np.lib.stride_tricks.as_strided(
        x,
        (len(x), height, width, x.shape[3], *kernel),
        (batch, row * stride[0], column * stride[1], channel, row * dilation[0], column * dilation[1]),
        writeable=False,
    )


def highest(
    x: Ints,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, ...],
    low: int,
    high: int,
    dilation: tuple[int, int] = (1, 1),
) -> Ints:
    """Return the clamped maximum of every window."""
    found: Ints = np.clip(windows(x, kernel, stride, pads, -(2**31), dilation).max(axis=(-2, -1)), low, high)
    return found


def rescaled(program: Program, codes: Ints, source: str, target: str, ratio: Ratios, low: int, high: int) -> Ints:
    """Return codes of one tensor at the scale and zero point of another."""
    m = arithmetic.multipliers(np.atleast_1d(ratio), program.mode)
    return arithmetic.requantize(codes - program.tensors[source].zero, m, program.tensors[target].zero, low, high)


def move(
    program: Program, op: Op, source: str, ratio: Ratios, ends: tuple[int, int], distance: int | None, **where: Any
) -> Step:
    """Return the call that brings codes to another place, scale or range.

    Parameters
    ----------
    program : Program
    op : Op
    source : str
        The tensor of `op` that is read.
    ratio : ndarray, shape ()
        Its scale over that of the output.
    ends : (int, int)
        Clamp bounds.
    distance : int or None
        By how much the output must lie below the input that it overwrites; None: it must not.
    where
        As for `MoveSpec`.
    """
    x, y = program.tensors[source], program.tensors[op.output]
    if 16 in (x.bits, y.bits):
        if where.get("order") and x.quantization == y.quantization and x.bits == y.bits:
            return Step(op, MoveSpec(x.plane, y.plane, False, **where), {"x": source, "y": op.output})
        plain = set(where) <= {"row", "column", "channel", "fill", "value"} and not where.get("value")
        filled = not where.get("fill") or y.zero == 0
        if (x.bits, x.quantization, ends) != (y.bits, y.quantization, (y.low, y.high)) or not (plain and filled):
            raise UnsupportedError(f"operator {op.name!r}: 16-bit codes are moved as they are, to no other scale")
        where = {key: 2 * value if key == "channel" else value for key, value in where.items()}
        wide = MoveSpec(x.plane.of_bytes(), y.plane.of_bytes(), False, **where)
        return Step(op, wide, {"x": source, "y": op.output}, {}, {"zero": 0} if where.get("fill") else {})
    codes = np.arange(x.low, x.high + 1)
    m = arithmetic.multipliers(np.atleast_1d(ratio), program.mode)
    own = arithmetic.requantize(codes - x.zero, m, y.zero, *ends)
    same = bool(np.array_equal(own, codes))
    constants = {} if same else {"table": Constant("t", len(codes) // 4, lambda: as_words(own.astype(np.int8)))}
    overlap = {} if distance is None else {source: Overlap(distance)}
    spec, scalars = MoveSpec(x.plane, y.plane, not same, **where), {"zero": y.zero} if where.get("fill") else {}
    return Step(op, spec, {"x": source, "y": op.output}, constants, dict(scalars), overlap)


def torch_pads(node: onnx.NodeProto) -> tuple[int, int, int, int]:
    """Return a window operator's pads in torch's order: left, right, top, bottom."""
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    return left, right, top, bottom


def small_shape(s: Sampler) -> tuple[int, int, int]:
    """Draw the shape of a small map."""
    side = s.pick(1, 3, 6, 8)
    return side, side, s.pick(2, 5, 8, 16, 32)
