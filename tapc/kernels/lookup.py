"""Any function of one code: a table."""

from dataclasses import dataclass

from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import Plane
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class LookupSpec(KernelSpec):
    """A table from 8-bit code to 8-bit code.

    Attributes
    ----------
    x, y : Plane
    """

    x: Plane
    y: Plane

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "lookup"

    def instruction_features(self) -> Features:
        """Count codes."""
        return {"lookup_code": self.x.pixels * self.x.channels, "call": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False), Parameter("table", "int8", 256))
        count = self.x.pixels * self.x.channels
        unroll = largest_divisor(count, 4)

        def emit(b: Body) -> None:
            with b.loop(count // unroll) as outer:
                for i in range(unroll):
                    code = b.T.Cast("int32", b["x"][outer * unroll + i])
                    b.store(b["y"], outer * unroll + i, b["table"][code + 128])

        return build(name, planes, emit)
