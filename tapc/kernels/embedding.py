"""Rows of a table that tokens choose."""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import SCALAR_RANGE, Plane, multiplier_parameter, requantize, result_code
from tapc.kernels.packing import row_bytes
from tapc.kernels.spec import Features, KernelSpec

_MOST_BYTES = 1 << 30
"""Of a table: how many rows it has does not change the kernel."""


@dataclass(frozen=True)
class EmbeddingSpec(KernelSpec):
    """For each token a row of a table, brought to the scale of the result, one factor per channel.

    Attributes
    ----------
    y : Plane
        A pixel for each token; 8 bits.
    bits : {2, 4, 8}
        Of the table's codes, which lie side by side in bytes from the lowest bits on; rows begin with a byte.
    mode : Mode
    quick : Quick
        How codes are requantized; see `Arithmetic.quick`.
    """

    y: Plane
    bits: int
    mode: Mode
    quick: Quick = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"embedding_w{self.bits}o{self.y.bits}"

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return row_bytes(self.y.channels, self.bits)

    def instruction_features(self) -> Features:
        """Count codes and tokens."""
        count = self.y.pixels * self.y.channels
        parts: Features = {f"embedding_w{self.bits}": count, "embedding_token": self.y.pixels, "call": 1}
        # What floats in software cost depends on how many bits their codes have.
        return parts | {f"embed_{self.mode}{self.quick}_w{self.bits}": count}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        channels, per_byte = self.y.channels, 8 // self.bits
        copies = per_byte * (channels >= per_byte) + channels % per_byte
        own = result_code(self.mode, self.quick, "", copies)
        return {"code_embedding": 1, f"code_embedding_w{self.bits}": copies, **own}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        y, per_byte, half = self.y, 8 // self.bits, 1 << (self.bits - 1)
        parameters = (
            Parameter("x", "int32", y.pixels),
            y.parameter("y", constant=False),
            Parameter("table", "int8", _MOST_BYTES),
            multiplier_parameter(self.mode, y.channels),
            *SCALAR_RANGE,
        )

        def emit(b: Body) -> None:
            with b.loop(y.pixels) as token:
                start = b.bind(b["x"][token] * self.row)

                def one(byte: Any, field: int) -> None:
                    code = b.T.Cast("int32", b["table"][start + byte])
                    if self.bits < 8:
                        code = (((code >> (field * self.bits)) & (2 * half - 1)) ^ half) - half
                    channel = byte * per_byte + field
                    y.store(b, b["y"], token, channel, requantize(b, self.mode, code, channel, 0, self.quick))

                with b.loop(y.channels // per_byte) as byte:
                    for field in range(per_byte):
                        one(byte, field)
                for field in range(y.channels % per_byte):
                    one(y.channels // per_byte, field)

        return build(name, parameters, emit)
