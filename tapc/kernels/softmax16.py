"""Softmax of 16-bit codes."""

from dataclasses import dataclass

from tapc.base.arithmetic.softmax16 import STEPS
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import Plane
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class WideSoftmaxSpec(KernelSpec):
    """Softmax over the channels of each pixel: exponentials first, in place of the results.

    Attributes
    ----------
    x, y : Plane
        Of 16 bits.
    """

    x: Plane
    y: Plane

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "wide_softmax"

    def instruction_features(self) -> Features:
        """Count codes and pixels."""
        pixels = self.x.pixels
        return {"softmax16_code": pixels * self.x.channels, "softmax16_pixel": pixels, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {"code_softmax16": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        scalars = Parameter("factor", "int32"), Parameter("shift", "int32")
        table = Parameter("table", "int16", 2 * (STEPS + 2))
        return build(name, (self.x.parameter("x"), self.y.parameter("y", constant=False), table, *scalars), self._emit)

    def _emit(self, b: Body) -> None:
        x, y, T = self.x, self.y, b.T
        top, total, inverse = b.array("top", 1), b.array("total", 1), b.array("inverse", 1)
        with b.loop(x.pixels) as p:
            b.store(top, 0, -32768)
            b.store(total, 0, 0)
            with b.loop(x.channels) as c:
                b.store(top, 0, T.max(b.bind(top[0]), x.load(b, b["x"], p, c)))
            with b.loop(x.channels) as c:
                difference = x.load(b, b["x"], p, c) - top[0]
                term = b.call("t_softmax_exp16", difference, b["factor"], b["shift"], b.address(b["table"], 0))
                term = b.bind(term)
                b.store(total, 0, total[0] + term)
                y.store(b, b["y"], p, c, term)
            b.store(inverse, 0, b.call("t_softmax_inverse16", total[0], b.address(b["table"], STEPS + 2)))
            with b.loop(x.channels) as c:
                share = b.call("t_softmax_share16", y.load(b, b["y"], p, c), inverse[0], total[0])
                y.store(b, b["y"], p, c, share)
