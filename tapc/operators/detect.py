"""Detections as a network's last output: what `tapc.base.detector` says in real numbers, in integers.

A detection is six numbers of 16 bits: class, score (code less zero point), and the edges x0, y0, x1, y1 in parts of a
pixel. Rows of -1 fill up.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tapc.base.arithmetic import Ints
from tapc.base.boxes import FIELDS
from tapc.base.detector import AnyDetector, Detector, peaks
from tapc.base.errors import UnsupportedError
from tapc.ir.decoding import Detections, decodes
from tapc.ir.program import Op, Program, Step
from tapc.ir.sampling import Sampler, samples
from tapc.kernels.detect import SHARE, SHIFT, DetectSpec
from tapc.kernels.schedule import Schedule

NAME = "detections"
LONGEST = 2896
"""Most parts of a side: 64 times the area of two boxes has 31 bits."""
PARTS = (16, 8, 4, 2, 1)
"""Of a pixel; the most that a picture's longer side allows."""
_FACTOR = {4: 1 << 23, 8: 1 << 23, 16: 1 << 15}
"""By bits of a distance's codes: their product with a factor has 31 bits."""


@dataclass(frozen=True, eq=False)
class Detect(Op):
    """Detections of maps of scores and distances.

    Attributes
    ----------
    cell : int
        Parts of a pixel that a cell is wide.
    threshold : int
        Least code of a score.
    factor : int
        Parts of a pixel times 2^16 for a code of a distance.
    overlap : int
        In 64ths: with a larger intersection over union the less sure one goes.
    """

    cell: int
    threshold: int
    factor: int
    overlap: int

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        scores, sides = (program.tensors[name] for name in self.inputs)
        most = program.tensors[self.output].shape[1]
        return np.stack([self._of_one(a, b, scores.zero, sides.zero, most) for a, b in zip(*x, strict=True)])[:, None]

    def _of_one(self, scores: Ints, sides: Ints, zero: int, middle: int, most: int) -> Ints:
        height, width, classes = scores.shape
        places = np.flatnonzero(peaks(scores, self.threshold))
        places = places[np.argsort(-scores.reshape(-1)[places], kind="stable")][:most]
        found = np.full((most, FIELDS), -1, np.int64)
        kept = 0
        for place in places.tolist():
            cell, kind = divmod(place, classes)
            centre = [(cell % width) * self.cell + self.cell // 2, (cell // width) * self.cell + self.cell // 2]
            far = ((sides.reshape(-1, 4)[cell] - middle) * self.factor + (1 << (SHIFT - 1))) >> SHIFT
            limit = [width * self.cell, height * self.cell]
            box = [
                min(max(centre[i % 2] + (-1 if i < 2 else 1) * int(far[i]), 0), limit[i % 2]) for i in range(4)
            ]  # fmt: skip
            if not any(other[0] == kind and self._covers(box, other[2:].tolist()) for other in found[:kept]):
                found[kept] = (kind, scores.reshape(-1)[place] - zero, *box)
                kept += 1
        return found

    def _covers(self, a: list[int], b: list[int]) -> bool:
        inner = math.prod(max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), 0) for i in (0, 1))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return inner * SHARE > (sum(areas) - inner) * self.overlap

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        (scores, sides), y = (program.tensors[name] for name in self.inputs), program.tensors[self.output]
        scalars = {
            "threshold": self.threshold, "zero": scores.zero, "middle": sides.zero, "factor": self.factor,
            "overlap": self.overlap,
        }  # fmt: skip
        tensors = {"x": self.inputs[0], "b": self.inputs[1], "y": self.output}
        return [Step(self, DetectSpec(scores.plane, sides.plane, y.plane, self.cell), tensors, {}, {**scalars})]


@decodes
def with_detections(program: Program, own: AnyDetector, keys: Mapping[str, str]) -> Program:
    """Return a program that gives detections as its last output; see `tapc.ir.decoding`.

    Raises
    ------
    UnsupportedError
        A network with states, or maps whose pictures or scales are too large for 32 bits.
    """
    if not isinstance(own, Detector):
        return program
    if program.states:
        raise UnsupportedError("a detector that keeps states between calls is not decoded; take its metadata out")
    scores, sides = (program.tensors[keys[name]] for name in (own.scores, own.sides))
    longest = max(scores.shape[:2]) * own.cell
    parts = next((parts for parts in PARTS if longest * parts <= LONGEST), None)
    if parts is None:
        raise UnsupportedError(f"a detector's picture is at most {LONGEST} pixels wide and high; it is {longest}")
    factor = round(sides.scale * own.unit * parts * (1 << SHIFT))
    largest = _FACTOR[sides.bits]
    if scores.bits == 16 and scores.zero:
        raise UnsupportedError("a detector's scores of 16 bits have the zero point 0")
    if not 0 < factor < largest:
        raise UnsupportedError(
            f"a distance of the detector is {sides.scale * own.unit:g} pixels for each code; from 2^-16 to "
            f"{largest / (1 << SHIFT) / parts:g} are computed in 32 bits"
        )
    least = math.ceil(own.threshold / scores.scale - 1e-6) + scores.zero
    name = NAME
    while name in program.tensors:
        name += "_"
    y = Detections(name, (1, own.most, FIELDS), 16, 1 / parts, 0)
    op = Detect(
        name, (keys[own.scores], keys[own.sides]), name, own.cell * parts, max(least, scores.low), factor,
        round(own.overlap * SHARE),
    )  # fmt: skip
    return replace(
        program, tensors={**program.tensors, name: y}, ops=(*program.ops, op), outputs=(*program.outputs, name),
        output_names=(*program.output_names, name),
    )  # fmt: skip


@samples("detect", 1.0)
def _sample(s: Sampler) -> None:
    """Add one of which about as many scores are candidates as there are detections, with small boxes."""
    most, bits = s.pick(1, 4, 8, 16, 24, 32), s.pick(4, 8, 16)
    shape = s.pick(4, 6, 8, 12, 16), s.pick(4, 7, 8, 12), s.pick(1, 2, 3, 5, 8)
    scores = s.tensor(shape, bits, zero=0)
    sides, y = s.tensor((*shape[:2], 4), s.bits(), zero=0), s.tensor((1, most, FIELDS), 16, scale=1 / 16, zero=0)
    share = min(1.0, most / math.prod(shape))
    least = scores.high + 1 - max(1, round(share * (scores.high + 1 - scores.low)))
    s.add(Detect(s.name, (scores.name, sides.name), y.name, s.pick(16, 64), least, s.pick(1 << 10, 1 << 13), 48))
