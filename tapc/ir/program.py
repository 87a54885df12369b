"""The integer program: tensors, operators, and the kernel calls that they become.

An operator is a class of its own, in `tapc.operators`; what every stage asks of it are the methods of `Op`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints, Mode
from tapc.base.isa import Isa
from tapc.ir.bands import Patch, Rows, RowWindow
from tapc.ir.channels import Bounds, Kept, anything
from tapc.ir.overlap import Overlap
from tapc.ir.states import KeptState
from tapc.kernels.layout import Plane
from tapc.kernels.packing import row_bytes
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import KernelSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Tensor:
    """A quantized activation, stored in NHWC order.

    Attributes
    ----------
    name : str
        Name in the ONNX graph.
    shape : (int, int, int)
        Height, width, channels; vectors are 1 x 1 x F.
    bits : {4, 8, 16, 32}
        Unsigned 4-bit, or signed 8-bit or 16-bit codes; 32 for tokens of an input, and outputs of kept networks.
    scale : float
        float32 value: real = scale * (code - zero).
    zero : int
        Zero point.
    tokens : int
        How many tokens there are.
    """

    name: str
    shape: tuple[int, int, int]
    bits: int
    scale: float
    zero: int
    tokens: int = 0

    @property
    def low(self) -> int:
        """Smallest code."""
        return 0 if self.tokens else {4: 0, 16: -32768, 32: -(2**31)}.get(self.bits, -128)

    @property
    def high(self) -> int:
        """Largest code."""
        if self.tokens:
            return self.tokens - 1
        return {4: 15, 16: 32767, 32: 2**31 - 1}.get(self.bits, 127)

    @property
    def row(self) -> int:
        """Bytes of a row in the arena."""
        return self.shape[1] * row_bytes(self.shape[2], self.bits)

    @property
    def bytes(self) -> int:
        """Bytes in the arena."""
        return self.shape[0] * self.row

    @property
    def plane(self) -> Plane:
        """The kernel's view of it."""
        return Plane(*self.shape, self.bits)

    @property
    def quantization(self) -> tuple[float, int]:
        """Scale and zero point."""
        return self.scale, self.zero

    def __str__(self) -> str:
        if self.tokens:
            return f"{self.name}: int32[{'x'.join(map(str, self.shape))}] tokens below {self.tokens}"
        kind = "uint4" if self.bits == 4 else f"int{self.bits}"
        return f"{self.name}: {kind}[{'x'.join(map(str, self.shape))}] scale={self.scale:.8g} zero={self.zero}"


@dataclass(frozen=True, eq=False)
class Constant:
    """A read-only array of the library, made when it is first asked for: planning needs no weights.

    Attributes
    ----------
    role : {"w", "b", "s", "t", "l", "m", "c"}
        Packed weights, bias, requantization factors, table, a second table, operand, commands; each once in a step.
    words : int
        32-bit words.
    make : callable
        Returns the array of uint32, int32 or float32.
    alignment : int
        Bytes that its address is a multiple of.
    """

    role: str
    words: int
    make: Callable[[], NDArray[Any]]
    alignment: int = 4

    @cached_property
    def data(self) -> NDArray[Any]:
        """The array, flat."""
        data = self.make()
        assert data.nbytes == self.bytes, self.role
        return data

    @property
    def bytes(self) -> int:
        """Bytes in flash."""
        return 4 * self.words


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel call.

    Attributes
    ----------
    op : Op
        The operator that it belongs to.
    spec : KernelSpec
    tensors : dict of str to str
        Kernel parameter -> tensor, inputs first, `y` the output.
    constants : dict of str to Constant
    scalars : dict of str to int or float
    distance : dict of str to Overlap
        Input tensor that dies here -> where the output may overlap it; inputs that are missing must not overlap.
    staged : tuple of str
        Tensors that its scratch memory may lie over: an input that is read whole before anything is written, where it
        dies here; an output that is written when the scratch memory has been read.
    """

    op: "Op"
    spec: KernelSpec
    tensors: dict[str, str]
    constants: dict[str, Constant] = field(default_factory=dict)
    scalars: dict[str, int | float] = field(default_factory=dict)
    distance: dict[str, Overlap] = field(default_factory=dict)
    staged: tuple[str, ...] = ()

    @property
    def arguments(self) -> int:
        """Arguments of the call, before unused ones are dropped."""
        return len(self.tensors) + len(self.constants) + len(self.scalars) + bool(self.spec.scratch_bytes)

    @property
    def output(self) -> str:
        """Tensor that the step writes."""
        return self.tensors["y"]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that the step reads."""
        return tuple(name for key, name in self.tensors.items() if key != "y")


@dataclass(frozen=True, eq=False)
class Op:
    """Base of the operators: what every stage asks of one.

    Attributes
    ----------
    name : str
        ONNX node name.
    inputs : tuple of str
        Activation tensors read.
    output : str
        Activation tensor written.
    """

    name: str
    inputs: tuple[str, ...]
    output: str

    @property
    def weight_bits(self) -> int | None:
        """Bits of its weights; None where it has none."""
        return None

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of the network that it computes: itself, or those that became one operator."""
        return (self.name,)

    @property
    def in_place(self) -> bool:
        """Whether its output is its input under another shape, or a part of it: no kernel runs."""
        return False

    @property
    def begin(self) -> int:
        """Where in its input's memory its output begins, in bytes, where it is `in_place`."""
        return 0

    def __str__(self) -> str:
        def show(value: Any) -> str:
            return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else str(value)

        base = {"name", "inputs", "output"}
        fields = {k: v for k, v in vars(self).items() if k not in base and v is not None}
        return f"{type(self).__name__.lower()}<{', '.join(f'{k}={show(v)}' for k, v in fields.items())}>"

    def kind(self, spec: KernelSpec) -> str:
        """Return what a report calls it where this kernel computes it."""
        return type(self).__name__.lower()

    def easier_scales(self, program: "Program", scales: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return scales of its weights, next to these, at which its kernel has less to do; None where it has none."""
        return None

    def macs(self, program: "Program") -> int:
        """Return its multiply-accumulates, padding included."""
        return 0

    def check(self, tensors: Mapping[str, Tensor], mode: Mode) -> None:
        """Raise ValueError where integers cannot express the ratio of its scales."""

    def reference(self, program: "Program", x: list[Ints]) -> Ints:
        """Compute it in exact integers.

        Parameters
        ----------
        program : Program
            Holds its tensors.
        x : list of ndarray of int64, shape (N, H, W, C)
            Codes of its inputs.

        Returns
        -------
        ndarray of int64, shape (N, H, W, C)
        """
        raise NotImplementedError

    def bounds(self, program: "Program", x: list[Bounds]) -> Bounds:
        """Bound every code of its output, given those of its inputs; `monotone` does it for what keeps order."""
        y = program.tensors[self.output]
        return anything(y.shape, y.low, y.high)

    def cleared(self, program: "Program", known: Mapping[str, Bounds]) -> Self:
        """Return it without weights on what `known` shows to be constant."""
        return self

    def keep(self, kept: Kept) -> None:
        """Add to `kept` the channels that it needs; by default all that it reads and writes."""
        for name in (*self.inputs, self.output):
            kept.masks[name][:] = True

    def sliced(self, kept: Kept) -> Self:
        """Return it for the channels that are kept alone."""
        return self

    def with_bits(self, program: "Program", weights: Mapping[str, int], changed: Callable[[Tensor], Tensor]) -> Self:
        """Return it with other bits of its weights and tensors, for planning and cost only."""
        return self

    def row_windows(self, program: "Program") -> tuple[RowWindow, ...] | None:
        """Return which rows of each input a row of its output reads; None where that is no window of rows.

        Of several inputs only the first may have padding.
        """
        return None

    def banded(self, inputs: tuple[str, ...], output: str, rows: int, pads: tuple[int, int]) -> Self:
        """Return it for a band: so many rows of its output, of those rows of its inputs that these need.

        `inputs` and `output` are tensors of those rows; `pads` tells rows of padding above and below the first input.
        """
        return replace(self, inputs=inputs, output=output)

    def steps(self, program: "Program", schedules: Mapping[str, Schedule]) -> list[Step]:
        """Return its kernel calls.

        Parameters
        ----------
        program : Program
        schedules : mapping of str to Schedule
            Operator -> schedule, in place of the default.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Program:
    """A network in integers.

    Attributes
    ----------
    name : str
    mode : Mode
        How accumulators are requantized.
    tensors : dict of str to Tensor
    ops : tuple of Op
        In execution order.
    inputs, outputs : tuple of str
        Tensors of the interface; two outputs may be one tensor, and an output an input.
    isa : {"dsp", "mve", "scalar"}
        Instruction set family of the core, for which kernels are chosen.
    live : dict of str to ndarray of bool
        Tensor -> which of the network's channels it holds; those that are not listed hold all.
    prefix : str
        What the names of its C library begin with; empty: a prefix made of `name`.
    input_names, output_names : tuple of str
        What the network calls its inputs and outputs; empty: as their tensors.
    views : dict of str to Rows
        Tensor that has no memory of its own -> the rows of another one that it is.
    bands : dict of str to Rows
        Tensor -> the rows that it holds of the network's tensor, which may be nowhere as a whole.
    patches : tuple of Patch
        The parts that are computed in bands.
    states : tuple of KeptState
        What lives between calls, as the last of `inputs` and of `outputs`.
    """

    name: str
    mode: Mode
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    isa: Isa = "dsp"
    live: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    prefix: str = ""
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    views: dict[str, Rows] = field(default_factory=dict)
    bands: dict[str, Rows] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    states: tuple[KeptState, ...] = ()

    @property
    def given(self) -> tuple[str, ...]:
        """The inputs that come with every call."""
        return self.inputs[: len(self.inputs) - len(self.states)]

    @property
    def results(self) -> tuple[str, ...]:
        """The outputs that a caller reads."""
        return self.outputs[: len(self.outputs) - len(self.states)]

    @property
    def input(self) -> str:
        """The one input; ValueError where there are several."""
        (name,) = self.given
        return name

    @property
    def output(self) -> str:
        """The one output; ValueError where there are several."""
        (name,) = self.results
        return name

    def whole(self, name: str) -> tuple[str, int]:
        """Return the tensor whose memory holds a tensor, and which of its rows is the first."""
        first = 0
        while name in self.views:
            name, first = self.views[name].of, first + self.views[name].first
        return name, first

    def with_ops(self, ops: tuple[Op, ...]) -> "Program":
        """Return a copy with other operators; tensors that nothing uses are dropped."""
        used = {*self.inputs, *self.outputs}.union(*({*op.inputs, op.output} for op in ops))
        seen = {name for name in used if name in self.views}
        while seen:
            whole = {self.views[name].of for name in seen} - used
            used |= whole
            seen = whole & set(self.views)

        def kept(own: dict[str, T]) -> dict[str, T]:
            return {k: v for k, v in own.items() if k in used}

        return replace(self, ops=ops, tensors=kept(self.tensors), live=kept(self.live), views=kept(self.views),
                       bands=kept(self.bands))  # fmt: skip

    def __str__(self) -> str:
        lines = [f"program {self.name} (requantization: {self.mode})"]
        lines += [f"input  {self.tensors[name]}" for name in self.inputs]
        for op in self.ops:
            lines.append(f"{op.name} = {op}({', '.join(op.inputs)})")
            live = self.live.get(op.output)
            channels = "" if live is None else f" ({live.sum()} of {len(live)} channels)"
            lines.append(f"    -> {self.tensors[op.output]}{channels}")
        return "\n".join([*lines, *(f"output {name}" for name in self.outputs)])
