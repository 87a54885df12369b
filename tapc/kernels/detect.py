"""Detections from maps of scores and of distances: the surest peaks, and of boxes that overlap the surest."""

from dataclasses import dataclass
from typing import Any

from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import Plane
from tapc.kernels.spec import Features, KernelSpec

FIELDS = 6
SHIFT = 16
SHARE = 64
"""An overlap is in so many parts of the union."""
_NONE = -(1 << 16)


@dataclass(frozen=True)
class DetectSpec(KernelSpec):
    """Peaks among eight neighbours, sorted; boxes; of those of one class that overlap the first stays.

    Attributes
    ----------
    x : Plane
        Scores, a channel for each class.
    sides : Plane
        Distances to the left, upper, right and lower side.
    y : Plane
        1 x detections x 6, of 16 bits.
    cell : int
        Parts of a pixel that a cell is wide.
    """

    x: Plane
    sides: Plane
    y: Plane
    cell: int

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "detect"

    def instruction_features(self) -> Features:
        """Count scores, and what becomes of as many candidates as there are detections, none of which overlap."""
        most, count = self.y.width, self.x.pixels * self.x.channels
        most = min(most, count)
        return {
            f"detect_score_a{self.x.bits}": count, "detect_pixel": self.x.pixels, f"detect_row_a{self.x.bits}": most,
            "detect_step": most * self.y.width, "call": 1,
        }  # fmt: skip

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {"code_detect": 1, f"code_detect_a{self.x.bits}": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.sides.parameter("b"), self.y.parameter("y", constant=False))
        scalars = ("threshold", "zero", "middle", "factor", "overlap")
        return build(name, (*planes, *(Parameter(part, "int32") for part in scalars)), lambda b: _emit(self, b))


def _emit(spec: DetectSpec, b: Body) -> None:
    most = spec.y.width
    found = {part: b.array(part, most) for part in ("score", "row", "column", "class_of")}
    flag, kept = b.array("flag", 1), b.array("kept", 1)
    with b.loop(most) as k:
        b.store(found["score"], k, _NONE)
    with b.loop(spec.x.height) as row, b.loop(spec.x.width) as column, b.loop(spec.x.channels) as c:
        score = b.bind(spec.x.load(b, b["x"], row * spec.x.width + column, c))
        b.when(
            b.T.And(score >= b["threshold"], score > found["score"][most - 1]),
            lambda: _candidate(spec, b, found, flag, (score, row, column, c)),
        )
    b.store(kept, 0, 0)
    with b.loop(most) as k:
        b.when(found["score"][k] != _NONE, lambda: _box(spec, b, found, flag, kept, k))
    with b.loop(most) as k, b.loop(FIELDS) as field:
        b.when(k >= kept[0], lambda: spec.y.store(b, b["y"], k, field, -1))


def _candidate(spec: DetectSpec, b: Body, found: dict[str, Any], flag: Any, own: tuple[Any, Any, Any, Any]) -> None:
    """Insert a score where it is a peak: behind all that are no smaller."""
    score, row, column, c = own
    x, T, most = spec.x, b.T, spec.y.width
    b.store(flag, 0, 1)
    for number in range(9):
        if number == 4:
            continue
        r, q = row + (number // 3 - 1), column + (number % 3 - 1)

        def compare(r: Any = r, q: Any = q, before: bool = number < 4) -> None:
            other = x.load(b, b["x"], r * x.width + q, c)
            larger = other >= score if before else other > score
            b.when(larger, lambda: b.store(flag, 0, 0))

        inside = T.And(T.And(r >= 0, r < x.height), T.And(q >= 0, q < x.width))
        b.when(inside, compare)

    def insert() -> None:
        with b.loop(most) as step:
            k = b.bind(most - 1 - step)

            def move() -> None:
                def down() -> None:
                    for part in found.values():
                        b.store(part, k + 1, part[k])

                b.when(k < most - 1, down)
                for part, value in zip(found.values(), own, strict=True):
                    b.store(part, k, value)

            b.when(found["score"][k] < score, move)

    b.when(flag[0] == 1, insert)


def _box(spec: DetectSpec, b: Body, found: dict[str, Any], flag: Any, kept: Any, k: Any) -> None:
    """Write a detection behind those that are kept, and keep it unless it lies on one of them."""
    y, T = b["y"], b.T
    place = b.bind(found["row"][k] * spec.x.width + found["column"][k])
    at = b.bind(kept[0])
    spec.y.store(b, y, at, 0, found["class_of"][k])
    spec.y.store(b, y, at, 1, found["score"][k] - b["zero"])
    edges = []
    for side in range(4):
        which, extent = ("column", spec.x.width) if side % 2 == 0 else ("row", spec.x.height)
        apart = (spec.sides.load(b, b["b"], place, side) - b["middle"]) * b["factor"] + (1 << (SHIFT - 1))
        far = b.bind(T.shift_right(apart, SHIFT))
        centre = found[which][k] * spec.cell + spec.cell // 2
        edge = b.bind(T.max(T.min(centre - far if side < 2 else centre + far, extent * spec.cell), 0))
        spec.y.store(b, y, at, 2 + side, edge)
        edges.append(edge)
    area = b.bind((edges[2] - edges[0]) * (edges[3] - edges[1]))
    b.store(flag, 0, 1)
    with b.loop(spec.y.width) as j:

        def compare() -> None:
            others = [b.bind(spec.y.load(b, y, j, 2 + side)) for side in range(4)]
            wide, high = (
                b.bind(T.max(T.min(edges[2 + i], others[2 + i]) - T.max(edges[i], others[i]), 0)) for i in (0, 1)
            )
            union = area + (others[2] - others[0]) * (others[3] - others[1]) - wide * high
            b.when(wide * high * SHARE > union * b["overlap"], lambda: b.store(flag, 0, 0))

        b.when(T.And(j < at, spec.y.load(b, y, j, 0) == found["class_of"][k]), compare)
    b.when(flag[0] == 1, lambda: b.store(kept, 0, at + 1))
