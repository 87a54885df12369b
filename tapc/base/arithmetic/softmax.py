"""Quantized softmax by a table, the same in every arithmetic."""

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.interface import Ints


def softmax_table(scale: float, classes: int, span: int = 256) -> NDArray[np.uint32]:
    """Tabulate exp(-scale * d) for differences d = 0..span-1 so that a sum over `classes` entries fits 31 bits."""
    top = min(2**22, 2**31 // max(classes, 1))
    table: NDArray[np.uint32] = np.rint(top * np.exp(-np.float64(np.float32(scale)) * np.arange(span))).astype(
        np.uint32
    )
    return table


def softmax(x: Ints, table: NDArray[np.uint32], levels: int, zero: int, low: int, high: int) -> Ints:
    """Quantized softmax over the last axis with output scale 1 / levels, in integers only."""
    terms = table.astype(np.int64)[x.max(axis=-1, keepdims=True) - x]
    total = terms.sum(axis=-1, keepdims=True)
    codes: Ints = np.clip((terms * levels + total // 2) // total + zero, low, high)
    return codes
