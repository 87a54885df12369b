"""Each pixel's channels over their length, where an arithmetic has integers of its own for it."""

from dataclasses import dataclass

from tapc.base.arithmetic import Mode
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class UnitSpec(KernelSpec):
    """Vectors of length 1 of the channels of each pixel.

    Attributes
    ----------
    x, y : Plane
    mode : Mode
    """

    x: Plane
    y: Plane
    mode: Mode

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "unit"

    def instruction_features(self) -> Features:
        """Count codes and pixels."""
        codes = self.x.pixels * self.x.channels
        return {"unit_code": codes, "unit_pixel": self.x.pixels, "call": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        return build(name, (*planes, Parameter("pad", "int32"), *SCALAR_RANGE), lambda b: _emit(self, b))


def _emit(spec: UnitSpec, b: Body) -> None:
    x, total, words = spec.x, b.array("total", 1), b.array("words", 2)
    with b.loop(x.pixels) as p:
        b.store(total, 0, 0)
        with b.loop(x.channels) as c:
            code = b.bind(x.load(b, b["x"], p, c) - b["pad"])
            b.store(total, 0, total[0] + code * code)
        b.do(f"t_length_{spec.mode}", total[0], b.address(words, 0))
        with b.loop(x.channels) as c:
            code = b.bind(x.load(b, b["x"], p, c) - b["pad"])
            ends = (b["zero"], b["low"], b["high"])
            spec.y.store(b, b["y"], p, c, b.call(f"t_requant_{spec.mode}", code, words[0], words[1], *ends))
