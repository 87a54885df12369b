"""Samples of networks that keep something between calls: steps of sequences, in their order.

Arrays (N, ...) are N steps of one sequence, arrays (sequences, steps, ...) several of them, each of which begins with
the network's initial state. Labels are one per step, or one per sequence, which is that of its last step.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.ports import Ports, sample_shape
from tapc.data.dataset import DataSet, Part
from tapc.data.samples import Split

Index = NDArray[np.intp]


def stepwise(data: DataSet, ports: Ports) -> tuple[DataSet, int]:
    """Return a data set of which every sample is a step, and the steps of a sequence; 0: all are one.

    Parameters
    ----------
    data : DataSet
        Of steps, or of sequences (steps, ...).
    ports : tuple of Port
        What a step holds.
    """
    size = math.prod(sample_shape(ports))
    first = next(iter(data.parts.values())).take(np.zeros(1, np.intp)).shape[1:]
    if len(first) < 2 or first[0] < 2 or math.prod(first) != first[0] * size:
        return data, 0
    length, whole = first[0], False
    parts = {}
    for name, part in data.parts.items():
        y = None if part.y is None else np.asarray(part.y)
        if y is not None and y.ndim > 1 and y.shape[1] == length:
            y = y.reshape(len(y) * length, *y.shape[2:])
        elif y is not None:
            y, whole = np.repeat(y, length, axis=0), True
        parts[name] = Part(part.size * length, _steps(part.take, length), y)
    return replace(data, parts=parts, whole_labels=whole), length


def _steps(take: Callable[[Index], NDArray[Any]], length: int) -> Callable[[Index], NDArray[Any]]:
    def taken(index: Index) -> NDArray[Any]:
        sequences, place = np.unique(index // length, return_inverse=True)
        found: NDArray[Any] = take(sequences)[place.reshape(-1), index % length]
        return found

    return taken


def chosen_steps(
    total: int, length: int, count: int | None, split: Split, seed: int, reserve: int, *, single: bool, whole: bool
) -> tuple[Index, int]:
    """Return the steps of a split, in their order, and how many a sequence has.

    Parameters
    ----------
    total : int
        Steps that there are.
    length : int
        Of a sequence; 0: all are one.
    count : int or None
        Most steps; at least one sequence, of which the end may be left out.
    split : {"calibration", "train", "test", "all"}
    seed : int
        Draws which sequences calibrate.
    reserve : int
        Most steps of a single set that calibrate.
    single : bool
        One set is divided: a single sequence in its middle.
    whole : bool
        Sequences are not cut short: labels are about their ends.
    """
    divided = single and split in ("calibration", "test")
    if not length:
        cut = min(total // 2, reserve)
        first, last = ((0, cut) if split == "calibration" else (cut, total)) if divided and total > 1 else (0, total)
        index = np.arange(first, last if count is None else min(last, first + count), dtype=np.intp)
        return index, len(index)
    sequences = total // length
    order = np.random.default_rng(seed).permutation(sequences)
    if divided and sequences > 1:
        cut = max(1, min(sequences // 2, reserve // length))
        order = order[:cut] if split == "calibration" else order[cut:]
    used = length if count is None or whole else min(length, count)
    order = order[: None if count is None else max(1, count // used)]
    starts = order if split in ("calibration", "train") else np.sort(order)
    return (starts[:, None] * length + np.arange(used)).reshape(-1).astype(np.intp), used
