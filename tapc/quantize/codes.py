"""Whole numbers for weights: what is rounded first is made up for by the rest, then no single change helps.

All functions take the groups of a layer at once; those of a depthwise one are many and small.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapc.quantize.problem import Doubles
from tapc.quantize.weights import Float, code_range

DAMPING = 0.01
Choose = Callable[[Doubles, int], Doubles]
"""The best codes (groups, outputs) of a column in the range, if they could be any numbers, and the column -> codes."""
_BLOCK = 32
_TRIES = 8
_LEAST = float(np.finfo(np.float64).tiny) * 1e30


@dataclass(frozen=True, eq=False)
class Order:
    """In which order the inputs are rounded, and how the rest makes up for each.

    Attributes
    ----------
    inputs : int64 (groups, length)
        Largest power first.
    factor : float64 (groups, length, length)
        Upper Cholesky factor of the inverse of the inputs' damped second moments, in that order.
    """

    inputs: NDArray[np.int64]
    factor: Doubles


def order_of(hessians: Doubles) -> Order:
    """Return the order for second moments of the inputs, float64 (groups, length, length)."""
    power = np.diagonal(hessians, axis1=1, axis2=2)
    inputs = np.argsort(-power, axis=1, kind="stable")
    damping = np.maximum(DAMPING * power.mean(axis=1), _LEAST)
    sorted_ = np.take_along_axis(np.take_along_axis(hessians, inputs[:, :, None], 1), inputs[:, None, :], 2)
    try:
        inverse = np.linalg.inv(sorted_ + damping[:, None, None] * np.eye(power.shape[1]))
        lower = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2)
    except np.linalg.LinAlgError:
        lower = np.stack([_root(moments, float(least)) for moments, least in zip(sorted_, damping, strict=True)])
    return Order(inputs, np.ascontiguousarray(lower.transpose(0, 2, 1), np.float64))


def _root(moments: Doubles, damping: float) -> Doubles:
    """Return the lower Cholesky factor of the inverse of damped second moments (length, length).

    Constant inputs have none but for rounding, which may be negative: those are damped until it does not matter.
    """
    for _ in range(_TRIES):
        try:
            inverse = np.linalg.inv(moments + damping * np.eye(len(moments)))
            root = np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2), np.float64)
        except np.linalg.LinAlgError:
            damping = max(100 * damping, float(np.finfo(np.float64).eps * np.abs(moments).max()))
        else:
            return root
    return np.eye(len(moments))


def gptq(weights: Doubles, scales: Float, bits: int, order: Order) -> Doubles:
    """Return integer codes, the input of largest power first (GPTQ, arXiv 2210.17323).

    Parameters
    ----------
    weights : float64 (groups, outputs, length)
    scales : float32 (groups, outputs)
    bits : {2, 4, 8}
    order : Order

    Returns
    -------
    float64 (groups, outputs, length)
        Whole numbers in the range of `bits`.
    """
    low, high = code_range(bits)
    factor = order.factor
    index = np.broadcast_to(order.inputs[:, None, :], weights.shape)
    rest = np.take_along_axis(weights, index, 2)
    codes = np.empty_like(rest)
    steps = scales.astype(np.float64)
    for start in range(0, rest.shape[2], _BLOCK):
        stop = min(start + _BLOCK, rest.shape[2])
        errors = np.empty((*rest.shape[:2], stop - start))
        for column in range(start, stop):
            code = np.clip(np.rint(rest[:, :, column] / steps), low, high)
            error = (rest[:, :, column] - code * steps) / factor[:, column, column, None]
            rest[:, :, column + 1 : stop] -= error[:, :, None] * factor[:, None, column, column + 1 : stop]
            codes[:, :, column], errors[:, :, column - start] = code, error
        rest[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    result = np.empty_like(codes)
    np.put_along_axis(result, index, codes, 2)
    return result


def descend(
    codes: Doubles,
    weights: Doubles,
    scales: Float,
    bits: int,
    hessians: Doubles,
    sweeps: int,
    choose: Choose | None = None,
) -> Doubles:
    """Return codes that no change of a single one improves, or what `sweeps` passes lead to.

    Coordinate descent on (W - Q) H (W - Q)^T: each column in turn takes its best whole numbers given all others.

    Parameters
    ----------
    codes, weights : float64 (groups, outputs, length)
    scales : float32 (groups, outputs)
    bits : {2, 4, 8}
    hessians : float64 (groups, length, length)
        Second moments of the inputs.
    sweeps : int
    choose : callable, optional
        Gives a column its codes.
    """
    result = codes.copy()
    power = np.diagonal(hessians, axis1=1, axis2=2)
    columns = np.flatnonzero((power > 0).any(axis=0))
    # A change of a column without power would be worth nothing: an infinite divisor leaves it as it is.
    divisors = np.where(power > 0, np.maximum(power, _LEAST), np.inf)
    steps = scales.astype(np.float64)
    # Inputs before outputs, so that the outputs' codes for one input lie together.
    gradient = np.ascontiguousarray(((weights - codes * steps[:, :, None]) @ hessians).transpose(0, 2, 1))
    now = np.ascontiguousarray(codes.transpose(0, 2, 1))
    live = np.arange(codes.shape[1])
    for _ in range(sweeps):
        moved = _sweep(now, gradient, steps, divisors, hessians, columns, code_range(bits), choose)
        result[:, live] = now.transpose(0, 2, 1)
        # Outputs know nothing of each other: one that did not move never will.
        if not moved.any():
            break
        if not moved.all() and choose is None:  # a choice speaks of all outputs
            live, now, gradient, steps = live[moved], now[:, :, moved], gradient[:, :, moved], steps[:, moved]
    return result


def _sweep(
    codes: Doubles,
    gradient: Doubles,
    steps: Doubles,
    divisors: Doubles,
    hessians: Doubles,
    columns: NDArray[np.int64],
    limits: tuple[int, int],
    choose: Choose | None,
) -> NDArray[np.bool_]:
    """Let every column take its best codes once, in place; return which outputs (outputs,) moved in any group.

    Changes reach the gradients of later columns of a block at once, and those of all others by one product at its end.

    Parameters
    ----------
    codes, gradient : float64 (groups, length, outputs)
    steps : float64 (groups, outputs)
    divisors : float64 (groups, length)
    hessians : float64 (groups, length, length)
    columns : int64 (n,)
        Those that have power.
    limits : (int, int)
        Least and largest code.
    choose : callable or None
        Gives a column its codes; the nearest where None.
    """
    groups, length, outputs = codes.shape
    moved = np.zeros(outputs, np.bool_)
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        own = columns[(columns >= start) & (columns < stop)]
        changes = np.zeros((groups, stop - start, outputs))
        local = gradient[:, start:stop].copy()
        for column in own.tolist():
            at, old = column - start, codes[:, column]
            new = old + local[:, at] / (divisors[:, column, None] * steps)
            if choose is not None:
                new = choose(new, column)
            else:
                np.rint(new, out=new)
                np.minimum(np.maximum(new, limits[0], out=new), limits[1], out=new)
            change = new - old
            which = change.any(axis=0)
            if which.any():
                moved |= which
                codes[:, column] = new
                np.multiply(change, steps, out=change)
                changes[:, at] = change
                local[:, at + 1 :] -= hessians[:, column + 1 : stop, column, None] * change[:, None, :]
        rows = changes.any(axis=(0, 1))
        if rows.all():
            gradient -= hessians[:, :, start:stop] @ changes
        elif rows.any():
            gradient[:, :, rows] -= hessians[:, :, start:stop] @ changes[:, :, rows]
    return moved


def refitted_scales(codes: Doubles, scales: Float, inputs: Doubles, goal: Doubles) -> Float:
    """Return the scales of least output error for given codes; old ones where there is none.

    Parameters
    ----------
    codes : float64 (groups, outputs, length)
    scales : float32 (groups, outputs)
    inputs : float64 (groups, length, length)
        Second moments of the inputs.
    goal : float64 (groups, length, outputs)
        Those of the inputs with the wanted outputs.
    """
    power = np.einsum("gol,gol->go", codes @ inputs, codes)
    match = np.einsum("gol,glo->go", codes, goal)
    usable = (power > 0) & (match > 0)
    return np.where(usable, match / np.where(usable, power, 1), scales).astype(np.float32)
