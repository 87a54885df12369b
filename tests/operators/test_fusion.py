"""What layers take in, and what they leave alone."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from kernels.programs import conv_op, program, random_codes, run_together_on_host, tensor
from tapc.base.arithmetic import arithmetics
from tapc.base.isa import Isa
from tapc.ir.program import Program, Tensor
from tapc.lower.fuse import fuse
from tapc.lower.reference import execute
from tapc.operators.add import Add
from tapc.operators.move import Move
from tapc.operators.reshape import Reshape


@pytest.mark.parametrize(("groups", "left"), [(1, 1), (12, 2)])
def test_only_a_dense_layer_takes_in_a_flattening(groups: int, left: int) -> None:
    rng = np.random.default_rng(0)
    x, flat, y = tensor("x", (2, 2, 3), 8, rng), tensor("flat", (1, 1, 12), 8, rng), tensor("y", (1, 1, 12), 8, rng)
    flat = type(flat)("flat", flat.shape, 8, x.scale, x.zero)
    layer = conv_op(rng, flat, y, (1, 1), (1, 1), (0, 0, 0, 0), groups, 8)
    p = program([Reshape("flatten", ("x",), "flat", "to_nchw", True), layer], [x, flat, y])
    fused = fuse(p)
    assert len(fused.ops) == left
    codes = random_codes(x, 4, rng)
    np.testing.assert_array_equal(execute(fused, codes), execute(p, codes))


def test_a_summand_keeps_the_range_of_its_own_bits(tmp_path: Path) -> None:
    """Of 4 bits in a sum of 8, and the other way round: neither saturates where the other would."""
    rng = np.random.default_rng(0)
    x, short, wide, long, y = (
        Tensor(name, (2, 2, 4), bits, scale, zero)
        for name, bits, scale, zero in [("x", 8, 0.05, 0), ("short", 4, 0.1, 3), ("wide", 8, 0.1, -4),
                                        ("long", 8, 0.1, -4), ("y", 4, 0.2, 7)]
    )  # fmt: skip
    layers = [
        replace(conv_op(rng, a, b, (1, 1), (1, 1), (0, 0, 0, 0), 1, 4, b.name), low=b.low, high=b.high,
                ratios=np.full(4, 0.1, np.float32), bias=np.zeros(4, np.int32))
        for a, b in ((x, short), (wide, long))
    ]  # fmt: skip
    sums = [Add("first", ("x", "short"), "wide", -128, 127), Add("second", ("wide", "long"), "y", 0, 15)]
    plain = program([layers[0], sums[0], layers[1], sums[1]], [x, short, wide, long, y])
    forms = [(isa, arithmetic.name) for isa in get_args(Isa) for arithmetic in arithmetics()]
    made = [replace(fuse(plain), isa=isa, mode=mode) for isa, mode in forms]
    assert all(len(p.ops) == 2 for p in made)
    codes = random_codes(x, 4, rng)
    seen: dict[str, np.ndarray] = {}
    execute(plain, codes, observe=lambda op, found: seen.__setitem__(op.output, found))
    assert (seen["short"] == 15).any()
    assert (seen["long"] < 0).any()
    assert (seen["long"] > 15).any()
    found = run_together_on_host([(p, codes, None) for p in made], tmp_path)
    wrong = [
        form for form, p, own in zip(forms, made, found, strict=True) if not np.array_equal(own, execute(p, codes))
    ]
    assert not wrong


def _two_moves(index: np.ndarray, twice: bool = False) -> Program:
    """Return a map that is flattened in NCHW order, of which elements are taken then."""
    shapes = {"x": (5, 1, 3), "flat": (1, 1, 15), "y": (1, 1, index.size)}
    tensors = {name: Tensor(name, shape, 8, 0.1, 3) for name, shape in shapes.items()}
    flatten = Reshape("flatten", ("x",), "flat", "to_nchw", True)
    move = Move("move", ("flat",), "y", index.reshape(1, 1, -1).astype(np.int32), index.size == 15)
    outputs = ("y", "flat") if twice else ("y",)
    return Program("two", "float", tensors, (flatten, move), ("x",), outputs, "dsp")


def test_a_move_of_what_was_moved_reads_where_that_came_from() -> None:
    rows = np.arange(15).reshape(3, 5)[:, 1:].T.reshape(-1)  # the last four pixels, channels innermost
    before = _two_moves(rows)
    after = fuse(before)
    assert [op.name for op in after.ops] == ["move"]
    assert after.ops[0].inputs == ("x",)
    x = np.random.default_rng(1).integers(-128, 128, (4, 5, 1, 3))
    np.testing.assert_array_equal(execute(after, x), execute(before, x))
    np.testing.assert_array_equal(execute(after, x).reshape(4, 4, 3), x[:, 1:, 0])
    assert len(fuse(_two_moves(rows, twice=True)).ops) == 2
    assert len(fuse(_two_moves(np.random.default_rng(2).permutation(15))).ops) == 2  # it would need a table
