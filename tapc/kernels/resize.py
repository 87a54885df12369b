"""Linear interpolation between the pixels of a map."""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import (
    SCALAR_RANGE,
    Plane,
    copies_of,
    each_channel,
    multiplier_parameter,
    requantize,
    requantized,
    result_code,
)
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec

FRACTION = 11
"""Fractional bits of a weight along one axis: of both together, times the largest difference of codes, 30."""


@dataclass(frozen=True)
class ResizeSpec(KernelSpec):
    """Requantized sums of four neighbours, weighted by how near they are.

    Attributes
    ----------
    x, y : Plane
    mode : Mode
    quick : Quick
        How sums are requantized; see `Arithmetic.quick`.
    """

    x: Plane
    y: Plane
    mode: Mode
    quick: Quick = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"resize_a{self.x.bits}o{self.y.bits}"

    @property
    def unroll(self) -> int:
        """Channels per iteration of the innermost loop."""
        return largest_divisor(self.x.channels, 4) if self.x.bits == self.y.bits == 8 else 2

    @property
    def sides(self) -> int:
        """Along how many axes there are neighbours."""
        return (self.x.height > 1) + (self.x.width > 1)

    def instruction_features(self) -> Features:
        """Count codes, loops and pixels."""
        y = self.y
        count = y.pixels * y.channels
        return {
            f"resize_a{self.x.bits}o{y.bits}n{self.sides}": count,
            "resize_loop": count / self.unroll if y.channels > self.unroll else 0,
            "resize_pixel": y.pixels, "resize_row": y.height, "call": 1,
            **requantized(self.mode, self.quick, clamped=False, count=count),
        }  # fmt: skip

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        copies = copies_of(self.y.channels) if 4 in (self.x.bits, self.y.bits) else self.unroll
        return {
            **result_code(self.mode, self.quick, "", copies),
            "code_resize": 1,
            f"code_resize_a{self.x.bits}o{self.y.bits}n{self.sides}": copies,
        }

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        tables = (Parameter("rows", "int32", 2 * self.y.height), Parameter("columns", "int32", 2 * self.y.width))
        scalars = (multiplier_parameter(self.mode, 1), Parameter("offset", "int32"), *SCALAR_RANGE)
        return build(name, (*planes, *tables, *scalars), lambda b: _emit(self, b))


def _emit(spec: ResizeSpec, b: Body) -> None:
    x, y, one = spec.x, spec.y, 1 << FRACTION
    down, right = x.width if x.height > 1 else 0, 1 if x.width > 1 else 0
    with b.loop(y.height) as oy:
        row, lower = b.bind(b["rows"][oy * 2]), b.bind(b["rows"][oy * 2 + 1])
        with b.loop(y.width) as ox:
            first = b.bind(row * x.width + b["columns"][ox * 2])
            far = b.bind(b["columns"][ox * 2 + 1])
            corners: list[tuple[Any, Any]] = []
            for place, weight in ((0, one - lower), (down, lower)) if down else ((0, one),):
                for step, other in ((0, one - far), (right, far)) if right else ((0, one),):
                    corners.append((b.bind(first + (place + step)), b.bind(weight * other)))

            def interpolate(c: Any, corners: list[tuple[Any, Any]] = corners, ox: Any = ox) -> None:
                total = 0 - b["offset"]
                for pixel, weight in corners:
                    total = total + x.load(b, b["x"], pixel, c) * weight
                code = requantize(b, spec.mode, b.bind(total), 0, y.bits, spec.quick)
                y.store(b, b["y"], oy * y.width + ox, c, code)

            if 4 in (x.bits, y.bits):
                each_channel(b, y.channels, interpolate)
            else:
                with b.loop(y.channels // spec.unroll) as outer:
                    for u in range(spec.unroll):
                        interpolate(outer * spec.unroll + u)
