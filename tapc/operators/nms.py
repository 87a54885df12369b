"""Detections of boxes and their scores as a network's last output: `tapc.base.boxes` in integers.

A detection is six numbers of 16 bits, as those of `tapc.operators.detect`: class, score (code less zero point) and the
edges x0, y0, x1, y1. Where boxes have anchors, edges are in 1/8192 of the picture, cut to -4 .. 4 pictures; else in the
smallest power of two of the network's own unit that 16 bits hold.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tapc.base.arithmetic import Ints
from tapc.base.boxes import FIELDS, BoxDetector, chosen, packed
from tapc.base.detector import AnyDetector
from tapc.base.errors import UnsupportedError
from tapc.ir.decoding import Detections, decodes
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.nms import FAR, PARTS, SHARE, STEPS, NmsSpec
from tapc.kernels.schedule import Schedule

NAME = "detections"
LARGEST = (1 << 15) - 1
_SIZES = range(12, 25)
"""Bits of an anchor's sides behind the point: sides of eight pictures, or as small as makes no difference."""
_MOST_BOXES = 1 << 15


def powers() -> Ints:
    """Return 2^15 x 2^(i / 64), rounded, for i from 0 to 64."""
    return np.rint(2.0**15 * 2.0 ** (np.arange((1 << STEPS) + 1) / (1 << STEPS))).astype(np.int64)


@dataclass(frozen=True)
class Factor:
    """A real number as a whole one times 2^-shift, of 30 bits: its product with 32 bits has 62.

    Attributes
    ----------
    number : int
    shift : int
    """

    number: int
    shift: int

    @classmethod
    def of(cls, real: float) -> "Factor":
        """Return the nearest one."""
        shift = 29 - math.floor(math.log2(real))
        if not 1 <= shift <= 61:
            raise UnsupportedError(f"a detector's boxes are scaled by {real:g}, from 2^-32 to 2^28 are computed")
        return cls(round(real * 2.0**shift), shift)

    def times(self, x: Ints, low: int, high: int) -> Ints:
        """Return the product, rounded half up and cut to a range."""
        found: Ints = np.clip((x * self.number + (1 << (self.shift - 1))) >> self.shift, low, high)
        return found


@dataclass(frozen=True, eq=False)
class Nms(Op):
    """Detections of boxes and scores.

    Attributes
    ----------
    detector : BoxDetector
    factors : tuple of Factor
        Parts for a code: of boxes with anchors down and across, at anchors whose sides are 1, and the powers of two by
        which sides grow, times 2^16.
    threshold : int
        Least code of a score.
    size : int
        Bits of an anchor's sides behind the point.
    anchors : ndarray of int64, shape (boxes, 4)
        Middle, in parts, and sides, times 2^size: y, x, height, width.
    """

    detector: BoxDetector
    factors: tuple[Factor, ...]
    threshold: int
    size: int
    anchors: Ints

    def __str__(self) -> str:
        own = self.detector
        return f"nms<{own.form}, {len(self.anchors)} anchors, overlap={own.overlap:g}, threshold={self.threshold}>"

    @property
    def limit(self) -> int:
        """Detections of a class, where classes are apart; else 0."""
        return 0 if self.detector.together else min(self.detector.most, self.detector.per_class)

    @property
    def share(self) -> int:
        """The overlap in 2^-16."""
        return round(self.detector.overlap * (1 << SHARE))

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        own, (scores, boxes) = self.detector, (program.tensors[name] for name in self.inputs)
        count = boxes.shape[0] * boxes.shape[1] * boxes.shape[2] // 4
        values, codes = (
            part.reshape(len(part), -1, count).transpose(0, 2, 1) if turned else part.reshape(len(part), count, -1)
            for part, turned in zip(x, own.turned, strict=True)
        )
        edges = self.edges(codes - boxes.zero)
        y = np.full((len(values), 1, own.most, FIELDS), -1, np.int64)
        for rows, part, sides in zip(y[:, 0], values[:, :, own.background :], edges, strict=True):
            for row, (place, kind) in zip(rows, chosen(own, part, sides, self.threshold, self._covers), strict=False):
                row[:] = (kind, part[place, kind] - scores.zero, *sides[place])
        return y

    def edges(self, codes: Ints) -> Ints:
        """Return the left, upper, right and lower edges (N, boxes, 4) of codes less their zero point."""
        if self.detector.form == "anchors":
            down, across = (self._anchored(codes, axis) for axis in (0, 1))
            return np.stack([across[0], down[0], across[1], down[1]], axis=-1)
        if self.detector.form == "xywh":
            ends = np.concatenate([2 * codes[..., :2] - codes[..., 2:], 2 * codes[..., :2] + codes[..., 2:]], axis=-1)
        else:
            ordered = codes[..., [1, 0, 3, 2]] if self.detector.form == "yxyx" else codes
            corners = np.sort(ordered.reshape(*codes.shape[:-1], 2, 2), axis=-2)
            ends = corners.reshape(codes.shape)
        return self.factors[0].times(ends, -LARGEST - 1, LARGEST)

    def _anchored(self, codes: Ints, axis: int) -> tuple[Ints, Ints]:
        middle, side = self.anchors[:, axis], self.anchors[:, 2 + axis]
        away = self.factors[axis].times(codes[..., axis] * side, -FAR, FAR)
        ends = ((self.size - 28) << 16, ((self.size + 2) << 16) + (1 << 16) - 1)
        power = self.factors[2 + axis].times(codes[..., 2 + axis], *ends)
        steps, bits = powers(), 16 - STEPS
        step, rest = (power & 0xFFFF) >> bits, power & ((1 << bits) - 1)
        grown = steps[step] + (((steps[step + 1] - steps[step]) * rest) >> bits)
        half = np.minimum((((side * grown) >> (2 + self.size - (power >> 16))) + 1) >> 1, FAR)
        lower, upper = (np.clip(middle + away + half * sign, -LARGEST - 1, LARGEST) for sign in (-1, 1))
        return lower, upper

    def _covers(self, box: Ints, others: Ints, share: float) -> Any:
        """Tell which overlap: every product has less than 63 bits."""
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        inner = np.where((sides > 0).all(axis=1), sides.prod(axis=1), 0)
        union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - inner
        return (inner > 0) & (inner << SHARE > union * self.share)

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        own, (scores, boxes) = self.detector, (program.tensors[name] for name in self.inputs)
        names = ("factor", "factor_x", "growth", "growth_x")
        scalars: dict[str, int | float] = {
            "threshold": self.threshold, "zero": scores.zero, "middle": boxes.zero, "overlap": self.share,
            **{name: factor.number for name, factor in zip(names, self.factors, strict=False)},
        }  # fmt: skip
        constants = {}
        if own.form == "anchors":
            words = np.stack([(self.anchors[:, i + 1] << 16) | (self.anchors[:, i] & 0xFFFF) for i in (0, 2)], axis=1)
            constants = {
                "anchors": Constant("c", words.size, lambda: words.astype(np.int32).reshape(-1)),
                "table": Constant("t", (1 << STEPS) + 1, lambda: powers().astype(np.int32)),
            }
        spec = NmsSpec(
            scores.plane, boxes.plane, program.tensors[self.output].plane, own.form, own.turned, own.background,
            self.limit, tuple(factor.shift for factor in self.factors), self.size,
        )  # fmt: skip
        tensors = {"x": self.inputs[0], "b": self.inputs[1], "y": self.output}
        return [Step(self, spec, tensors, constants, scalars)]


@decodes
def with_boxes(program: Program, own: AnyDetector, keys: Mapping[str, str]) -> Program:
    """Return a program that gives detections of boxes as its last output; see `tapc.ir.decoding`.

    Raises
    ------
    UnsupportedError
        A network with states, or boxes, anchors or scales that 16 bits do not hold.
    """
    if not isinstance(own, BoxDetector):
        return program
    if program.states:
        raise UnsupportedError("a detector that keeps states between calls is not decoded; take its metadata out")
    scores, boxes = (program.tensors[keys[name]] for name in own.maps)
    count = math.prod(boxes.shape) // 4
    if count > _MOST_BOXES:
        raise UnsupportedError(f"a detector has at most {_MOST_BOXES:,} boxes; there are {count:,}")
    if scores.bits == 16 and scores.zero:
        raise UnsupportedError("a detector's scores of 16 bits have the zero point 0")
    if own.form == "anchors":
        factors, size, anchors = _anchors(own, boxes)
        parts = PARTS
    else:
        parts, size, anchors = _parts(own, boxes), 0, np.zeros((0, 4), np.int64)
        factors = (Factor.of(boxes.scale * parts / (2 if own.form == "xywh" else 1)),)
    name = NAME
    while name in program.tensors:
        name += "_"
    size_of = own.size if all(own.size) else (1.0, 1.0)
    unit = "of the picture's width or height" if own.form == "anchors" else "of the network's unit"
    y = Detections(name, (1, own.most, FIELDS), 16, 1 / parts, 0, 0, size_of, unit)
    op = Nms(name, (keys[own.scores], keys[own.boxes]), name, own, factors, _least(own, scores), size, anchors)
    return replace(
        program, tensors={**program.tensors, name: y}, ops=(*program.ops, op), outputs=(*program.outputs, name),
        output_names=(*program.output_names, name),
    )  # fmt: skip


def _least(own: BoxDetector, scores: Tensor) -> int:
    """Return the smallest code that is no less than the threshold, or larger."""
    codes = own.threshold / scores.scale
    least = math.floor(codes + 1e-6) + 1 if own.strict else math.ceil(codes - 1e-6)
    return min(max(least + scores.zero, scores.low), scores.high + 1)


def _parts(own: BoxDetector, boxes: Tensor) -> int:
    """Return the most parts of a unit, a power of two, at which every edge has 16 bits."""
    farthest = max(boxes.high - boxes.zero, boxes.zero - boxes.low) * boxes.scale * (1.5 if own.form == "xywh" else 1)
    if farthest > LARGEST:
        raise UnsupportedError(f"a detector's boxes reach as far as {farthest:g}; edges up to {LARGEST} are computed")
    return int(2 ** min(math.floor(math.log2(LARGEST / farthest)), 15))


def _anchors(own: BoxDetector, boxes: Tensor) -> tuple[tuple[Factor, ...], int, Ints]:
    """Return factors, the bits of sides behind the point, and whole anchors."""
    rows = own.anchor_rows()
    largest, farthest = rows[:, 2:].max(), np.abs(rows[:, :2]).max()
    if rows[:, 2:].min() < 0 or not 0 < largest < LARGEST / 2 ** _SIZES[0] or farthest > LARGEST / PARTS:
        raise UnsupportedError(
            f"anchors have sides from 0 to 8 and middles from -4 to 4, the picture being 1 wide and high; these have "
            f"sides from {rows[:, 2:].min():g} to {largest:g} and middles as far as {farthest:g}"
        )
    size = min(math.floor(math.log2(LARGEST / largest)), _SIZES[-1])
    away = [Factor.of(boxes.scale / scale * PARTS / 2**size) for scale in own.scales[:2]]
    growth = [Factor.of(boxes.scale / scale * math.log2(math.e) * (1 << 16)) for scale in own.scales[2:]]
    sides = np.rint(rows[:, 2:] * 2.0**size)
    return (*away, *growth), size, np.concatenate([np.rint(rows[:, :2] * PARTS), sides], axis=1).astype(np.int64)


@samples("detect", 2.0)
def _sample(s: Sampler) -> None:
    """Add one of which about as many boxes are sure enough as there are detections, few of which overlap much."""
    most, bits, together = s.pick(1, 5, 10, 16, 25, 40), s.pick(4, 8, 16), bool(s.pick(0, 1))
    count, classes, background = s.pick(60, 96, 150, 240, 400), s.pick(1, 2, 3, 5, 9), s.pick(0, 1)
    scores = s.tensor((1, count, classes + background), bits, zero=0)
    boxes, y = s.tensor((1, count, 4), 8, zero=0), s.tensor((1, most, FIELDS), 16, scale=1 / PARTS, zero=0)
    rows = np.concatenate([s.rng.uniform(0, 1, (count, 2)), s.rng.uniform(0.02, 0.1, (count, 2))], axis=1)
    own = BoxDetector(
        scores.name, boxes.name, "anchors" if s.pick(0, 1) else "xyxy", packed(rows), overlap=0.9, most=most,
        together=together, background=background,
    )  # fmt: skip
    factors, size, anchors = _anchors(own, boxes)
    if own.form != "anchors":
        factors, size, anchors = (Factor.of(1 / 16),), 0, np.zeros((0, 4), np.int64)
    share = (1 - min(1.0, most / count)) ** (1 / classes) if together else 1 - min(1.0, most / count / classes)
    least = scores.low + min(round(share * (scores.high + 1 - scores.low)), scores.high - scores.low)
    s.add(Nms(s.name, (scores.name, boxes.name), y.name, own, factors, least, size, anchors))
