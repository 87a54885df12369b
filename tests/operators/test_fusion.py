"""What layers take in, and what they leave alone."""

import numpy as np
import pytest

from kernels.programs import conv_op, program, random_codes, tensor
from tapc.lower.fuse import fuse
from tapc.lower.reference import execute
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
