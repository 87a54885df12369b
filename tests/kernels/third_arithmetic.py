"""A third arithmetic, in one file: everything is rounded down, and the operands of a sum each on their own.

Run as a program it registers itself, then checks kernels on the host against the reference executor.
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tapc.base.arithmetic.interface import AddFactors, Ints, Multipliers, register_arithmetic
from tapc.base.arithmetic.intrinsic import CLAMP, Intrinsic
from tapc.base.arithmetic.modes.fixed_point import FixedPoint

SHIFT = 16
SUM = ("int32_t a", "int32_t b", "int32_t fa", "int32_t fb", "int32_t za", "int32_t zb", "int32_t zero")
NORM = ("int32_t centred", "int32_t inverse", "int32_t shift", "int32_t gain", "int32_t offset", "int32_t right")
ENDS = ("int32_t low", "int32_t high")


@dataclass(frozen=True)
class DownSum(AddFactors):
    """Factors with 16 fractional bits, and the operands' zero points."""

    a: int
    b: int
    zeros: tuple[int, int]

    @property
    def ratios(self) -> tuple[float, float]:
        return self.a / 2**SHIFT, self.b / 2**SHIFT

    def scalars(self, zero: int) -> dict[str, float]:
        return {"a": self.a, "b": self.b, "a_zero": self.zeros[0], "b_zero": self.zeros[1], "zero": zero}


@register_arithmetic
class Down(FixedPoint):
    """Codes are rounded down; normalization is that of fixed point."""

    name = "down"
    sum_scalars = ("a", "b", "a_zero", "b_zero", "zero")
    intrinsics = {  # noqa: RUF012
        "requantize": (
            Intrinsic(
                "t_requant_down", "int32_t",
                ("int32_t acc", "int32_t factor", "int32_t shift", "int32_t zero", *ENDS), None,
                "int64_t q = (((int64_t)acc * factor) >> shift) + zero;"
                " return q < low ? low : (q > high ? high : (int32_t)q);",
            ),
        ),
        "add": (
            Intrinsic(
                "t_add_down", "int32_t", (*SUM, *ENDS), None,
                f"int32_t q = ((a - za) * fa >> {SHIFT}) + ((b - zb) * fb >> {SHIFT}) + zero; {CLAMP}",
            ),
        ),
        "normalize": (
            Intrinsic(
                "t_norm_down", "int32_t", (*NORM, "int32_t zero", *ENDS), None,
                "return t_norm_fixed(centred, inverse, shift, gain, offset, right, zero, low, high);",
            ),
        ),
    }  # fmt: skip

    def quick(self, m: Multipliers, largest: Ints) -> str:
        return ""

    def requantize(self, acc: Ints, m: Multipliers, zero: int, low: int, high: int) -> Ints:
        return np.clip((acc * m.factor.astype(np.int64) >> m.shift.astype(np.int64)) + zero, low, high)

    def encode_sum(self, ratio_a: np.float32, ratio_b: np.float32, zeros: tuple[int, int, int]) -> DownSum:
        return DownSum(self.name, int(ratio_a * 2**SHIFT), int(ratio_b * 2**SHIFT), zeros[:2])

    def add(self, a: Ints, b: Ints, f: DownSum, zero: int, low: int, high: int) -> Ints:
        parts = ((a - f.zeros[0]) * f.a >> SHIFT) + ((b - f.zeros[1]) * f.b >> SHIFT)
        return np.clip(parts + zero, low, high)


def main(isa: str) -> None:
    """Check a convolution with a sum fused into it, a pooling, a sum and a normalization."""
    from kernels.programs import conv_op, lowered, program, random_codes, run_on_host, tensor
    from tapc.kernels.conv import ConvSpec
    from tapc.lower.fuse import fuse
    from tapc.lower.reference import execute
    from tapc.operators.add import Add
    from tapc.operators.layer_norm import LayerNorm
    from tapc.operators.pool import Pool

    rng = np.random.default_rng(0)
    shape = (5, 4, 8)
    x, middle, y, z = (tensor(name, shape, 8, rng) for name in ("x", "middle", "y", "z"))
    pooled = tensor("pooled", shape, 8, rng)
    middle, y, pooled = (replace(t, scale=x.scale * s) for t, s in ((middle, 0.7), (y, 1.3), (pooled, 1.1)))
    ratios = (np.float32(x.scale / pooled.scale) / np.arange(1, 10)).astype(np.float32)
    ops = [
        conv_op(rng, x, middle, (3, 3), (1, 1), (1, 1, 1, 1), 1, 4),
        Add("add", ("middle", "x"), "y", y.low, y.high),
        Pool("pool", ("y",), "pooled", "average", (3, 3), (1, 1), (1, 1, 1, 1), False, ratios, -128, 127),
        Add("last", ("pooled", "y"), "sum", -128, 127),
        LayerNorm("norm", ("sum",), "z", rng.uniform(10, 60, 8).astype(np.float32), np.ones(8, np.float32), 1e-5),
    ]
    p = fuse(program(ops, [x, middle, y, pooled, replace(pooled, name="sum"), z], "down", isa))
    specs = [step.spec for step in lowered(p).steps]
    fused = next(spec for spec in specs if isinstance(spec, ConvSpec))
    assert fused.sum_form == "down"
    codes = random_codes(x, 3, rng)
    with tempfile.TemporaryDirectory() as folder:
        np.testing.assert_array_equal(run_on_host(p, codes, Path(folder)), execute(p, codes))
    names = "\n".join(spec.kernel("k").source for spec in specs)
    assert all(name in names for name in ("t_requant_down", "t_add_down", "t_norm_down"))


if __name__ == "__main__":
    main(sys.argv[1])
