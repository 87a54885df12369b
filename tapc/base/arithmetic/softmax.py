"""Quantized softmax by a table: the same in every arithmetic that has none of its own."""

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic.interface import Ints, Mode, arithmetic_of

SoftmaxForm = str
"""How terms are brought to a sum of one: `RATIO`, or the name of an arithmetic."""
RATIO = "ratio"


def softmax_form(mode: Mode, levels: int, zero: int) -> SoftmaxForm:
    """Return how an arithmetic computes a softmax with this result: 1 / its scale, and its zero point."""
    own = arithmetic_of(mode).softmax_levels
    return mode if own and (levels, zero) == (own, -128) else RATIO


def softmax_table(scale: float, classes: int, span: int = 256, form: SoftmaxForm = RATIO) -> NDArray[np.uint32]:
    """Tabulate exp(-scale * d) for differences d = 0..span-1 so that a sum over `classes` entries fits 31 bits."""
    if form != RATIO:
        return arithmetic_of(form).softmax_table(scale, span)
    top = min(2**22, 2**31 // max(classes, 1))
    table: NDArray[np.uint32] = np.rint(top * np.exp(-np.float64(np.float32(scale)) * np.arange(span))).astype(
        np.uint32
    )
    return table


def softmax(
    x: Ints, table: NDArray[np.uint32], levels: int, zero: int, low: int, high: int, form: SoftmaxForm = RATIO
) -> Ints:
    """Quantized softmax over the last axis with output scale 1 / levels, in integers only."""
    terms = table.astype(np.int64)[x.max(axis=-1, keepdims=True) - x]
    if form != RATIO:
        return np.clip(arithmetic_of(form).softmax(terms, levels) + zero, low, high)
    total = terms.sum(axis=-1, keepdims=True)
    codes: Ints = np.clip((terms * levels + total // 2) // total + zero, low, high)
    return codes
