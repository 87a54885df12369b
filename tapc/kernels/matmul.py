"""Products of activations: dot products of rows that both lie in memory as they are read."""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.interface import Quick
from tapc.base.isa import Isa
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantize, requantized, result_code
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec

_WIDE = {"dsp": 4, "mve": 16, "scalar": 1}
"""Codes that one step of a dot product takes."""


@dataclass(frozen=True)
class MatMulSpec(KernelSpec):
    """For each row of the maps, products of all pixels of x with all of r; 8-bit codes.

    Attributes
    ----------
    x : Plane
        (B, M, K).
    r : Plane
        (B, N, K).
    y : Plane
        (B, M, N).
    mode : Mode
    isa : {"dsp", "mve", "scalar"}
    quick : Quick
        How sums are requantized; see `Arithmetic.quick`.
    """

    x: Plane
    r: Plane
    y: Plane
    mode: Mode
    isa: Isa
    quick: Quick = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "matmul"

    @property
    def wide(self) -> int:
        """Codes of a step."""
        return _WIDE[self.isa]

    @property
    def tile(self) -> int:
        """Dot products at once, which share what is read of x."""
        return largest_divisor(self.y.channels, 2)

    @property
    def unroll(self) -> int:
        """Steps per iteration of the innermost loop."""
        return largest_divisor(max(self.x.channels // self.wide, 1), 4)

    @property
    def scratch_bytes(self) -> int:
        """What the zero point of x takes of each dot product."""
        return 4 * self.r.width

    def instruction_features(self) -> Features:
        """Count steps of dot products, what is left of them, results and rows."""
        (batch, rows, depth), columns = (self.x.height, self.x.width, self.x.channels), self.r.width
        steps, rest = divmod(depth, self.wide)
        codes = batch * rows * columns
        return {
            f"matmul_step_t{self.tile}": codes * steps,
            f"matmul_loop_t{self.tile}": codes / self.tile * steps / self.unroll,
            f"matmul_rest_t{self.tile}": codes * rest,
            f"matmul_code_t{self.tile}": codes,
            "matmul_sum": batch * (rows + columns) * depth,
            "matmul_row": batch * (rows + columns),
            "matmul_batch": batch,
            **requantized(self.mode, self.quick, clamped=False, count=codes),
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {
            **result_code(self.mode, self.quick, "", self.tile),
            "code_matmul": 1, f"code_matmul_t{self.tile}": self.unroll,
            f"code_matmul_rest_t{self.tile}": self.x.channels % self.wide > 0,
        }  # fmt: skip

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.r.parameter("r"), self.y.parameter("y", constant=False))
        zeros = (Parameter("x_zero", "int32"), Parameter("r_zero", "int32"))
        row = Parameter("row", "int32", self.r.width, constant=False)
        parameters = (*planes, row, multiplier_parameter(self.mode, 1), *zeros, *SCALAR_RANGE)
        return build(name, parameters, lambda b: _emit(self, b))


def _emit(spec: MatMulSpec, b: Body) -> None:
    (x, r, y), tile = (spec.x, spec.r, spec.y), spec.tile
    depth, total = x.channels, b.array("total", 1)
    acc = b.array("acc", tile)

    def sum_up(plane: Plane, name: str, pixel: Any) -> None:
        unroll = largest_divisor(depth, 4)
        b.store(total, 0, 0)
        with b.loop(depth // unroll) as outer:
            for u in range(unroll):
                b.store(total, 0, total[0] + plane.load(b, b[name], pixel, outer * unroll + u))

    with b.loop(x.height) as batch:
        with b.loop(r.width) as n:
            # Sum of (x - x_zero) (r - r_zero) = sum of x r - x_zero sum of r - r_zero sum of (x - x_zero).
            sum_up(r, "r", batch * r.width + n)
            b.store(b["row"], n, total[0] * b["x_zero"])
        with b.loop(x.width) as m:
            pixel = batch * x.width + m
            sum_up(x, "x", pixel)
            own = b.bind((total[0] - b["x_zero"] * depth) * b["r_zero"])
            left = b.bind(b.address(b["x"], pixel * x.row))
            with b.loop(r.width // tile) as block:
                first = block * tile
                right = [b.bind(b.address(b["r"], (batch * r.width + first + j) * r.row)) for j in range(tile)]
                for j in range(tile):
                    b.store(acc, j, 0 - own - b["row"][first + j])
                _products(spec, b, acc, left, right)
                for j in range(tile):
                    y.store(b, b["y"], pixel, first + j, requantize(b, spec.mode, acc[j], 0, 8, spec.quick))


def _products(spec: MatMulSpec, b: Body, acc: Any, left: Any, right: list[Any]) -> None:
    """Add the dot products of what lies at `left` with what lies at each of `right`."""
    steps, wide, unroll = spec.x.channels // spec.wide, spec.wide, spec.unroll

    def at(place: Any, offset: Any) -> Any:
        return b.call("t_at", place, offset, dtype="handle")

    def step(offset: Any) -> None:
        if spec.isa == "mve":
            for j, place in enumerate(right):
                b.store(acc, j, b.call("t_vmac8", acc[j], at(place, offset), at(left, offset)))
            return
        if spec.isa == "scalar":
            code = b.bind(b.call("t_load8", at(left, offset)))
            for j, place in enumerate(right):
                b.store(acc, j, b.call("t_mac", acc[j], b.call("t_load8", at(place, offset)), code))
            return
        word = b.bind(b.call("t_load32", at(left, offset)))
        even, odd = b.bind(b.call("t_sxtb16", word)), b.bind(b.call("t_sxtb16_ror8", word))
        for j, place in enumerate(right):
            other = b.bind(b.call("t_load32", at(place, offset)))
            b.store(acc, j, b.call("t_smlad", b.call("t_sxtb16", other), even, acc[j]))
            b.store(acc, j, b.call("t_smlad", b.call("t_sxtb16_ror8", other), odd, acc[j]))

    if steps:
        with b.loop(steps // unroll) as outer:
            for u in range(unroll):
                step(outer * (unroll * wide) + u * wide)
    if rest := spec.x.channels - steps * wide:
        with b.loop(rest) as i:
            code = b.bind(b.call("t_load8", at(left, i + steps * wide)))
            for j, place in enumerate(right):
                other = b.call("t_load8", at(place, i + steps * wide))
                b.store(acc, j, acc[j] + other * code)
