"""Sums of products of windows, exactly: in float64, for products of operands of 8 and 16 bits stay far below 2^53."""

from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tapc.base.arithmetic import Ints
from tapc.operators.common import windows

T = TypeVar("T")


class Windowed(Protocol):
    """Where a layer's windows lie."""

    @property
    def stride(self) -> tuple[int, int]: ...
    @property
    def pads(self) -> tuple[int, int, int, int]: ...
    @property
    def dilation(self) -> tuple[int, int]: ...


def accumulate(op: Windowed, x: Ints, weights: NDArray[np.int8], groups: int) -> Ints:
    """Sum products of windows of x (zero point already subtracted) and weights (O, KH, KW, I/groups).

    Windows lie as those of the layer `op` do.
    """
    outputs, kh, kw, depth = weights.shape
    view = windows(x.astype(np.float64), (kh, kw), op.stride, op.pads, 0, op.dilation)
    n, oh, ow = view.shape[:3]
    if depth == 1 and groups == x.shape[3]:
        per_group = outputs // groups
        filters = weights.reshape(groups, per_group, kh, kw).astype(np.float64)
        result = np.einsum("nhwcij,cmij->nhwcm", view, filters, optimize=True)
        acc: Ints = np.rint(result).astype(np.int64).reshape(n, oh, ow, outputs)
        return acc
    view = view.reshape(n, oh, ow, groups, depth, kh, kw)
    filters = weights.reshape(groups, outputs // groups, kh, kw, depth).astype(np.float64)
    parts = []
    for g in range(groups):
        columns = view[:, :, :, g].reshape(n * oh * ow, -1)
        matrix = filters[g].transpose(3, 1, 2, 0).reshape(-1, outputs // groups)
        parts.append((columns @ matrix).reshape(n, oh, ow, -1))
    acc = np.rint(np.concatenate(parts, axis=-1)).astype(np.int64)
    return acc


def coarser(op: T, bits: int) -> T:
    """Quantize the weights of a layer to fewer bits, for cost only: kernels are chosen by the sums' bounds."""
    own: Any = op
    if bits >= own.w_bits:
        return replace(own, w_bits=bits)  # type: ignore[no-any-return]
    factor = ((1 << (own.w_bits - 1)) - 1) / ((1 << (bits - 1)) - 1)
    weights = np.rint(own.weights / factor).astype(np.int8)
    bias = np.rint(own.bias / factor).astype(own.bias.dtype)
    ratios = own.ratios * own.ratios.dtype.type(factor)
    return replace(own, w_bits=bits, weights=weights, bias=bias, ratios=ratios)  # type: ignore[no-any-return]
