"""Which operators go to the NPU, and in which parts: what TFLite does not have, or vela leaves, stays on the CPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from tapc.base.errors import UnsupportedError
from tapc.base.isa import Isa
from tapc.graph.network import WEIGHT_BITS
from tapc.hardware.npu import Npu
from tapc.ir.lowering import QdqGraph
from tapc.ir.program import Op, Program
from tapc.ir.tflite import TfliteNetwork, tflite_of, without_form
from tapc.lower.from_onnx import program_from_onnx
from tapc.npu.optimized import Optimized, left_by_vela, read
from tapc.npu.segment import operators
from tapc.npu.vela import Compiled, VelaError, compile_file

_ONLY_MOVES = "stands among moves alone, for which the NPU is not worth a start"
_LEFT = "vela leaves it to the CPU"
_FAILS = "vela fails at it"
_NAMED = 3


@dataclass(frozen=True, eq=False)
class NpuPart:
    """Operators that the NPU computes one after the other.

    Attributes
    ----------
    program : Program
        They alone.
    network : TfliteNetwork
        Their file.
    compiled : Compiled
    optimized : Optimized
        What vela made of it.
    """

    program: Program
    network: TfliteNetwork
    compiled: Compiled
    optimized: Optimized


@dataclass(frozen=True, eq=False)
class Divided:
    """A network between NPU and CPU.

    Attributes
    ----------
    source : Program
        The network.
    program : Program
        The same with an operator for each of the parts.
    parts : tuple of NpuPart
        In order of execution.
    reasons : mapping of str to str
        Operator that the CPU computes -> why.
    file : TfliteNetwork or None
        The whole network, where TFLite has all of its operators.
    compiled : Compiled or None
        What vela made of that.
    """

    source: Program
    program: Program
    parts: tuple[NpuPart, ...]
    reasons: Mapping[str, str]
    file: TfliteNetwork | None = None
    compiled: Compiled | None = None


def placed(model: onnx.ModelProto, name: str, npu: Npu, isa: Isa) -> NpuPart | Divided:
    """Compile a QDQ network for an NPU, and for the CPU beside it what the NPU does not take.

    Parameters
    ----------
    model : ModelProto
    name : str
    npu : Npu
    isa : {"dsp", "mve", "scalar"}
        Of the CPU.

    Returns
    -------
    NpuPart or Divided
        The first where the NPU takes all of it.

    Raises
    ------
    UnsupportedError
        The NPU takes nothing, or not all and it is none that tapc can start for parts.
    """
    program, weights = program_from_onnx(model, name, "tflite", isa, detections=False), QdqGraph(model)
    reasons, file, compiled = without_form(program, weights), None, None
    if not reasons:
        file = tflite_of(program, weights, f"tapc, {name}")
        try:
            compiled = compile_file(file.blob, npu)
        except VelaError:
            if len(program.ops) == 1 or not npu.executed:
                raise
        else:
            reasons = dict.fromkeys(left_by_vela(file, compiled), _LEFT)
            if not reasons:
                return NpuPart(program, file, compiled, read(compiled.blob))
    if not npu.executed:
        raise UnsupportedError(
            f"{npu.accelerator} does not take all of {name}, and tapc starts parts on a U55 alone: {_told(reasons)}"
        )
    return replace(divide(program, weights, npu, reasons), file=file, compiled=compiled)


def divide(program: Program, weights: QdqGraph, npu: Npu, reasons: Mapping[str, str] | None = None) -> Divided:
    """Divide a network between an NPU and its CPU.

    Parameters
    ----------
    program : Program
        As `program_from_onnx` returns it, of the arithmetic `tflite`, for the core beside the NPU.
    weights : QdqGraph
        The graph that it is of.
    npu : Npu
    reasons : mapping of str to str, optional
        Operators that stay on the CPU, and why; by default those without a form in TFLite.

    Raises
    ------
    UnsupportedError
        The NPU takes none of its operators.
    """
    cpu = dict(reasons) if reasons else without_form(program, weights)
    made: dict[tuple[str, ...], NpuPart] = {}
    while True:
        groups, before = grouped(program, set(cpu)), len(cpu)
        for ops in (own for own in groups if own.on_npu):
            names = tuple(op.name for op in ops.ops)
            if names not in made:
                found = _compiled(_alone(program, ops.ops), weights, npu)
                if isinstance(found, dict):
                    cpu |= found
                else:
                    made[names] = found
        if len(cpu) == before:
            break
    parts = [made[tuple(op.name for op in own.ops)] for own in groups if own.on_npu]
    if not parts:
        raise UnsupportedError(f"the NPU takes no operator of {program.name}: {_told(cpu)}")
    return Divided(program, _joined(program, groups, parts, npu.outputs_at_once), tuple(parts), cpu)


@dataclass(frozen=True, eq=False)
class Group:
    """Operators that follow each other on the same machine."""

    on_npu: bool
    ops: tuple[Op, ...]


def grouped(program: Program, cpu: set[str]) -> list[Group]:
    """Return the operators in as few parts for the NPU as can be, and those of the CPU before, between and behind.

    Parameters
    ----------
    program : Program
    cpu : set of str
        Operators of the CPU.
    """
    # How often the way to an operator changes from the NPU to the CPU, at most: of the same number none of the NPU's
    # needs a result of the CPU that needs one of theirs.
    depth: dict[str, int] = {}
    makers = {op.output: op for op in program.ops}
    for op in program.ops:
        before = [makers[name] for name in op.inputs if name in makers]
        own = op.name in cpu
        depth[op.output] = max((depth[o.output] + (own and o.name not in cpu) for o in before), default=0)
    found = []
    for level in range(max(depth.values(), default=0) + 1):
        here = [op for op in program.ops if depth[op.output] == level]
        for on_npu in (False, True):
            ops = tuple(op for op in here if (op.name not in cpu) == on_npu)
            if ops:
                found.append(Group(on_npu, ops))
    return found


def _alone(program: Program, ops: Sequence[Op]) -> Program:
    """Return some operators as a program: what they read of others is its inputs, what others read its outputs."""
    made, read_elsewhere = [op.output for op in ops], set(program.outputs)
    inputs = dict.fromkeys(name for op in ops for name in op.inputs if name not in made)
    for op in program.ops:
        if op not in ops:
            read_elsewhere |= set(op.inputs)
    outputs = tuple(name for name in made if name in read_elsewhere)
    own = replace(program, inputs=tuple(inputs), outputs=outputs, input_names=(), output_names=())
    return own.with_ops(tuple(ops))


def _compiled(program: Program, weights: QdqGraph, npu: Npu) -> NpuPart | dict[str, str]:
    """Ask vela; returns which operators stay on the CPU, and why, where it does not take all."""
    network = tflite_of(program, weights, f"tapc, {program.name}")
    if not network.makers:
        return dict.fromkeys((op.name for op in program.ops), _ONLY_MOVES)
    try:
        compiled = compile_file(network.blob, npu)
    except VelaError:
        return _failing(program, weights, npu)
    if left := left_by_vela(network, compiled):
        return dict.fromkeys(left, _LEFT)
    return NpuPart(program, network, compiled, read(compiled.blob))


def _failing(program: Program, weights: QdqGraph, npu: Npu) -> dict[str, str]:
    """Return the operators that vela gives up on, each asked about alone; VelaError where it takes each of them."""
    if len(program.ops) == 1:
        return {program.ops[0].name: _FAILS}
    found: dict[str, str] = {}
    for op in program.ops:
        own = _compiled(_alone(program, (op,)), weights, npu)
        if isinstance(own, dict) and _ONLY_MOVES not in own.values():
            found |= own
    if not found:
        raise VelaError(f"vela fails at {program.name}, and at none of its operators alone")
    return found


def _joined(program: Program, groups: Sequence[Group], parts: Sequence[NpuPart], outputs_at_once: int) -> Program:
    """Return the program with an operator for each part."""
    ops, tensors, numbers = list[Op](), dict(program.tensors), iter(enumerate(parts))
    for group in groups:
        if not group.on_npu:
            ops += group.ops
            continue
        number, part = next(numbers)
        name = f"npu_{number}"
        while name in tensors:
            name += "_"
        own, more = operators(name, number, part.program, part.optimized, outputs_at_once)
        ops, tensors = [*ops, *own], tensors | more
    return replace(program, tensors=tensors).with_ops(tuple(ops))


def kernel_bits(bits: int) -> int:
    """Return the fewest bits that kernels read and that hold weights of so many."""
    return min(width for width in WEIGHT_BITS if width >= bits)


def _told(reasons: Mapping[str, str]) -> str:
    """Return operators and why they stay on the CPU, the first of them."""
    said = [why if name in why else f"operator {name!r}: {why}" for name, why in reasons.items()]
    more = len(said) - _NAMED
    return "; ".join([*said[:_NAMED], *([f"and {more} more"] if more > 0 else [])])
