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
    mean : bool
        The mean is taken out; otherwise codes are taken less their zero point.
    alike : bool
        All channels have one scale and shift.
    """

    x: Plane
    y: Plane
    mode: Mode
    mean: bool = True
    alike: bool = False

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "layernorm" if self.mean else "rmsnorm"

    def instruction_features(self) -> Features:
        """Count codes and pixels."""
        part = f"{self.kind}{'alike' if self.alike else ''}"
        count, pixels = self.x.pixels * self.x.channels, self.x.pixels
        if self.mean and self.x.channels == 1:
            # Whose variance is 0, so that one root does for all pixels.
            part, count, pixels = f"{part}_lone", self.x.pixels, 1
            own = {f"norm_{self.mode}_lone_code": count, f"norm_{self.mode}_lone": 1}
            return {f"{part}_code": count, part: 1, **own, "call": 1}
        # The core's own arithmetic costs nothing beside them.
        own = {f"norm_{self.mode}_code": count, f"norm_{self.mode}_pixel": pixels}
        return {f"{part}_code": count, f"{part}_pixel": pixels, **own, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        part, unroll = f"code_{self.kind}", largest_divisor(self.x.channels, 4)
        return {part: 1, "code_norm_alike": self.alike, "code_norm_sum": unroll, f"norm_{self.mode}_code_once": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        number, channels = arithmetic_of(self.mode).number, self.x.channels
        own = 1 if self.alike else channels
        factors = (Parameter("s", number, own), Parameter("bias", number, own))
        scalars = (Parameter("epsilon", number), Parameter("shift", "int32"), Parameter("pad", "int32"), *SCALAR_RANGE)
        planes = (self.x.parameter("x"), self.y.parameter("y", constant=False))
        return build(name, (*planes, *factors, *scalars), lambda b: _emit_norm(self, b))


def _emit_norm(spec: LayerNormSpec, b: Body) -> None:
    x, channels, own = spec.x, spec.x.channels, arithmetic_of(spec.mode)
    sums = b.array("sums", 2)
    words: Any = b.array("inverse", own.norm_words) if own.norm_words else None
    unroll = largest_divisor(channels, 4)
    ends = (b["zero"], b["low"], b["high"])

    def load(pixel: Any, channel: Any) -> Any:
        code = x.load(b, b["x"], pixel, channel)
        return code if spec.mean else code - b["pad"]

    with b.loop(x.pixels) as p:
        b.store(sums, 0, 0)
        b.store(sums, 1, 0)
        with b.loop(channels // unroll) as outer:
            for i in range(unroll):
                code = b.bind(load(p, outer * unroll + i))
                if spec.mean:
                    b.store(sums, 0, sums[0] + code)
                b.store(sums, 1, sums[1] + code * code)
        operands = (sums[0], sums[1], channels, b["epsilon"])
        if words is None:
            inverse = [b.bind(b.call(own.norm_inverse, *operands, dtype=own.number))]
        else:
            b.do(own.norm_inverse, *operands, b.address(words, 0))
            inverse = [words[i] for i in range(own.norm_words)]
        with b.loop(channels) as c:
            centred = load(p, c) * channels - sums[0] if spec.mean else load(p, c) * channels
            scalars = [b[name] for name in own.norm_scalars]
            factors = (b["s"][0], b["bias"][0]) if spec.alike else (b["s"][c], b["bias"][c])
            value = b.call(f"t_norm_{spec.mode}", centred, *inverse, *factors, *scalars, *ends)
            spec.y.store(b, b["y"], p, c, value)
