"""A layer on some of its rows."""

from dataclasses import replace
from typing import TypeVar

from tapc.ir.bands import ROW, RowWindow
from tapc.operators.weighted.layer import Weighted

W = TypeVar("W", bound=Weighted)


def row_windows(op: Weighted) -> tuple[RowWindow, ...]:
    """Return which rows of its inputs a row of its output reads."""
    size, stride = (op.weights.shape[1] - 1) * op.dilation[0] + 1, op.stride[0]
    if (pool := op.pool) is not None:
        size, stride = (pool.kernel[0] - 1) * stride + size, pool.stride[0] * stride
    own = RowWindow(size, stride, op.pads[0])
    return (own,) if op.residual is None else (own, ROW)


def banded(op: W, inputs: tuple[str, ...], output: str, rows: int, pads: tuple[int, int]) -> W:
    """Return the layer for a band; see `Op.banded`."""
    (top, bottom), pool = pads, op.pool
    if pool is not None:
        _, width, channels = pool.middle.shape
        lines = (rows - 1) * pool.stride[0] + pool.kernel[0]
        pool = replace(pool, middle=replace(pool.middle, shape=(lines, width, channels)))
    own = (top, op.pads[1], bottom, op.pads[3])
    return replace(op, inputs=inputs, output=output, pads=own, pool=pool)
