"""Functions of one code by a table, where the code or the result has 16 bits."""

from dataclasses import dataclass
from typing import Any

from tapc.base.arithmetic.tables16 import SIDE, Form
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import Plane
from tapc.kernels.spec import Features, KernelSpec


@dataclass(frozen=True)
class WideTableSpec(KernelSpec):
    """A kernel instance, code by code.

    Attributes
    ----------
    x, y : Plane
    form : {"each", "lines", "octaves"}
    entries : int
        Of the table.
    """

    x: Plane
    y: Plane
    form: Form
    entries: int

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"wide_table_{self.form}{'2' if self._signed else ''}o{self.y.bits}"

    @property
    def _signed(self) -> bool:
        return self.form == "octaves" and self.entries == 2 * SIDE

    def instruction_features(self) -> Features:
        """Count codes."""
        return {self.kind: self.y.pixels * self.y.channels, "call": 1}

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        return {f"code_{self.kind}": 1}

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        parameters = (
            self.x.parameter("x"),
            self.y.parameter("y", constant=False),
            Parameter("table", "int16", self.entries),
            Parameter("low", "int32"),
            Parameter("high", "int32"),
        )

        def emit(b: Body) -> None:
            with b.loop(self.y.pixels * self.y.channels) as i:
                code = self._result(b, b.bind(self.x.load(b, b["x"], 0, i)))
                self.y.store(b, b["y"], 0, i, b.T.min(b.T.max(code, b["low"]), b["high"]))

        return build(name, parameters, emit)

    def _result(self, b: Body, x: Any) -> Any:
        if self.form == "each":
            return b.T.Cast("int32", b["table"][x + 128])
        if self.form == "lines":
            found = b.call("t_lines16", x, b.address(b["table"], 0))
        else:
            size = b.T.min(b.T.max(x, 0 - x), 32767)
            first = b.T.bitwise_and(b.T.shift_right(x, b.T.int32(31)), b.T.int32(SIDE)) if self._signed else 0
            found = b.call("t_octaves16", size, b.address(b["table"], first))
            if not self._signed:
                found = b.T.Select(x < 0, b.T.Cast("int32", b["table"][SIDE]), found)
        found = b.bind(found)
        return found if self.y.bits == 16 else b.T.shift_right(found + 128, b.T.int32(8))
