"""Normalization of each pixel over its channels."""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class LayerNormSpec(KernelSpec):
    """Normalization of each pixel over its channels, 8-bit codes.

    Attributes
    ----------
    x, y : Plane
    mode : {"float", "fixed"}
    """

    x: Plane
    y: Plane
    mode: Mode

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "layernorm"

    def instruction_features(self) -> Features:
        """Count codes and pixels."""
        return {"layernorm_code": self.x.pixels * self.x.channels, "layernorm_pixel": self.x.pixels, "call": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        number, channels = ("float32" if self.mode == "float" else "int32"), self.x.channels
        factors = (Parameter("s", number, channels), Parameter("bias", number, channels))
        scalars = (Parameter("epsilon", number), Parameter("shift", "int32"), *SCALAR_RANGE)
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        return build(name, (*planes, *factors, *scalars), lambda b: _emit_norm(self, b))


def _emit_norm(spec: LayerNormSpec, b: Body) -> None:
    x, channels = spec.x, spec.x.channels
    sums = b.array("sums", 2)
    inverse: Any = b.array("inverse", 2) if spec.mode == "fixed" else None
    unroll = largest_divisor(channels, 4)
    ends = (b["zero"], b["low"], b["high"])
    with b.loop(x.pixels) as p:
        b.store(sums, 0, 0)
        b.store(sums, 1, 0)
        with b.loop(channels // unroll) as outer:
            for i in range(unroll):
                code = b.bind(x.load(b, b["x"], p, outer * unroll + i))
                b.store(sums, 0, sums[0] + code)
                b.store(sums, 1, sums[1] + code * code)
        operands = (sums[0], sums[1], channels, b["epsilon"])
        if spec.mode == "float":
            scale = b.bind(b.call("t_norm_inverse", *operands, dtype="float32"))
        else:
            b.do("t_norm_inverse_fixed", *operands, b.address(inverse, 0))
        with b.loop(channels) as c:
            centred = x.load(b, b["x"], p, c) * channels - sums[0]
            if spec.mode == "float":
                value = b.call("t_norm_float", centred, scale, b["s"][c], b["bias"][c], *ends)
            else:
                rest = (b["s"][c], b["bias"][c], b["shift"], *ends)
                value = b.call("t_norm_fixed", centred, inverse[0], inverse[1], *rest)
            spec.y.store(b, b["y"], p, c, value)
