"""Small problems: list every assignment that the linear relaxation leaves, and take the best of them exactly."""

import numpy as np
from numpy.typing import NDArray

from tapc.allocate.engine import TOLERANCE, Engine, Limits, Relaxation, Solution

_FIRST_ROOM = 0.02  # of the relaxation's optimum
_MOST_LISTED = 20_000
_MOST_TRIED = 200
_LP_TOLERANCE = 1e-6  # of the largest loss of a choice; HiGHS's own is 1e-7


def best_listed(engine: Engine, limits: Limits) -> Solution | None:
    """Return the assignment with the least loss, then the least flash, then the most bits.

    An assignment whose reduced costs add up to more than (loss of a feasible assignment - relaxation's optimum) is
    worse than that assignment. So those within some room are listed; when the best feasible one among them lies within
    the room, too, it is the best of all.

    Parameters
    ----------
    engine : Engine
    limits : dict of str to float

    Returns
    -------
    Solution or None
        None where this way is too long, or nothing feasible was met: the integer program has to decide.
    """
    relaxed = engine.relaxation(limits)
    if relaxed is None:
        return None
    room = max(_FIRST_ROOM * relaxed.value, _LP_TOLERANCE)
    everything = float(relaxed.reduced.sum())
    while (listed := _within(relaxed, room)) is not None:
        feasible = _feasible(relaxed, listed)
        losses = relaxed.loss[feasible].sum(axis=1)
        order = np.argsort(losses, kind="stable")
        first = _first_allowed(engine, limits, relaxed, feasible[order[:_MOST_TRIED]])
        if first is not None:
            gap = float(losses[order[first]]) - relaxed.value
            if gap <= room:
                return _tie_broken(engine, limits, relaxed, feasible[order], losses[order], first)
            room = gap * (1 + TOLERANCE) + _LP_TOLERANCE
        elif room > everything or len(order) > _MOST_TRIED:
            return None
        else:
            room *= 4
    return None


def _first_allowed(engine: Engine, limits: Limits, relaxed: Relaxation, assignments: NDArray[np.intp]) -> int | None:
    """Return the position of the first assignment that keeps every limit exactly."""
    for position, row in enumerate(assignments):
        if not engine.exceeded(tuple(relaxed.columns[column] for column in row), frozenset(), limits):
            return position
    return None


def _within(relaxed: Relaxation, room: float) -> NDArray[np.intp] | None:
    """Return the assignments (n, layers) of columns whose reduced costs fit in the room; None if too many.

    Where there is one limit, those are left out that lose more than another and use no less of it.
    """
    assignments = np.zeros((1, 0), np.intp)
    spent, loss, used = np.zeros(1), np.zeros(1), np.zeros(1)
    single = relaxed.rows[0] if len(relaxed.rows) == 1 else None
    for layer in range(int(relaxed.layer_of[-1]) + 1):
        own = np.flatnonzero(relaxed.layer_of == layer)
        total = spent[:, None] + relaxed.reduced[own][None, :]
        row, column = np.nonzero(total <= room + _LP_TOLERANCE)
        loss = loss[row] + relaxed.loss[own[column]]
        keep = slice(None) if single is None else _undominated(loss, used[row] + single[0][own[column]])
        if single is not None:
            used = (used[row] + single[0][own[column]])[keep]
        row, column, loss = row[keep], column[keep], loss[keep]
        if len(row) > _MOST_LISTED:
            return None
        assignments = np.column_stack([assignments[row], own[column]])
        spent = total[row, column]
    return assignments


def _undominated(loss: NDArray[np.float64], used: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of those with which nothing else compares well: less loss and no more use."""
    order = np.lexsort((loss, used))
    least = np.minimum.accumulate(loss[order])
    return np.sort(order[loss[order] <= least + _LP_TOLERANCE])


def _feasible(relaxed: Relaxation, assignments: NDArray[np.intp]) -> NDArray[np.intp]:
    keep = np.ones(len(assignments), bool)
    for row, most in relaxed.rows:
        keep &= row[assignments].sum(axis=1) <= most
    return assignments[keep]


def _tie_broken(
    engine: Engine,
    limits: Limits,
    relaxed: Relaxation,
    assignments: NDArray[np.intp],
    losses: NDArray[np.float64],
    first: int,
) -> Solution | None:
    """Return the best of the assignments (ascending losses) that are as good as the first feasible one."""
    near = losses <= losses[first] + _LP_TOLERANCE
    if int(near.sum()) > _MOST_TRIED:
        return None
    candidates = [tuple(relaxed.columns[column] for column in row) for row in assignments[near]]
    allowed = [c for c in candidates if not engine.exceeded(c, frozenset(), limits)]
    least = min(engine.total("loss", c) for c in allowed)
    tied = [c for c in allowed if engine.total("loss", c) <= least * (1 + TOLERANCE)]
    chosen = min(tied, key=lambda c: (engine.total("flash", c), engine.total("narrowness", c)))
    value = engine.total("loss", chosen)
    return Solution(chosen, frozenset(), value, min(least, value), True)
