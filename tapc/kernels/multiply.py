"""The product of two tensors, either of which may be broadcast."""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, each_channel, multiplier_parameter, requantize
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class MultiplySpec(KernelSpec):
    """Requantized product.

    Attributes
    ----------
    a, b : Plane
        Operands; an extent of 1 is repeated to that of y.
    y : Plane
    mode : Mode
    clamped : bool
        The product is clamped more narrowly than y's codes.
    """

    a: Plane
    b: Plane
    y: Plane
    mode: Mode
    clamped: bool

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"mul_a{self.a.bits}b{self.b.bits}o{self.y.bits}"

    def instruction_features(self) -> Features:
        """Count codes and pixels."""
        y = self.y
        widths = f"a{self.a.bits}b{self.b.bits}o{y.bits}{'c' if self.clamped else ''}"
        return {f"mul_{widths}": y.pixels * y.channels, "mul_pixel": y.pixels, "mul_row": y.height, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        narrow = (self.a.bits == 4) + (self.b.bits == 4)
        return {"code_mul": 1, "code_mul_a4": narrow, f"code_mul_o{self.y.bits}": 1, "code_mul_c": self.clamped}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.a.parameter("x"), self.b.parameter("r"), self.y.parameter("y", constant=False))
        zeros = (Parameter("x_zero", "int32"), Parameter("r_zero", "int32"))
        parameters = (*planes, multiplier_parameter(self.mode, 1), *zeros, *SCALAR_RANGE)
        return build(name, parameters, lambda b: _emit(self, b))


def _emit(spec: MultiplySpec, b: Body) -> None:
    y, bits = spec.y, 0 if spec.clamped else spec.y.bits
    with b.loop(y.height) as i, b.loop(y.width) as j:

        def operand(plane: Plane, name: str, c: Any) -> Any:
            row, column = (i if plane.height > 1 else 0), (j if plane.width > 1 else 0)
            code = plane.load(b, b[name], row * plane.width + column, c if plane.channels > 1 else 0)
            return code - b[f"{name}_zero"]

        def multiply(c: Any) -> None:
            product = b.bind(operand(spec.a, "x", c) * operand(spec.b, "r", c))
            y.store(b, b["y"], i * y.width + j, c, requantize(b, spec.mode, product, 0, bits))

        each_channel(b, y.channels, multiply)
