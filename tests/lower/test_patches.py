"""Parts of a program that are computed band by band."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kernels.programs import run_on_host
from lower.banded import Chain, chain
from tapc.base.errors import DataError
from tapc.base.isa import Isa
from tapc.ir.bands import Patch, Read, Rows, RowWindow, read
from tapc.ir.program import Program
from tapc.kernels.packing import pack_activations, unpack_activations
from tapc.lower import Lowered, scheduled
from tapc.lower.codes import random_codes
from tapc.lower.patches import banded, bands_of, cuts, parts, patched
from tapc.lower.reference import execute
from tapc.operators.add import Add
from tapc.operators.weighted import Conv


def test_what_rows_read() -> None:
    window = RowWindow(3, 2, 1)  # rows -1..1, 1..3, 3..5, ...
    assert read(window, range(0, 2), 8) == Read(range(0, 4), 1, 0)
    assert read(window, range(1, 3), 8) == Read(range(1, 6), 0, 0)
    assert read(window, range(3, 4), 7) == Read(range(5, 7), 0, 1)
    assert read(RowWindow(1, 1, 2), range(0, 2), 8) is None
    assert read(RowWindow(1, 1, 2), range(6, 9), 5) == Read(range(4, 5), 0, 2)


def test_bands() -> None:
    assert bands_of(7, 3) == [range(0, 3), range(3, 6), range(6, 7)]


def some_patch(program: Program, rng: np.random.Generator) -> Program | None:
    known = [part for part in parts(program) if program.tensors[part.result].shape[0] > 1]
    if not known:
        return None
    part = known[int(rng.integers(len(known)))]
    return banded(program, part, int(rng.integers(1, program.tensors[part.result].shape[0])))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(deadline=None, max_examples=150)
def test_bands_compute_the_same(seed: int, length: int) -> None:
    program = chain(seed, length)
    rng = np.random.default_rng(seed)
    found = some_patch(program, rng)
    if found is None:
        return
    again = some_patch(found, rng) or found
    codes = random_codes(program, 2, seed % 1000)
    expected = execute(program, codes)
    assert np.array_equal(execute(found, codes), expected)
    assert np.array_equal(execute(again, codes), expected)
    whole = {op.output: op for op in program.ops}
    values: dict[str, np.ndarray] = {}
    execute(program, codes, observe=lambda op, y: values.__setitem__(op.output, y))
    seen: dict[str, set[int]] = {}

    def observe(op, y) -> None:
        rows = again.bands.get(op.output, Rows(op.output, 0))
        assert np.array_equal(y, values[rows.of][:, rows.first : rows.first + y.shape[1]])
        seen.setdefault(rows.of, set()).update(range(rows.first, rows.first + y.shape[1]))

    execute(again, codes, observe=observe)
    assert set(seen) == set(whole)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_views_lie_where_they_belong_and_constants_are_there_once(seed: int, length: int) -> None:
    program = chain(seed, length)
    found = some_patch(program, np.random.default_rng(seed))
    if found is None:
        return
    plain, network = scheduled(program, None), scheduled(found, None)
    for name, rows in found.views.items():
        assert network.plan.offsets[name] % 4 == 0
        row = found.tensors[rows.of].bytes // found.tensors[rows.of].shape[0]
        assert network.plan.offsets[name] == network.plan.offsets[rows.of] + rows.first * row
        assert found.tensors[name].bytes + rows.first * row <= found.tensors[rows.of].bytes
    constants = [{c for step in own.steps for c in step.constants.values()} for own in (plain, network)]
    weights = [sum(c.bytes for c in own if c.role in "wbl") for own in constants]
    assert weights[0] == weights[1]


def in_the_arena(network: Lowered, codes: np.ndarray) -> np.ndarray:
    """Run a network in one block of memory, as its plan has it; each operator reads all before it writes."""
    program, plan = network.program, network.plan
    arena = np.full(plan.size, 0xAA, np.uint8)

    def memory(name: str) -> np.ndarray:
        return arena[plan.offsets[name] : plan.offsets[name] + program.tensors[name].bytes]

    def codes_of(name: str) -> np.ndarray:
        t = program.tensors[name]
        return unpack_activations(memory(name).reshape(1, -1).copy(), t.shape, t.bits)

    memory(program.input)[:] = pack_activations(codes, program.tensors[program.input].bits).reshape(-1).view(np.uint8)
    scratch = {b.first: b for b in plan.buffers if b.name.startswith("scratch")}
    index = 0
    for op in program.ops:
        found = op.reference(program, [codes_of(name) for name in op.inputs])
        for step in network.steps[index:]:
            if step.op is not op:
                break
            if index in scratch:
                begin = plan.offsets[scratch[index].name]
                arena[begin : begin + scratch[index].size] = 0x55
            index += 1
        memory(op.output)[:] = pack_activations(found, program.tensors[op.output].bits).reshape(-1).view(np.uint8)
    return codes_of(program.output)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(deadline=None, max_examples=100)
def test_nothing_that_is_still_needed_is_overwritten(seed: int, length: int) -> None:
    program = chain(seed, length)
    rng = np.random.default_rng(seed)
    found = some_patch(program, rng)
    if found is None:
        return
    codes = random_codes(program, 1, seed % 1000)
    expected = execute(program, codes)
    for own in (found, some_patch(found, rng) or found):
        assert np.array_equal(in_the_arena(scheduled(own, None), codes), expected)


def straight() -> Program:
    """Return three layers of 3 x 3 taps on 48 rows, the second with a branch beside it."""
    made = Chain(np.random.default_rng(0), 48, 8, 4)
    for _ in range(3):
        x, y = made.at, made.tensor((48, 8, 4), 8)
        weights = made.rng.integers(-8, 8, (4, 3, 3, 4)).astype(np.int8)
        made.add(Conv(made.name, (x.name,), y.name, weights, 4, np.zeros(4, np.int32), np.full(4, 0.01, np.float32),
                      (1, 1), (1, 1, 1, 1), 1, y.low, y.high), y)  # fmt: skip
        if len(made.ops) == 2:
            z = made.tensor((48, 8, 4), 8)
            made.add(Add(made.name, (x.name, y.name), z.name, z.low, z.high), z)
    return made.program()


def test_inner_bands_share_their_functions_and_all_bands_their_weights() -> None:
    program = straight()
    (source,), result = program.inputs, program.output
    network = scheduled(patched(program, [Patch(source, result, 6)]), None)
    assert len(network.steps) == 8 * 3
    functions = [{step.spec for step in network.steps if step.op.name == op.name} for op in program.ops]
    assert [len(own) for own in functions] == [3, 3, 3]
    library, plain = network.library(), scheduled(program, None).library()
    assert library.weight_bytes == plain.weight_bytes
    assert len(library.constants) == len(plain.constants)


def test_the_result_follows_where_the_source_is_no_longer_needed() -> None:
    program = straight()
    (source,), result = program.inputs, program.output
    offsets = scheduled(patched(program, [Patch(source, result, 4)]), None).plan.offsets
    # When band n has made the result's rows to 4 n + 4, the source is needed from its row 4 n + 1 on.
    assert 3 * program.tensors[source].row <= offsets[source] - offsets[result] < 48 * program.tensors[source].row


def test_what_lies_inside_is_not_in_memory_as_a_whole() -> None:
    program = straight()
    part = max(parts(program), key=lambda part: len(part.ops))
    found = banded(program, part, 5)
    assert found is not None
    inside = {program.ops[place].output for place in part.ops} - {part.result}
    assert inside
    assert not inside & set(found.tensors)
    assert found.patches == (Patch(part.source, part.result, 5),)
    again = patched(program, found.patches)
    assert [(op.name, op.inputs, op.output) for op in again.ops] == [
        (op.name, op.inputs, op.output) for op in found.ops
    ]


def test_parts_begin_and_end_where_one_tensor_is_alive() -> None:
    program = straight()
    places = cuts(program)
    known = list(parts(program))
    assert len(known) == 6  # the first layer, the second with its branch, the third, and what is made of these
    for part in known:
        assert places[part.ops.start] == part.source
        assert places[part.ops.stop] == part.result


def test_what_is_no_part_is_refused() -> None:
    program = straight()
    (source,), result = program.inputs, program.output
    with pytest.raises(DataError, match="cannot be computed in bands"):
        patched(program, [Patch(result, source, 1)])
    with pytest.raises(DataError, match="has no bands of 99 rows"):
        patched(program, [Patch(source, result, 99)])


@pytest.mark.parametrize("isa", get_args(Isa))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(2, 4))
@example(seed=254, length=4)  # a convolution of 8 bits is added to what is stored with 4
def test_bands_in_c(isa: Isa, seed: int, length: int) -> None:
    program = replace(chain(seed, length), isa=isa)
    found = some_patch(program, np.random.default_rng(seed))
    if found is None:
        return
    codes = random_codes(program, 2, 1)
    with tempfile.TemporaryDirectory() as folder:
        assert np.array_equal(run_on_host(found, codes, Path(folder)), execute(program, codes))
