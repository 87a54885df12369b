"""Loops give back the positions that they were found for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tapc.base.strides import strided, visited


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms())
def test_permuted_axes(extents: list[int], random: object) -> None:
    order = list(range(len(extents)))
    random.shuffle(order)  # type: ignore[attr-defined]
    flat = np.arange(int(np.prod(extents))).reshape(extents).transpose(order).reshape(-1)
    loops = strided(flat)
    assert loops is not None
    np.testing.assert_array_equal(visited(loops), flat)


def test_no_loops() -> None:
    assert strided(np.array([0, 1, 3, 2, 7])) is None
    assert strided(np.array([4])) == ()
    np.testing.assert_array_equal(visited((), 4), [4])
