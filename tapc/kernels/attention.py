"""Attention: softmax(q k^T) v."""

from dataclasses import dataclass

from tapc.base.arithmetic import RATIO, Mode, SoftmaxForm
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import (
    SCALAR_RANGE,
    Plane,
    SoftmaxShares,
    multiplier_parameter,
    requantized,
    result_code,
    scaled,
    softmax_features,
)
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class AttentionSpec(KernelSpec):
    """Softmax(q k^T) v per head, one query at a time: scores and their softmax stay in a row of scratch memory.

    Attributes
    ----------
    x : Plane
        Queries, keys, values and result, a head's channels side by side.
    heads : int
    levels : int
        1 / scale of the softmax.
    mode : Mode
    form : SoftmaxForm
    score_quick, quick : Quick
        How products of queries and keys, and those with values, are requantized; see `Arithmetic.quick`.
    """

    x: Plane
    heads: int
    levels: int
    mode: Mode
    form: SoftmaxForm = RATIO
    score_quick: Quick = ""
    quick: Quick = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "attention"

    @property
    def width(self) -> int:
        """Channels of a head."""
        return self.x.channels // self.heads

    @property
    def scratch_bytes(self) -> int:
        """A query and its scores as words."""
        return 4 * (self.width + self.x.pixels)

    def instruction_features(self) -> Features:
        """Count products, scores, results and queries of all heads."""
        rows, tokens = self.heads * self.x.pixels, self.x.pixels
        parts: Features = {"attention_mac": 2 * rows * tokens * self.width, "attention_score": rows * tokens}
        for quick, count in ((self.score_quick, rows * tokens), (self.quick, rows * self.width)):
            for key, own in requantized(self.mode, quick, clamped=True, count=count, part="share").items():
                parts[key] = parts.get(key, 0) + own
        parts |= softmax_features(self.form, rows * tokens, rows, self.levels)
        return {**parts, "attention_code": rows * self.width, "attention_row": rows, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        parts: Features = {"code_attention": 1, f"share_{self.form}_code_once": 1}
        for quick, copies in ((self.score_quick, 1), (self.quick, largest_divisor(self.width, 4))):
            for key, own in result_code(self.mode, quick, "", copies).items():
                parts[key] = parts.get(key, 0) + own
        return parts

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (*(self.x.parameter(part) for part in ("x", "k", "v")), self.x.parameter("y", constant=False))
        tables = (multiplier_parameter(self.mode, 2), Parameter("table", "int32", 256))
        zeros = tuple(Parameter(f"{part}_zero", "int32") for part in ("x", "k", "v", "score", "weight"))
        row = Parameter("row", "int32", self.scratch_bytes // 4, constant=False)
        return build(name, (*planes, *tables, *zeros, *SCALAR_RANGE, row), lambda b: _emit_attention(self, b))


def _emit_attention(spec: AttentionSpec, b: Body) -> None:
    x, width, row, T = spec.x, spec.width, b["row"], b.T
    sums, top = b.array("sums", 2), b.array("top", 1)
    parts = largest_divisor(width, 4)
    shares = SoftmaxShares(b, spec.form, spec.levels)
    acc = b.array("acc", parts)
    with b.loop(spec.heads) as head, b.loop(x.pixels) as query:
        first = head * width
        b.store(sums, 0, 0)
        with b.loop(width) as i:
            code = b.bind(x.load(b, b["x"], query, first + i) - b["x_zero"])
            b.store(row, i, code)
            b.store(sums, 0, sums[0] + code)
        b.store(sums, 0, sums[0] * b["k_zero"])
        b.store(top, 0, -128)
        with b.loop(x.pixels) as key:
            b.store(acc, 0, 0 - sums[0])
            with b.loop(width // parts) as outer:
                for u in range(parts):
                    i = outer * parts + u
                    b.store(acc, 0, acc[0] + row[i] * x.load(b, b["k"], key, first + i))
            score = b.bind(scaled(b, spec.mode, acc[0], 0, b["score_zero"], -128, 127, spec.score_quick))
            b.store(row, width + key, score)
            b.store(top, 0, T.max(b.bind(top[0]), score))
        b.store(sums, 0, 0)
        with b.loop(x.pixels) as key:
            term = b.bind(b["table"][top[0] - row[width + key]])
            b.store(row, width + key, term)
            b.store(sums, 0, sums[0] + shares.term(term))
        shares.start(sums[0])
        b.store(sums, 1, 0)
        with b.loop(x.pixels) as key:
            share = shares.share(row[width + key], sums[0])
            weight = b.bind(T.min(T.max(share + b["weight_zero"], -128), 127) - b["weight_zero"])
            b.store(row, width + key, weight)
            b.store(sums, 1, sums[1] + weight)
        b.store(sums, 1, sums[1] * b["v_zero"])
        with b.loop(width // parts) as outer:
            for u in range(parts):
                b.store(acc, u, 0 - sums[1])
            with b.loop(x.pixels) as key:
                for u in range(parts):
                    value = x.load(b, b["v"], key, first + outer * parts + u)
                    b.store(acc, u, acc[u] + row[width + key] * value)
            for u in range(parts):
                code = scaled(b, spec.mode, acc[u], 1, b["zero"], b["low"], b["high"], spec.quick)
                x.store(b, b["y"], query, first + outer * parts + u, code)
