"""Operators of two operands, either of which may be broadcast along any axis."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from tapc.base.arithmetic import Mode
from tapc.base.arithmetic.interface import Quick
from tapc.kernels.builder import Body, Kernel, Parameter, build
from tapc.kernels.layout import (
    SCALAR_RANGE,
    Plane,
    SumForm,
    add_codes,
    add_parameters,
    copies_of,
    each_channel,
    multiplier_parameter,
    requantize,
    requantized,
    result_code,
    sum_key,
    summed,
)
from tapc.kernels.schedule import largest_divisor
from tapc.kernels.spec import Features, KernelSpec

Operation = Literal["add", "sub", "mul", "min", "max"]
UNROLL = 8


@dataclass(frozen=True)
class BinarySpec(KernelSpec):
    """Requantized sum, difference, product, minimum or maximum.

    Attributes
    ----------
    operation : {"add", "sub", "mul", "min", "max"}
    a, b : Plane
        Operands; an extent of 1 is repeated to that of y.
    y : Plane
    mode : Mode
    form : SumForm
        Of sums and differences, which add the second operand's negative; empty otherwise.
    clamped : bool
        The result is clamped more narrowly than y's codes.
    tables : (bool, bool)
        Of a minimum or maximum, whether an operand's codes become those of y by a table; else they are y's already.
    quick : Quick
        How products are requantized; see `Arithmetic.quick`.
    """

    operation: Operation
    a: Plane
    b: Plane
    y: Plane
    mode: Mode
    form: SumForm
    clamped: bool
    tables: tuple[bool, bool] = (False, False)
    quick: Quick = ""

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return f"{self.operation}_a{self.a.bits}b{self.b.bits}o{self.y.bits}"

    @property
    def folded(self) -> "BinarySpec":
        """The same with as few axes as tell what is repeated: the loops of the kernel."""
        if not self.bytes_only:
            return self
        sides = [(p.height, p.width, p.channels) for p in (self.a, self.b, self.y)]
        axes = [axis for axis in zip(*sides, strict=True) if axis[2] > 1]
        merged: list[tuple[int, int, int]] = []
        for axis in axes:
            if merged and all((one > 1) == (other > 1) for one, other in zip(merged[-1], axis, strict=True)):
                a, b, y = merged.pop()
                axis = (a * axis[0], b * axis[1], y * axis[2])
            merged.append(axis)
        merged = [(1, 1, 1)] * (3 - len(merged)) + merged
        planes = [Plane(rows, columns, channels, 8) for rows, columns, channels in zip(*merged, strict=True)]
        return replace(self, a=planes[0], b=planes[1], y=planes[2])

    @property
    def bytes_only(self) -> bool:
        """Whether all codes are bytes."""
        return self.a.bits == self.b.bits == self.y.bits == 8

    @property
    def unroll(self) -> int:
        """Codes per iteration of the innermost loop."""
        return largest_divisor(self.folded.y.channels, UNROLL) if self.bytes_only else 2

    @property
    def chooses(self) -> bool:
        """Whether the result is one of the operands."""
        return self.operation in ("min", "max")

    def instruction_features(self) -> Features:
        """Count codes, what is loaded for them, and what surrounds them."""
        own = self.folded
        count, channels = own.y.pixels * own.y.channels, own.y.channels
        # What a whole pixel shares is read once.
        wide = [p.channels > 1 or channels == 1 for p in (own.a, own.b)]
        loads = [p.bits for p, each in zip((own.a, own.b), wide, strict=True) if each]
        lookups = [each for each, used in zip(wide, self.tables, strict=True) if used]
        part = "choose" if self.chooses else "mul" if self.operation == "mul" else f"sum{sum_key(self.form)}"
        # What is chosen has a table of its own for each side, what is computed has scalars in registers.
        side = part if self.operation in ("min", "max", "mul") else "sum"
        # Few 4-bit codes are spelled out, fewer where one takes more instructions.
        few = "few" if not self.bytes_only and channels // 2 <= (2 if self.chooses and not all(wide) else 1) else ""
        products: Features = {}
        if self.operation == "mul":
            products = requantized(self.mode, self.quick, clamped=False, count=count, part="product")
        return {
            f"binary_{part}_o{self.y.bits}{few}": count,
            f"binary_{part}_c": count if self.clamped and not self.chooses else 0,
            "binary_negate": count if self.operation == "sub" else 0,
            **products,
            **summed(self.form, count),
            f"binary_{side}_load8": count * loads.count(8),
            f"binary_{side}_load4": count * loads.count(4),
            "binary_table": count * sum(lookups),
            f"binary_{side}_shared": own.y.pixels * wide.count(False),
            # A loop of one turn is none.
            f"binary_{side}_loop": count / self.unroll if channels > self.unroll and not few else 0,
            "binary_pixel": own.y.pixels if own.y.width > 1 else 0,
            "binary_row": own.y.height if own.y.height > 1 else 0,
            f"binary_{side}_call": 1,
            "call": 1,
        }

    def code_features(self) -> Features:
        """Return the parts of the machine code."""
        part = "choose" if self.chooses else "mul" if self.operation == "mul" else f"sum{sum_key(self.form)}"
        narrow = (self.a.bits == 4) + (self.b.bits == 4)
        copies = self.unroll if self.bytes_only else copies_of(self.y.channels)
        return {
            **result_code(self.mode, self.quick, self.form, copies),
            "code_binary": 1, f"code_binary_{part}": copies,
            "code_binary_c": copies if self.clamped else 0, "code_binary_a4": narrow * copies,
            f"code_binary_o{self.y.bits}": 1, "code_binary_table": sum(self.tables) * copies,
        }  # fmt: skip

    def kernel(self, name: str) -> Kernel:
        """Generate the C function."""
        parameters: tuple[Parameter, ...] = (
            self.a.parameter("x"), self.b.parameter("r"), self.y.parameter("y", constant=False),
        )  # fmt: skip
        if self.chooses:
            sizes = zip(("x_table", "r_table"), (self.a.bits, self.b.bits), self.tables, strict=True)
            parameters += tuple(Parameter(name, "int8", 1 << bits) for name, bits, used in sizes if used)
        elif self.operation == "mul":
            zeros = (Parameter("x_zero", "int32"), Parameter("r_zero", "int32"))
            parameters += (multiplier_parameter(self.mode, 1), *zeros, *SCALAR_RANGE)
        else:
            parameters += add_parameters(self.form)
        return build(name, parameters, lambda b: _emit(self.folded, b))


def _emit(spec: BinarySpec, b: Body) -> None:
    y = spec.y
    with b.loop(y.height) as i, b.loop(y.width) as j:

        def code(plane: Plane, name: str, c: Any) -> Any:
            row, column = (i if plane.height > 1 else 0), (j if plane.width > 1 else 0)
            loaded = plane.load(b, b[name], row * plane.width + column, c if plane.channels > 1 else 0)
            if spec.chooses:
                used = spec.tables[name == "r"]
                return (
                    b.T.Cast("int32", b[f"{name}_table"][loaded + (128 if plane.bits == 8 else 0)]) if used else loaded
                )
            if spec.operation == "mul":
                return loaded - b[f"{name}_zero"]
            return 0 - loaded if name == "r" and spec.operation == "sub" else loaded

        planes = ((spec.a, "x"), (spec.b, "r"))
        # What a whole pixel shares is read once.
        shared = [b.bind(code(p, name, 0)) if p.channels == 1 < y.channels else None for p, name in planes]

        def one(c: Any) -> None:
            operands = [
                code(*plane, c) if known is None else known for plane, known in zip(planes, shared, strict=True)
            ]
            y.store(b, b["y"], i * y.width + j, c, _result(spec, b, *operands))

        if not spec.bytes_only:
            each_channel(b, y.channels, one)
            return
        with b.loop(y.channels // spec.unroll) as outer:
            for u in range(spec.unroll):
                one(outer * spec.unroll + u)


def _result(spec: BinarySpec, b: Body, left: Any, right: Any) -> Any:
    bits = 0 if spec.clamped else spec.y.bits
    if spec.operation == "mul":
        return requantize(b, spec.mode, b.bind(left * right), 0, bits, spec.quick)
    if not spec.chooses:
        return add_codes(b, spec.form, left, right, bits)
    return (b.T.min if spec.operation == "min" else b.T.max)(b.bind(left), b.bind(right))
