"""Where the planner puts what parts on the NPU read and write, against a simulation of the bytes that are copied."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tapc.ir.program import Op, Program, Tensor
from tapc.lower.plan import plan
from tapc.lower.steps import steps_of
from tapc.npu.library import copied_in
from tapc.npu.optimized import Optimized, Place
from tapc.npu.segment import SegmentSpec, begins, operators

EMPTY = np.zeros(4, np.uint32), np.zeros(32, np.uint8), np.zeros(4, np.uint8)


def drawn(rng: np.random.Generator) -> Program:
    """Return a network of parts alone, with inputs that die and others that are read again."""
    tensors, ops = dict[str, Tensor](), list[Op]()

    def tensor(name: str) -> str:
        tensors[name] = Tensor(name, (1, 1, int(rng.integers(1, 200))), 8, 1.0, 0)
        return name

    inputs = [tensor(f"in{i}") for i in range(rng.integers(1, 4))]
    known = list(inputs)
    for number in range(rng.integers(1, 6)):
        # Mostly of the newest tensors, so that others die.
        chosen = dict.fromkeys(known[-min(len(known), int(rng.integers(1, 4))) :])
        read = [*chosen, *(rng.choice(known, 1).tolist() if rng.random() < 0.3 else [])]
        made = [tensor(f"t{number}_{i}") for i in range(rng.choice([1, 1, 2, 3]))]
        places, at = [], 0
        for name in dict.fromkeys([*read, *made]):
            places.append(Place(name, tensors[name].shape, at))
            at += -(-tensors[name].bytes // 16) * 16
        # A result may lie where an input was, as vela does it.
        known_places = {place.name: place for place in places}
        into = [known_places[name] for name in dict.fromkeys(read)]
        out = [known_places[name] for name in made]
        if rng.random() < 0.5:
            out[0] = replace(out[0], offset=0)
        optimized = Optimized(*EMPTY, at, tuple(into), tuple(out))
        program = Program("part", "tflite", dict(tensors), (), tuple(read), tuple(made))
        own, more = operators(f"npu_{number}", number, program, optimized, 8)
        ops += own
        tensors.update(more)
        known += made
    outputs = {known[-1], *(rng.choice(known, 1).tolist() if rng.random() < 0.5 else [])}
    return Program("net", "tflite", tensors, tuple(ops), tuple(inputs), tuple(outputs))


def simulated(program: Program, rng: np.random.Generator) -> int:
    """Run the copies of every part in one arena and return its bytes; every tensor must be what was written."""
    steps = steps_of(program)
    layout, base = plan(program, steps), int(rng.choice([0, 8, 16, 24]))
    arena = rng.integers(0, 256, layout.size).astype(np.uint8)
    content: dict[str, NDArray[np.uint8]] = {}

    def write(name: str, at: int) -> None:
        content[name] = rng.integers(0, 256, program.tensors[name].bytes).astype(np.uint8)
        arena[at : at + len(content[name])] = content[name]

    for name in program.inputs:
        write(name, layout.offsets[name])
    for index, step in enumerate(steps):
        spec, op = step.spec, step.op
        assert isinstance(spec, SegmentSpec)
        scratch = layout.offsets[f"scratch {index}"]
        memory = -(-(base + scratch) // 32) * 32 - base
        assert memory + spec.arena <= scratch + spec.scratch_bytes
        for i in copied_in(spec):
            at, size = layout.offsets[step.tensors[f"x{i}"]], spec.inputs[i][1]
            begin = memory + spec.inputs[i][0]
            arena[begin : begin + size] = arena[at : at + size].copy()
        for i, (offset, size) in enumerate(spec.inputs):
            found = arena[memory + offset : memory + offset + size]
            assert np.array_equal(found, content[step.tensors[f"x{i}"]]), (op.name, i)
        arena[memory : memory + spec.arena] = rng.integers(0, 256, spec.arena)
        names = op.outputs  # type: ignore[attr-defined]
        for name, (offset, _) in zip(names, spec.outputs, strict=True):
            write(name, memory + offset)
        y = layout.offsets[op.output]
        for first, (offset, size) in zip(spec.begins, spec.outputs, strict=True):
            arena[y + first : y + first + size] = arena[memory + offset : memory + offset + size].copy()
    for name in program.outputs:
        at = layout.offsets[name]
        assert np.array_equal(arena[at : at + program.tensors[name].bytes], content[name]), name
    return layout.size


@pytest.mark.parametrize("seed", range(150))
def test_nothing_is_lost_when_parts_share_an_arena(seed: int) -> None:
    rng = np.random.default_rng(seed)
    simulated(drawn(rng), rng)


def test_outputs_lie_at_whole_words() -> None:
    assert begins([3, 5, 4, 1]) == ((0, 4, 12, 16), 17)
