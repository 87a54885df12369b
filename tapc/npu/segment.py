"""Part of a network on an NPU, as one operator of the program beside those of the CPU."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.ir.overlap import Overlap
from tapc.ir.part import Part
from tapc.ir.program import Constant, Op, Program, Step, Tensor
from tapc.kernels.builder import Kernel, Parameter
from tapc.kernels.copies import run_features
from tapc.kernels.schedule import Schedule
from tapc.kernels.spec import Features, KernelSpec
from tapc.npu.optimized import Optimized

ALIGNMENT = 16
"""Of commands and constants: what the NPU's registers of addresses take."""
_LINE = 32  # bytes of a line of the CPU's cache; what activations are aligned to
_WORD = 4
Move = tuple[int, int]
Operators = tuple[tuple[Op, ...], dict[str, Tensor]]


@dataclass(frozen=True)
class SegmentSpec(KernelSpec):
    """What the CPU does for a part of a network on the NPU: it copies in, starts, waits, and copies out.

    Attributes
    ----------
    number : int
        Of the part.
    inputs, outputs : tuple of (int, int)
        Where each lies in the NPU's arena, -1 where nothing reads it, and its bytes. The output that the program sees
        has all of them, one behind the other.
    begins : tuple of int
        Where each output begins in it.
    arena : int
        Bytes for the NPU's activations.
    commands : int
        Words.
    first : int
        Input that is copied before the others: it may lie in the scratch memory; -1 where there is none.
    """

    number: int
    inputs: tuple[Move, ...]
    outputs: tuple[Move, ...]
    begins: tuple[int, ...]
    arena: int
    commands: int
    first: int = -1

    @property
    def kind(self) -> str:
        """Short name of the code shape."""
        return "npu"

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the NPU's arena, and those that aligning it takes: memory of the network begins at whole words."""
        return self.arena + _LINE - _WORD

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Of its function."""
        inputs = (Parameter(f"x{i}", "int8", size) for i, (offset, size) in enumerate(self.inputs) if offset >= 0)
        end = self.begins[-1] + self.outputs[-1][1]
        return (
            *inputs, Parameter("commands", "int32", self.commands), Parameter("constants", "int32", 1),
            Parameter("y", "int8", end, constant=False),
            Parameter("scratch", "int8", self.scratch_bytes, constant=False),
        )  # fmt: skip

    def instruction_features(self) -> Features:
        """Count what is copied; the CPU waits meanwhile."""
        found: Features = {}
        for offset, size in (*self.inputs, *self.outputs):
            own = run_features("copy", 1, size, words=offset % _WORD == 0) if offset >= 0 else {}
            found = {key: found.get(key, 0) + own.get(key, 0) for key in {*found, *own}}
        return found

    def code_features(self) -> Features:
        """Nothing: the driver is no kernel."""
        return {}

    def kernel(self, name: str) -> Kernel:
        """Return its prototype: the driver's file has the function."""
        return Kernel(name, self.parameters, "")


@dataclass(frozen=True, eq=False)
class Segment(Op):
    """Part of a network on the NPU; its output holds all of its outputs.

    Attributes
    ----------
    number : int
    outputs : tuple of str
        Tensors of the program, in the order in which they lie in the output.
    optimized : Optimized
    outputs_at_once : int
        See `tapc.npu.executor.Executor`.
    """

    number: int
    outputs: tuple[str, ...]
    optimized: Optimized
    outputs_at_once: int

    @property
    def spec(self) -> SegmentSpec:
        """Its kernel."""
        own, places = self.optimized, {place.name: place for place in self.optimized.outputs}
        outputs = tuple((places[name].offset, places[name].bytes) for name in self.outputs)
        return SegmentSpec(
            self.number, tuple((place.offset, place.bytes) for place in own.inputs), outputs,
            begins(size for _, size in outputs)[0], own.size, len(own.words),
        )  # fmt: skip

    def __str__(self) -> str:
        return f"npu<{len(self.optimized.words)} words of commands, {self.optimized.constants.size} bytes of constants>"

    def reference(self, program: Program, x: list[Ints]) -> Ints:
        """Run its commands."""
        given = {name: codes.astype(np.int8) for name, codes in zip(self.inputs, x, strict=True)}
        found = self.optimized.run(given, self.outputs_at_once)
        whole = np.zeros((len(x[0]), *program.tensors[self.output].shape), np.int64)
        for name, begin in zip(self.outputs, self.spec.begins, strict=True):
            own = found[name].reshape(len(x[0]), -1)
            whole.reshape(len(x[0]), -1)[:, begin : begin + own.shape[1]] = own
        return whole

    def steps(self, program: Program, schedules: Mapping[str, Schedule]) -> list[Step]:
        """Return the call of its function."""
        spec, own = self.spec, self.optimized
        names = [place.name for place in own.inputs]
        # All inputs are copied before the output is written, and the scratch memory is read before.
        y, staged = program.tensors[self.output], [self.output] if len(self.outputs) == 1 else []
        distance = {name: Overlap(-(program.tensors[name].bytes + y.bytes)) for name in names}
        later = {name for op in program.ops[program.ops.index(self) + 1 :] for name in op.inputs}
        dying = [i for i, name in enumerate(names) if name not in later and name not in program.outputs]
        if dying:
            spec = replace(spec, first=max(dying, key=lambda i: own.inputs[i].bytes))
            staged.append(names[spec.first])
        tensors = {f"x{i}": name for i, name in enumerate(names)} | {"y": self.output}
        constants = {
            "commands": Constant("c", len(own.words), lambda: own.words.astype(np.uint32), ALIGNMENT),
            "constants": Constant("w", max(1, -(-own.constants.size // _WORD)), lambda: _words(own), ALIGNMENT),
        }
        return [Step(self, spec, tensors, constants, distance=distance, staged=tuple(staged))]


def begins(sizes: Iterable[int]) -> tuple[tuple[int, ...], int]:
    """Return where tensors of these bytes begin, one behind the other at whole words, and where the last one ends."""
    found, at = [], 0
    for size in sizes:
        at = -(-at // _WORD) * _WORD
        found.append(at)
        at += size
    return tuple(found), at


def operators(name: str, number: int, program: Program, optimized: Optimized, outputs_at_once: int) -> Operators:
    """Return what stands in a program for a part of it on the NPU.

    Parameters
    ----------
    name : str
        What the operator is called, and the tensor that holds several outputs.
    number : int
    program : Program
        The part.
    optimized : Optimized
        What it became.
    outputs_at_once : int
        See `tapc.npu.executor.Executor`.

    Returns
    -------
    tuple of Op
        The segment, and its outputs where there are several.
    dict of str to Tensor
        Tensors that it needs besides.
    """
    inputs = tuple(place.name for place in optimized.inputs)
    outputs = program.outputs
    if len(outputs) == 1:
        return (Segment(name, inputs, outputs[0], number, outputs, optimized, outputs_at_once),), {}
    firsts, end = begins(program.tensors[output].bytes for output in outputs)
    whole = Tensor(name, (1, 1, end), 8, 1.0, 0)
    segment = Segment(name, inputs, name, number, outputs, optimized, outputs_at_once)
    parts = (Part(f"{name}: {out}", (name,), out, first) for out, first in zip(outputs, firsts, strict=True))
    return (segment, *parts), {name: whole}


def _words(own: Optimized) -> NDArray[Any]:
    data = np.zeros(max(1, -(-own.constants.size // _WORD)) * _WORD, np.uint8)
    data[: own.constants.size] = own.constants
    return data.view(np.uint32)
