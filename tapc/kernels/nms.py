"""Detections from boxes and their scores: boxes in the order of their scores, of those that overlap the surest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tapc.base.boxes import FIELDS, Form
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import Plane
from tapc.kernels.spec import Features, KernelSpec

PARTS = 8192
"""Of the picture's side, where boxes have anchors."""
SHARE = 16
"""An overlap is in 2^-16 of the union."""
STEPS = 6
"""A table of powers of two has 2^6 steps."""
FAR = 1 << 17
"""What the middle of a box is away from its anchor's, and half its side, in parts, at most."""
_LOW, _HIGH = -(1 << 15), (1 << 15) - 1
_BYTE = 256


@dataclass(frozen=True)
class NmsSpec(KernelSpec):
    """Boxes by their scores, in lists of each code; one that overlaps a kept one goes.

    Attributes
    ----------
    x : Plane
        Scores.
    boxes : Plane
        Four numbers for each box.
    y : Plane
        1 x detections x 6, of 16 bits.
    form : {"anchors", "yxyx", "xyxy", "xywh"}
        See `tapc.base.boxes.BoxDetector`.
    turned : (bool, bool)
        The channels of scores, and of the four numbers, are boxes.
    background : int
        Scores before that of class 0.
    limit : int
        Detections of a class, where classes are apart; 0 where a box is of its surest class alone.
    shifts : tuple of int
        Of the factors.
    size : int
        Bits of an anchor's sides behind the point.
    """

    x: Plane
    boxes: Plane
    y: Plane
    form: Form
    turned: tuple[bool, bool]
    background: int
    limit: int
    shifts: tuple[int, ...]
    size: int = 0

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "nms"

    @property
    def count(self) -> int:
        """Boxes."""
        return self.boxes.pixels * self.boxes.channels // 4

    @property
    def columns(self) -> int:
        """Scores of a box."""
        return self.x.pixels * self.x.channels // self.count

    @property
    def levels(self) -> int:
        """Lists of boxes whose scores have one code, or one byte of a code."""
        return 16 if self.x.bits == 4 else _BYTE

    @property
    def shorts(self) -> int:
        """Half-words of scratch memory: for each box which one is next, the heads of lists, kept boxes of a class."""
        return self.count + self.levels * (1 + (self.x.bits == 16)) + 4 * self.limit

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch memory."""
        return -(-self.shorts // 2) * 4

    def instruction_features(self) -> Features:
        """Count scores, boxes and what becomes of as many boxes as there are detections, none of which overlap."""
        classes, most, bits = self.columns - self.background, self.y.width, self.x.bits
        form, apart = "anchors" if self.form == "anchors" else "edges", "apart" if self.limit else "together"
        passes = classes if self.limit else 1
        kept = min(most, self.count * passes)
        each = kept / passes
        return {
            f"nms_score_{apart}_a{bits}": self.count * classes,
            f"nms_box_{apart}_a{bits}": self.count * passes,
            f"nms_list_a{bits}": self.levels * passes,
            f"nms_decode_{form}": kept,
            "nms_pair": passes * each * (each - 1) / 2,
            f"nms_row_{apart}": kept,
            "nms_moved": (kept * kept - passes * each * each) / 4,
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        form = "anchors" if self.form == "anchors" else "edges"
        return {"code_nms": 1, f"code_nms_{form}": 1, "code_nms_apart": self.limit > 0,
                f"code_nms_a{self.x.bits}": 1}  # fmt: skip

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.boxes.parameter("b"), self.y.parameter("y", constant=False))
        tables: tuple[Parameter, ...] = ()
        factors: tuple[str, ...] = ("factor",)
        if self.form == "anchors":
            tables = (Parameter("anchors", "int32", 2 * self.count), Parameter("table", "int32", (1 << STEPS) + 1))
            factors = ("factor", "factor_x", "growth", "growth_x")
        scalars = ("threshold", "zero", "middle", *factors, "overlap")
        rows = Parameter("rows", "int16", self.scratch_bytes // 2, constant=False)
        numbers = tuple(Parameter(part, "int32") for part in scalars)
        return build(name, (*planes, *tables, *numbers, rows), lambda b: _Emitter(self, b).emit())


class _Emitter:
    """Writes the kernel's statements."""

    def __init__(self, spec: NmsSpec, b: Body) -> None:
        self.spec, self.b, self.T = spec, b, b.T
        self.top, self.least = b.array("top", 1), b.array("least", 1)
        self.kind = None if spec.limit else b.array("kind", 1)
        self.sides = b.array("sides", 4)
        self.at, self.flag, self.place = b.array("at", 1), b.array("flag", 1), b.array("place", 1)
        self.total, self.own = b.array("total", 1), b.array("own", 1)
        self.heads = spec.count
        self.low = {4: 0, 8: -128, 16: -(1 << 15)}[spec.x.bits]

    def emit(self) -> None:
        """Write all."""
        spec, b = self.spec, self.b
        b.store(self.total, 0, 0)
        b.store(self.least, 0, b["threshold"])
        if spec.limit:
            with b.loop(spec.columns - spec.background) as c:
                self._pass(c, spec.limit)
        else:
            self._pass(None, spec.y.width)
        with b.loop(spec.y.width) as k, b.loop(FIELDS) as field:
            b.when(k >= self.total[0], lambda: spec.y.store(b, b["y"], k, field, -1))

    def _pass(self, c: Any, limit: int) -> None:
        """Choose among the boxes of a class, or all."""
        spec, b, T = self.spec, self.b, self.T
        with b.loop(spec.levels * (1 + (spec.x.bits == 16))) as i:
            self._short(self.heads + i, -1)
        with b.loop(spec.count) as step:
            # The last that comes into a list is its first.
            box = b.bind(step if spec.x.bits == 16 else spec.count - 1 - step)
            self._score(box, c)
            key = self.top[0] - self.low
            if spec.x.bits == 16:
                key = T.bitwise_and(key, _BYTE - 1) + _BYTE
            b.when(self.top[0] >= self.least[0], lambda: self._push(box, key))
        if spec.x.bits == 16:
            with b.loop(_BYTE) as byte:

                def again(box: Any, following: Any) -> None:
                    self._score(box, c)
                    self._push(box, T.shift_right(self.top[0] - self.low, 8))

                self._each(self.heads + _BYTE + byte, again, lambda: True)
        b.store(self.own, 0, 0)
        with b.loop(spec.levels) as level:
            head = self.heads + spec.levels - 1 - level
            self._each(head, lambda box, following: self._box(box, c, limit), lambda: self.own[0] < limit)

    def _short(self, index: Any, value: Any) -> None:
        self.b.store(self.b["rows"], index, self.T.Cast("int16", value))

    def _each(self, head: Any, body: Callable[[Any, Any], None], more: Callable[[], Any]) -> None:
        """Visit the boxes of a list."""
        b, T, rows = self.b, self.T, self.b["rows"]
        b.store(self.at, 0, T.Cast("int32", rows[head]))
        going = more()
        with T.While(self.at[0] >= 0 if going is True else T.And(self.at[0] >= 0, going)):
            box = b.bind(self.at[0])
            following = b.bind(T.Cast("int32", rows[box]))
            b.store(self.at, 0, following)
            body(box, following)

    def _push(self, box: Any, key: Any) -> None:
        place = self.b.bind(self.heads + key)
        self.b.store(self.b["rows"], box, self.b["rows"][place])
        self._short(place, box)

    def _load(self, side: int, box: Any, column: Any) -> Any:
        spec = self.spec
        plane, pointer = ((spec.x, "x"), (spec.boxes, "b"))[side]
        where = (column, box) if spec.turned[side] else (box, column)
        return plane.load(self.b, self.b[pointer], *where)

    def _score(self, box: Any, c: Any) -> None:
        """Set `top` to a box's score, and `kind` to the class that has it."""
        spec, b = self.spec, self.b
        if c is not None:
            b.store(self.top, 0, self._load(0, box, c + spec.background))
            return
        b.store(self.top, 0, self._load(0, box, spec.background))
        b.store(self.kind, 0, 0)
        with b.loop(spec.columns - spec.background - 1) as i:
            score = b.bind(self._load(0, box, i + spec.background + 1))

            def larger() -> None:
                b.store(self.top, 0, score)
                b.store(self.kind, 0, i + 1)

            b.when(score > self.top[0], larger)

    def _box(self, box: Any, c: Any, limit: int) -> None:
        """Keep a box unless it overlaps one that is kept."""
        b, T = self.b, self.T
        edges = self._edges(box)
        for i in (0, 1):
            b.store(self.sides, i, edges[i + 2] - edges[i])
        b.store(self.flag, 0, 1)
        b.store(self.place, 0, 0)
        with T.While(T.And(self.flag[0] > 0, self.place[0] < self.own[0])):
            other = [b.bind(self._kept(self.place[0], side)) for side in range(4)]
            sides = [b.bind(T.min(edges[i + 2], other[i + 2]) - T.max(edges[i], other[i])) for i in (0, 1)]

            def compare(other: list[Any] = other, sides: list[Any] = sides) -> None:
                for i in (0, 1):
                    b.store(self.sides, 2 + i, other[i + 2] - other[i])
                larger = b.call("t_box_covers", *sides, b.address(self.sides, 0), b["overlap"])
                b.when(larger != 0, lambda: b.store(self.flag, 0, 0))

            b.when(T.And(sides[0] > 0, sides[1] > 0), compare)
            b.store(self.place, 0, self.place[0] + 1)
        b.when(self.flag[0] > 0, lambda: self._keep(box, c, edges))

    def _kept(self, k: Any, side: int) -> Any:
        if self.spec.limit:
            return self.T.Cast("int32", self.b["rows"][self._behind + 4 * k + side])
        return self.spec.y.load(self.b, self.b["y"], k, 2 + side)

    @property
    def _behind(self) -> int:
        """Where the kept boxes of a class begin."""
        return self.spec.shorts - 4 * self.spec.limit

    def _keep(self, box: Any, c: Any, edges: list[Any]) -> None:
        spec, b, T, most = self.spec, self.b, self.T, self.spec.y.width
        self._score(box, c)
        score = b.bind(self.top[0] - b["zero"])
        own = b.bind(self.own[0])
        b.store(self.own, 0, own + 1)
        if not spec.limit:
            assert self.kind is not None
            self._row(own, [self.kind[0], score, *edges])
            b.store(self.total, 0, own + 1)
            return
        for side, edge in enumerate(edges):
            self._short(self._behind + 4 * own + side, edge)

        def insert() -> None:
            b.store(self.place, 0, T.min(self.total[0], most - 1))
            b.store(self.total, 0, T.min(self.total[0] + 1, most))
            before = spec.y.load(b, b["y"], self.place[0] - 1, 1)
            with T.While(T.And(self.place[0] > 0, before < score)):
                for field in range(FIELDS):
                    spec.y.store(b, b["y"], self.place[0], field, spec.y.load(b, b["y"], self.place[0] - 1, field))
                b.store(self.place, 0, self.place[0] - 1)
            self._row(self.place[0], [c, score, *edges])

            def full() -> None:
                b.store(self.least, 0, spec.y.load(b, b["y"], most - 1, 1) + b["zero"] + 1)

            b.when(self.total[0] == most, full)

        # What is no surer than the last of a full table has no row.
        b.when(T.Or(self.total[0] < most, score > spec.y.load(b, b["y"], most - 1, 1)), insert)

    def _row(self, k: Any, fields: list[Any]) -> None:
        for field, value in enumerate(fields):
            self.spec.y.store(self.b, self.b["y"], k, field, value)

    def _scaled(self, value: Any, factor: str, shift: int, low: int, high: int) -> Any:
        """Return value x factor / 2^shift, rounded and cut to a range."""
        return self.b.bind(self.b.call("t_box_scaled", value, self.b[factor], shift, low, high))

    def _edges(self, box: Any) -> list[Any]:
        """Return the left, upper, right and lower edge."""
        spec, b, T = self.spec, self.b, self.T
        codes = [b.bind(self._load(1, box, i) - b["middle"]) for i in range(4)]
        if spec.form == "anchors":
            words = [b.bind(b["anchors"][2 * box + i]) for i in range(2)]
            ends = [self._anchored(codes, words, axis) for axis in (1, 0)]
            return [ends[0][0], ends[1][0], ends[0][1], ends[1][1]]
        if spec.form == "xywh":
            doubles = [2 * codes[i % 2] + (codes[2 + i % 2] if i > 1 else 0 - codes[2 + i % 2]) for i in range(4)]
        else:
            first, second = ((1, 0), (3, 2)) if spec.form == "yxyx" else ((0, 1), (2, 3))
            low = [T.min(codes[first[i]], codes[second[i]]) for i in (0, 1)]
            high = [T.max(codes[first[i]], codes[second[i]]) for i in (0, 1)]
            doubles = [*low, *high]
        return [self._scaled(value, "factor", spec.shifts[0], _LOW, _HIGH) for value in doubles]

    def _anchored(self, codes: list[Any], words: list[Any], axis: int) -> tuple[Any, Any]:
        """Return the lower and upper edge along an axis: 0 down, 1 across."""
        spec, b, T = self.spec, self.b, self.T
        tail = "_x" if axis else ""

        def half_word(word: Any) -> Any:
            return T.shift_right(word, 16) if axis else T.Cast("int32", T.Cast("int16", word))

        middle, side = (b.bind(half_word(word)) for word in words)
        away = self._scaled(codes[axis] * side, f"factor{tail}", spec.shifts[axis], -FAR, FAR)
        ends = ((spec.size - 28) << 16, ((spec.size + 2) << 16) + (1 << 16) - 1)
        power = self._scaled(codes[2 + axis], f"growth{tail}", spec.shifts[2 + axis], *ends)
        half = b.bind(b.call("t_box_half", side, power, spec.size, b.address(b["table"], 0)))
        centre = b.bind(middle + away)
        lower, upper = (b.bind(T.max(T.min(end, _HIGH), _LOW)) for end in (centre - half, centre + half))
        return lower, upper
