"""LeakyRelu of 16-bit codes: one factor for what is negative, another for the rest."""

from dataclasses import dataclass

from tapc.base.arithmetic import Mode
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, scaled
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class WideLeakySpec(KernelSpec):
    """A kernel instance, code by code."""

    x: Plane
    y: Plane
    mode: Mode

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"wide_leaky_a{self.x.bits}o{self.y.bits}"

    def instruction_features(self) -> Features:
        """Count codes."""
        return {f"wide_leaky_{self.mode}": self.y.pixels * self.y.channels, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {f"code_wide_leaky_{self.mode}": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        parameters = (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            multiplier_parameter(self.mode, 2),
            *SCALAR_RANGE,
            Parameter("start", "int32"),
        )

        def emit(b: Body) -> None:
            with b.loop(self.y.pixels * self.y.channels) as i:
                x = b.bind(self.x.load(b, b["x"], 0, i) - b["start"])
                side = b.T.bitwise_and(b.T.shift_right(x, b.T.int32(31)), b.T.int32(1))
                code = scaled(b, self.mode, x, side, b["zero"], b["low"], b["high"])
                self.y.store(b, b["y"], 0, i, code)

        return build(name, parameters, emit)
