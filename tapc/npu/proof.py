"""Whether the NPU computes what the network says: every layer and every output against the reference executor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tapc.base.ports import joined
from tapc.ir.program import Op, Program
from tapc.ir.tflite import TfliteNetwork
from tapc.lower.codes import apart
from tapc.lower.reference import execute
from tapc.npu.commands import Step
from tapc.npu.optimized import Optimized
from tapc.npu.vela import Compiled

Ints = NDArray[np.int64]
_MOST = 1 << 29
"""Bytes of windows at a time: samples that need more are run in turn."""


@dataclass(frozen=True)
class LayerProof:
    """An operator of the program on the NPU.

    Attributes
    ----------
    name : str
    elements : int
        Codes that were compared; 0 where vela computes it together with another one, only moves elements, or makes it
        of parts in another order.
    different : int
    """

    name: str
    elements: int
    different: int


@dataclass(frozen=True)
class NpuProof:
    """What was compared with the reference executor.

    Attributes
    ----------
    samples : int
    outputs, different : int
        Codes of the network's outputs, and those that differ.
    layers : tuple of LayerProof
    codes : ndarray of int8, shape (N, output bytes)
    """

    samples: int
    outputs: int
    different: int
    layers: tuple[LayerProof, ...]
    codes: NDArray[np.int8]

    @property
    def exact(self) -> bool:
        """Whether no code differs, of any layer."""
        return self.different == 0 and all(layer.different == 0 for layer in self.layers)


def prove(
    program: Program,
    network: TfliteNetwork,
    compiled: Compiled,
    optimized: Optimized,
    outputs_at_once: int,
    samples: Ints,
) -> NpuProof:
    """Run samples in the executor of commands and in the reference executor.

    Parameters
    ----------
    program : Program
        What `network` was written of.
    network, compiled, optimized
        The file, what vela said of it, and what it made of it.
    outputs_at_once : int
        See `tapc.npu.executor.Executor`.
    samples : ndarray of int, shape (N, H, W, C)
        Codes of the input; rows (N, values) of several.
    """
    size = at_a_time(program, len(samples))
    parts = [samples[first : first + size] for first in range(0, len(samples), size)]
    proofs = [_proved(program, network, compiled, optimized, outputs_at_once, part) for part in parts]
    layers = tuple(
        LayerProof(same[0].name, sum(layer.elements for layer in same), sum(layer.different for layer in same))
        for same in zip(*(proof.layers for proof in proofs), strict=True)
    )
    outputs, different = (sum(getattr(proof, name) for proof in proofs) for name in ("outputs", "different"))
    codes = np.concatenate([proof.codes for proof in proofs])
    return NpuProof(len(samples), outputs, different, layers, codes)


def at_a_time(program: Program, samples: int) -> int:
    """Return how many samples are run at once."""
    return max(1, min(samples, _MOST // max(1, _columns(program))))


def _columns(program: Program) -> int:
    """Return the most bytes that the windows of one sample take as float64."""
    most = 0
    for op in program.ops:
        height, width, channels = program.tensors[op.output].shape
        weights = getattr(op, "weights", None)
        taps = int(np.prod(weights.shape[1:])) if weights is not None else 9 * channels
        most = max(most, 8 * height * width * taps)
    return most


def _proved(
    program: Program,
    network: TfliteNetwork,
    compiled: Compiled,
    optimized: Optimized,
    outputs_at_once: int,
    samples: Ints,
) -> NpuProof:
    expected: dict[str, Ints] = {}
    reference = execute(program, samples, observe=lambda op, codes: expected.update({op.output: codes}))
    parts: dict[int, list[Ints]] = {}

    def observe(step: Step, codes: Ints) -> None:
        if step.offset in compiled.queue:
            parts.setdefault(compiled.queue[step.offset], []).append(codes)

    given = dict(zip(program.inputs, apart(program, program.inputs, samples), strict=True))
    found = optimized.run(given, outputs_at_once, observe)
    codes = joined([found[name].reshape(len(samples), -1) for name in program.outputs]).reshape(len(samples), -1)
    outputs = reference.reshape(len(samples), -1)
    different = int(np.count_nonzero(outputs != codes))
    made = {tensor: parts[number] for number, tensor in network.makers.items() if number in parts}
    return NpuProof(len(samples), outputs.size, different, _layers(program, expected, made), codes)


def _layers(
    program: Program, expected: Mapping[str, Ints], made: Mapping[str, Sequence[Ints]]
) -> tuple[LayerProof, ...]:
    """Compare what operators made; a table, or another scale, is often made together with what stands before it."""
    users: dict[str, list[Op]] = {}
    for op in program.ops:
        for name in op.inputs:
            users.setdefault(name, []).append(op)
    found = {op.output: LayerProof(op.name, 0, 0) for op in program.ops}
    for op in program.ops:
        if op.output not in made:
            continue
        name = op.output
        while True:
            whole = _whole(made[op.output], expected[name].shape)
            if whole is not None and np.array_equal(whole, expected[name]):
                found[name] = replace(found[name], elements=whole.size)
                break
            behind = users.get(name, [])
            if len(behind) != 1 or name in program.outputs or behind[0].output in made:
                own = expected[op.output]
                first = _whole(made[op.output], own.shape)
                if first is not None:
                    found[op.output] = LayerProof(op.name, own.size, int(np.count_nonzero(own != first)))
                break
            name = behind[0].output
    return tuple(found[op.output] for op in program.ops)


def _whole(parts: Sequence[Ints], shape: tuple[int, ...]) -> Ints | None:
    """Join the parts in which an output is made: channels of some rows first, then the next rows.

    Of an operator that becomes several of the NPU's the last one makes it, perhaps as another shape of the same
    elements. None where no part does.
    """
    if parts[-1].size == np.prod(shape):
        return parts[-1].reshape(shape)
    _, height, width, channels = shape
    whole, row, channel = np.zeros(shape, np.int64), 0, 0
    for part in parts:
        _, rows, columns, depth = part.shape
        if columns != width or row + rows > height or channel + depth > channels:
            return None
        whole[:, row : row + rows, :, channel : channel + depth] = part
        channel += depth
        if channel == channels:
            row, channel = row + rows, 0
    return whole if (row, channel) == (height, 0) else None
