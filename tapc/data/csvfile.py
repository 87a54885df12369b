"""CSV: one sample per row, with or without a header, the label in a column of its own."""

import csv
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.data.dataset import DataSet, Part
from tapc.data.limits import MEMORY, check_memory, reading

_LABEL = re.compile(r"(label|class|target|y)(s|es)?[\s_.-]?\d*", re.IGNORECASE)


def open_csv(path: Path, shape: tuple[int, ...]) -> DataSet:
    """Read a CSV file.

    Columns named label, class, target or y (with a number, where there are several) are labels; so is the last column
    of a file without such names where it has one column more than the network has inputs. A first column without a
    name is the index that pandas writes, and left out.

    Cells are separated by tabs or semicolons where the first row has such, else by commas. Only in the former commas
    may stand for decimal points.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        The network's input with batch 1.

    Raises
    ------
    DataError
        Rows of unequal length, cells that are no numbers, or as many columns as do not fit.
    """
    check_memory(path.stat().st_size, str(path))
    with reading(str(path), "a readable CSV file", "write one sample per row, numbers with commas between them"):
        header, y, x = _read(path, math.prod(shape))
    return DataSet(
        str(path), {"": Part(len(x), lambda index: x[index], y)},
        unlabelled="no column is named label, class, target or y" if header else "there is no column of labels",
    )  # fmt: skip


def _read(path: Path, inputs: int) -> tuple[list[str], NDArray[Any] | None, NDArray[Any]]:
    """Return the header, the labels of all rows where there are some, and the values."""
    labels: list[list[str]] = []
    values: list[NDArray[np.float64]] = []
    header: list[str] = []
    chosen: list[int] = []
    marked: list[int] = []
    width = size = 0
    with path.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
        # Counting would take "," in rows like "1,5;2,5".
        delimiter = next((known for known in ("\t", ";") if known in first), ",")
        decimal = delimiter != ","
        stream.seek(0)
        for number, cells in enumerate(csv.reader(stream, delimiter=delimiter), 1):
            if not any(cell.strip() for cell in cells):
                continue
            if not width:
                width = len(cells)
                numbers = [_number(cell, decimal) is not None for cell in cells]
                named = not all(numbers[:-1] if width > 1 else numbers)
                header = [cell.strip() for cell in cells] if named else []
                chosen, marked = _columns(path, header, width, inputs)
                if named:
                    continue
            if len(cells) != width:
                raise DataError(f"{path}: row {number} has {len(cells)} cells, others have {width}")
            row = [_number(cells[column], decimal) for column in chosen]
            if None in row:
                column = chosen[row.index(None)]
                raise DataError(
                    f"{path}: row {number}, column {column + 1} holds {cells[column][:40]!r}, which is no number"
                    + ("; separate cells by semicolons where commas are decimal points" if "," in cells[column] else "")
                )
            values.append(np.array(row, np.float64))
            if marked:
                labels.append([cells[column].strip() for column in marked])
            size += values[-1].nbytes
            if size > MEMORY:
                raise DataError(f"{path}: holds more than {MEMORY:,} bytes of values; give fewer samples")
    if not values:
        raise DataError(f"{path}: is empty; the data set needs samples")
    x, y = np.stack(values), _labels(labels, decimal) if labels else None
    if (np.abs(x) < 2.0**31).all() and (x == np.rint(x)).all():
        return header, y, x.astype(np.int64)
    return header, y, x


def _columns(path: Path, header: list[str], width: int, inputs: int) -> tuple[list[int], list[int]]:
    """Return the columns of values and those of labels."""
    columns = list(range(width))
    if header and header[0] == "" and width > 1:
        columns = columns[1:]
    marked = [i for i in columns if header and _LABEL.fullmatch(header[i])]
    if marked and len(columns) - len(marked) != inputs and len(columns) == inputs:
        marked = []  # inputs that happen to be called y1, y2 ...
    if not marked and len(columns) == inputs + 1:
        marked = columns[-1:]
    chosen = [i for i in columns if i not in marked]
    if len(chosen) != inputs:
        raise DataError(
            f"{path}: {len(chosen)} columns of values (and {len(marked)} of labels), the network takes {inputs}; "
            "write one sample per row: its values, and the label in a column named 'label' or the last one"
        )
    return chosen, marked


def _number(cell: str, decimal: bool) -> float | None:
    """Return a cell's number, None where it is none; `decimal` lets commas stand for decimal points."""
    try:
        return float(cell.replace(",", ".") if decimal else cell)
    except ValueError:
        return None


def _labels(rows: list[list[str]], decimal: bool) -> NDArray[Any]:
    numbers = [[_number(cell, decimal) for cell in row] for row in rows]
    return np.array(rows) if any(None in row for row in numbers) else np.array(numbers, np.float64)
