"""The place of the largest code among the channels of each pixel."""

from dataclasses import dataclass

from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import Plane
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class ArgMaxSpec(KernelSpec):
    """The first channel that has the largest code.

    Attributes
    ----------
    x, y : Plane
    """

    x: Plane
    y: Plane

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"argmax_a{self.x.bits}"

    @property
    def unroll(self) -> int:
        """Channels per iteration of the loop."""
        return largest_divisor(self.x.channels, 4)

    def instruction_features(self) -> Features:
        """Count codes and pixels."""
        pixels, channels = self.x.pixels, self.x.channels
        count, turns, narrow = pixels * channels, channels // self.unroll, "4" if self.x.bits == 4 else ""
        # Short loops are spelled out; of odd channels it isn't known which half of a byte they are.
        shape = "once" if turns == 1 or (self.unroll % 2 == 0 and channels <= 8) else ""
        shape = "odd" if narrow and self.unroll % 2 and not shape else shape
        return {
            f"argmax_a{self.x.bits}{shape}": count, f"argmax_loop{narrow}": pixels * turns if not shape else 0,
            f"argmax_pixel{narrow}": pixels, "argmax_map": pixels if pixels > 1 else 0, "call": 1,
        }  # fmt: skip

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {"code_argmax": 1, f"code_argmax_a{self.x.bits}": self.unroll, "code_argmax_map": self.x.pixels > 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        return build(name, (*planes, Parameter("zero", "int32")), lambda b: _emit(self, b))


def _emit(spec: ArgMaxSpec, b: Body) -> None:
    x, T, best = spec.x, b.T, b.array("best", 1)
    with b.loop(x.pixels) as p:
        b.store(best, 0, -(1 << 16))
        with b.loop(x.channels // spec.unroll) as outer:
            for u in range(spec.unroll):
                c = outer * spec.unroll + u
                # Of equal codes the first is the largest.
                ranked = b.bind(x.load(b, b["x"], p, c) * 256 + (255 - c))
                b.store(best, 0, T.max(b.bind(best[0]), ranked))
        spec.y.store(b, b["y"], p, 0, 255 - T.bitwise_and(best[0], 255) + b["zero"])
