"""The arena planner, against a byte-level simulation of who overwrites whom."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapc.ir.overlap import Overlap, window_distance
from tapc.kernels.conv import Window
from tapc.kernels.layout import Plane
from tapc.lower.plan import Buffer, conflict, place


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Buffer], dict[tuple[str, str], int]]:
    count = draw(st.integers(1, 9))
    buffers = []
    for i in range(count):
        first = draw(st.integers(0, 8))
        buffers.append(Buffer(f"b{i}", draw(st.integers(1, 60)), first, draw(st.integers(first, 9))))
    distances = {}
    for y in buffers:
        for x in buffers:
            if x.last == y.first and x.first < x.last and x is not y and draw(st.booleans()):
                least, multiple = draw(st.integers(-x.size, y.size)), draw(st.sampled_from([1, 1, 4, 12]))
                apart = draw(st.sampled_from([0, 0, 8, y.size // 2]))
                distances[y.name, x.name] = Overlap(least, multiple, apart)
    return buffers, distances


@given(problems())
@settings(deadline=None)
def test_live_buffers_never_share_a_byte(problem: tuple[list[Buffer], dict[tuple[str, str], int]]) -> None:
    buffers, distances = problem
    offsets = place(buffers, distances, rounds=20)
    assert all(offset >= 0 and offset % 4 == 0 for offset in offsets.values())
    for step in range(10):
        owner: dict[int, Buffer] = {}
        for b in (b for b in buffers if b.first <= step <= b.last):
            for byte in range(offsets[b.name], offsets[b.name] + b.size):
                other = owner.setdefault(byte, b)
                if other is not b:
                    allowed = [
                        distances[y.name, x.name].allows(offsets[x.name] - offsets[y.name])
                        for y, x in ((b, other), (other, b))
                        if (y.name, x.name) in distances and y.first == x.last == step
                    ]
                    assert allowed, (b, other)
                    assert all(allowed), (b, other)


@given(problems())
@settings(deadline=None)
def test_extent_is_at_least_the_live_bytes_without_overlaps(problem) -> None:
    buffers, _ = problem
    offsets = place(buffers, {}, rounds=20)
    extent = max(offsets[b.name] + b.size for b in buffers)
    floor = max(sum(b.size for b in buffers if b.first <= s <= b.last) for s in range(10))
    assert extent >= floor
    assert extent <= sum(-(-b.size // 4) * 4 for b in buffers)


def test_conflict_sees_overlap() -> None:
    a, b = Buffer("a", 8, 0, 1), Buffer("b", 8, 1, 2)
    assert conflict(a, 0, b, 4, {})
    assert not conflict(a, 0, b, 8, {})
    assert not conflict(a, 4, b, 0, {("b", "a"): Overlap(4)})
    assert conflict(a, 0, b, 4, {("b", "a"): Overlap(0)})
    assert conflict(a, 4, b, 0, {("b", "a"): Overlap(0, apart=8)})
    assert not conflict(a, 4, b, 4, {("b", "a"): Overlap(0, apart=8)})
    assert [d for d in range(-12, 4, 4) if Overlap(-8).allows(d)] == [-8, -4, 0]


def test_an_output_is_put_apart_from_an_input_where_it_may_not_be_close() -> None:
    """Below it lies what lives on: neither the same place nor one just below is free, but one further below is."""
    x, y = Buffer("x", 40, 0, 1), Buffer("y", 60, 1, 2)
    offsets = place([x, y], {("y", "x"): Overlap(8, apart=20)}, rounds=20)
    assert offsets["x"] - offsets["y"] == 20
    assert place([x, y], {("y", "x"): Overlap(0, apart=20)}, rounds=20) == {"x": 0, "y": 0}


@pytest.mark.parametrize("buffered", [True, False])
@given(
    height=st.integers(1, 7), width=st.integers(1, 7), kernel=st.integers(1, 3), stride=st.integers(1, 3),
    pad=st.integers(0, 1), dilation=st.integers(1, 2), rows=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    tile=st.integers(1, 2),
)  # fmt: skip
@settings(deadline=None)
def test_distance_loses_no_byte(
    buffered: bool,
    height: int,
    width: int,
    kernel: int,
    stride: int,
    pad: int,
    dilation: int,
    rows: tuple[int, int],
    tile: int,
) -> None:
    """Replay a kernel's reads and writes byte by byte; `rows` are the channels of input and output."""
    pad = min(pad, kernel - 1)
    kernel = min(kernel, height + pad, width + pad)
    dilation = min(dilation, (min(height, width) + 2 * pad - 1) // max(kernel - 1, 1)) or 1
    reach = (kernel - 1) * dilation + 1
    oh, ow = (height + 2 * pad - reach) // stride + 1, (width + 2 * pad - reach) // stride + 1
    x, y = Plane(height, width, rows[0], 8), Plane(oh, ow, rows[1], 8)
    window = Window(kernel, kernel, stride, stride, pad, pad, dilation, dilation)
    distance = window_distance(x, y, window, tile, buffered=buffered)

    def survives(gap: int) -> bool:
        """With the input `gap` bytes behind the output's start, does every read find the input's byte?"""
        overwritten: set[int] = set()
        for start in range(0, oh * ow, tile):
            pixels = range(start, min(start + tile, oh * ow))
            reads = set()
            for p in pixels:
                for ky in range(kernel):
                    for kx in range(kernel):
                        iy, ix = p // ow * stride - pad + ky * dilation, p % ow * stride - pad + kx * dilation
                        if 0 <= iy < height and 0 <= ix < width:
                            reads |= {(iy * width + ix) * rows[0] + c for c in range(rows[0])}
            writes = {p * rows[1] + c - gap for p in pixels for c in range(rows[1])}
            if not buffered:
                overwritten |= writes
            if reads & overwritten:
                return False
            overwritten |= writes
        return True

    assert survives(distance)
    assert np.all([survives(distance + extra) for extra in range(1, 12)])


def test_a_chain_of_outputs_that_shrink_and_grow_over_their_inputs() -> None:
    """The last lies lowest, by 40 bytes; from the first to the last, it would have no room below what it overwrites."""
    chain = [Buffer("a", 100, 0, 1), Buffer("b", 80, 1, 2), Buffer("c", 120, 2, 3)]
    offsets = place(chain, {("b", "a"): Overlap(0), ("c", "b"): Overlap(40)}, rounds=0)
    assert max(offsets[buffer.name] + buffer.size for buffer in chain) == 140
