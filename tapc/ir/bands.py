"""Bands: runs of rows of a tensor, which are contiguous in memory, and which rows of an input a run of rows needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """Where a tensor's rows lie in another one.

    Attributes
    ----------
    of : str
        That tensor.
    first : int
        Its row that is the first of these.
    """

    of: str
    first: int


@dataclass(frozen=True)
class RowWindow:
    """Which rows of an input an operator reads for a row of its output.

    Attributes
    ----------
    size : int
        From the first to the last.
    stride : int
        From those of a row to those of the next.
    top : int
        Rows of padding above the input.
    """

    size: int
    stride: int = 1
    top: int = 0


ROW = RowWindow(1)
"""Of an operator that works on every row alone."""


@dataclass(frozen=True)
class Read:
    """What a run of rows of an output reads of an input.

    Attributes
    ----------
    rows : range
        Of the input, at least one.
    top, bottom : int
        Rows of padding above and below these.
    """

    rows: range
    top: int
    bottom: int


def read(window: RowWindow, rows: range, height: int) -> Read | None:
    """Return what some rows of an output read of an input of so many rows; None where some window lies beside it.

    Parameters
    ----------
    window : RowWindow
    rows : range
        Of the output, at least one.
    height : int
        Of the input.
    """
    start = rows.start * window.stride - window.top
    stop = (rows.stop - 1) * window.stride - window.top + window.size
    inside = range(max(start, 0), min(stop, height))
    if not inside:
        return None
    return Read(inside, inside.start - start, stop - inside.stop)


def joined(a: range | None, b: range) -> range:
    """Return the rows from the first of both to the last."""
    return b if a is None else range(min(a.start, b.start), max(a.stop, b.stop))


@dataclass(frozen=True)
class Patch:
    """A part of a program that is computed in bands.

    Attributes
    ----------
    source, result : str
        The tensor that it reads and the one that it makes; nothing else leaves or enters it.
    rows : int
        Of the result, in every band but the last.
    """

    source: str
    result: str
    rows: int
