"""What layers take in, and what they leave alone."""

import numpy as np
import pytest

from kernels.programs import conv_op, program, random_codes, tensor
from tapc.ir.program import Program, Tensor
from tapc.lower.fuse import fuse
from tapc.lower.reference import execute
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
