"""Normalization of each pixel over its channels."""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode, arithmetic_of
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
    mode : Mode
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
        number, channels = arithmetic_of(self.mode).number, self.x.channels
        factors = (Parameter("s", number, channels), Parameter("bias", number, channels))
        scalars = (Parameter("epsilon", number), Parameter("shift", "int32"), *SCALAR_RANGE)
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        return build(name, (*planes, *factors, *scalars), lambda b: _emit_norm(self, b))


def _emit_norm(spec: LayerNormSpec, b: Body) -> None:
    x, channels, own = spec.x, spec.x.channels, arithmetic_of(spec.mode)
    sums = b.array("sums", 2)
    words: Any = b.array("inverse", own.norm_words) if own.norm_words else None
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
        if words is None:
            inverse = [b.bind(b.call(own.norm_inverse, *operands, dtype=own.number))]
        else:
            b.do(own.norm_inverse, *operands, b.address(words, 0))
            inverse = [words[i] for i in range(own.norm_words)]
        with b.loop(channels) as c:
            centred = x.load(b, b["x"], p, c) * channels - sums[0]
            scalars = [b[name] for name in own.norm_scalars]
            value = b.call(f"t_norm_{spec.mode}", centred, *inverse, b["s"][c], b["bias"][c], *scalars, *ends)
            spec.y.store(b, b["y"], p, c, value)
