"""Sums, differences and products of two tensors of which some have codes of 16 bits; extents of 1 are repeated."""

from dataclasses import dataclass
from typing import Any, Literal

from tapc.base.arithmetic import Mode
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, scaled
from tapc.kernels.spec import Features, KernelSpec

_SUM = ("a_zero", "b_zero", "a_factor", "a_shift", "b_factor", "b_shift", "sum_factor", "sum_shift")
_PRODUCT = ("a_zero", "b_zero")
WideOperation = Literal["add", "sub", "mul"]


@dataclass(frozen=True)
class WideBinarySpec(KernelSpec):
    """A kernel instance.

    Attributes
    ----------
    operation : {"add", "sub", "mul"}
    x, r, y : Plane
        Extents of the operands are those of `y`, or 1.
    mode : Mode
        Of a product.
    """

    operation: WideOperation
    x: Plane
    r: Plane
    y: Plane
    mode: Mode = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        each = "" if self._flat else "each"
        return f"wide_{self.operation}{each}_a{self.x.bits}r{self.r.bits}o{self.y.bits}"

    @property
    def _flat(self) -> bool:
        return all(_extents(plane) == _extents(self.y) for plane in (self.x, self.r))

    def instruction_features(self) -> Features:
        """Count codes."""
        own = f"wide_mul_{self.mode}" if self.operation == "mul" else "wide_add"
        return {own: self.y.pixels * self.y.channels, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {f"code_wide_mul_{self.mode}" if self.operation == "mul" else "code_wide_add": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        product = self.operation == "mul"
        planes = self.x.parameter("x"), self.r.parameter("r"), self.y.parameter("y", constant=False)
        factors = (multiplier_parameter(self.mode, 1),) if product else ()
        scalars = (Parameter(part, "int32") for part in (_PRODUCT if product else _SUM))
        parameters = (*planes, *factors, *scalars, *SCALAR_RANGE)

        def emit(b: Body) -> None:
            if self._flat:
                with b.loop(self.y.pixels * self.y.channels) as i:
                    self._code(b, i, i, i)
                return
            y = self.y
            with b.loop(y.height) as row, b.loop(y.width) as column, b.loop(y.channels) as channel:
                at = (row, column, channel)
                self._code(b, _place(y, *at), _place(self.x, *at), _place(self.r, *at))

        return build(name, parameters, emit)

    def _code(self, b: Body, i: Any, j: Any, k: Any) -> None:
        x, r = (b.bind(plane.load(b, b[key], 0, at)) for key, plane, at in (("x", self.x, j), ("r", self.r, k)))
        if self.operation == "mul":
            product = (x - b["a_zero"]) * (r - b["b_zero"])
            code = scaled(b, self.mode, product, 0, b["zero"], b["low"], b["high"])
        else:
            given = (b[part] for part in (*_SUM, "zero", "low", "high"))
            code = b.call("t_sub_wide" if self.operation == "sub" else "t_add_wide", x, r, *given)
        self.y.store(b, b["y"], 0, i, code)


def _extents(plane: Plane) -> tuple[int, int, int]:
    return plane.height, plane.width, plane.channels


def _place(plane: Plane, row: Any, column: Any, channel: Any) -> Any:
    """Return where a code lies that is repeated along extents of 1."""
    at: Any = 0
    for extent, index in zip(_extents(plane), (row, column, channel), strict=True):
        at = at * extent + (index if extent > 1 else 0)
    return at
