"""What outputs say beside how often they are right: signal to noise, classes taken for others, confidence."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def least_sqnr(sizes: Sequence[int], exact: Floats, found: Floats) -> float | None:
    """Return the signal to noise of the worst of several outputs, of so many values each; rows (N, values)."""
    ends = np.cumsum(sizes).tolist()
    flat = [array.reshape(len(array), -1) for array in (exact, found)]
    each = [sqnr(*(rows[:, end - size : end] for rows in flat)) for size, end in zip(sizes, ends, strict=True)]
    return min((value for value in each if value is not None), default=None)


def sqnr(exact: Floats, found: Floats) -> float | None:
    """Return the signal to noise of outputs against exact ones, in decibels; None where nothing differs or is there."""
    a, b = exact.astype(np.float64).reshape(-1), found.astype(np.float64).reshape(-1)
    noise, power = float(np.square(b - a).sum()), float(np.square(a).sum())
    return 10 * math.log10(power / noise) if noise and power else None


def confusion(outputs: Floats, y: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count samples by class (rows) and by the class that the outputs name (columns)."""
    named = outputs.reshape(len(outputs), -1).argmax(axis=1)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (y, named), 1)
    return counts


def confidence(outputs: Floats, certain: bool) -> float:
    """Return the mean of the largest probability, in percent: what a well-made network's top-1 is near to.

    Parameters
    ----------
    outputs : float (N, ...)
    certain : bool
        They are probabilities already, not logits.
    """
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    if not certain:
        flat = np.exp(flat - flat.max(axis=1, keepdims=True))
        flat /= flat.sum(axis=1, keepdims=True)
    return 100 * float(flat.max(axis=1).mean())


def same_class(exact: Floats, found: Floats) -> float:
    """Return the percentage of samples whose largest outputs are the same."""
    first, second = (array.reshape(len(array), -1).argmax(axis=1) for array in (exact, found))
    return 100 * float(np.mean(first == second))


def auc(score: Floats, y: NDArray[Any]) -> float | None:
    """Return the area under the ROC curve: how often a sample of class 1 has the larger score, ties half.

    None where all samples are of one class.
    """
    from scipy.stats import rankdata

    ones = int((y == 1).sum())
    zeros = len(y) - ones
    if not ones or not zeros:
        return None
    return float((rankdata(score)[y == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def intersections(
    named: NDArray[np.int64], y: NDArray[Any], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Return for each class the pixels in both masks and in either, and the share of pixels that are right.

    Pixels whose label is no class, as 255, count nowhere.
    """
    counted = (y >= 0) & (y < classes)
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (y[counted].astype(np.int64), named[counted]), 1)
    both = table.diagonal()
    return both, table.sum(axis=0) + table.sum(axis=1) - both, float(both.sum() / max(table.sum(), 1))
