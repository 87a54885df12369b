"""What a reader returns: a data set whose values are read when samples of it have been chosen."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.data.samples import Split
from tapc.data.units import PixelUnits

PartName = Literal["train", "val", "test", ""]
SPLIT_NAMES: dict[str, PartName] = {
    **dict.fromkeys(("train", "training", "calibration", "calib", "trainset", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "testset", "test_set"), "test"),
}
"""Names of folders and arrays, in small letters, and the part of a data set that they mean."""
_WORDS = re.compile(r"[\s_.-]+")


@dataclass(frozen=True, eq=False)
class Part:
    """Samples of one part of a data set.

    Attributes
    ----------
    size : int
    take : callable
        Raw values (n, ...) of the samples with the indices (n,).
    y : ndarray or None
        Labels as they are stored, one row per sample.
    """

    size: int
    take: Callable[[NDArray[np.intp]], NDArray[Any]]
    y: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set.

    Attributes
    ----------
    name : str
        For messages.
    parts : dict
        Part per name; "" is a single set.
    names : tuple of str or None
        Classes, where labels are their indices.
    units : PixelUnits or None
        The set's own.
    pictures : bool or None
        Whether samples are pictures; None where only their values tell.
    unlabelled : str
        Why there are no labels.
    warnings : tuple of str
    whole_labels : bool
        Of sequences: a label is that of a whole one.
    """

    name: str
    parts: dict[PartName, Part]
    names: tuple[str, ...] | None = None
    units: PixelUnits | None = None
    pictures: bool | None = None
    unlabelled: str = ""
    warnings: tuple[str, ...] = ()
    whole_labels: bool = False

    def chosen(self, split: Split) -> tuple[list[Part], bool]:
        """Return the parts of a split, and whether it is a single set that has to be divided.

        Validation samples test where there are no others to test with, and train where there are no others for that.
        """
        test = next((name for name in ("test", "val") if name in self.parts), None)
        train = next((name for name in ("train", "val", "") if name in self.parts and name != test), None)
        if test is None or train is None:
            return list(self.parts.values()), True
        if split == "all":
            return list(self.parts.values()), False
        return [self.parts[test if split == "test" else train]], False


def part_of(name: str) -> PartName | None:
    """Return the part that a folder's name means, or None."""
    return SPLIT_NAMES.get(_WORDS.sub("_", name.strip().lower()))


def labels_of(parts: list[Part], every: list[Part], name: str) -> tuple[NDArray[Any] | None, tuple[str, ...] | None]:
    """Return the labels of some parts and the names of classes; both follow from the labels of all parts together."""
    if any(part.y is None for part in every):
        return None, None
    stored = [np.asarray(part.y) for part in every]
    if len({array.shape[1:] for array in stored}) > 1:
        raise DataError(f"{name}: labels of the training and the test set differ in shape")
    for part, array in zip(every, stored, strict=True):
        if array.ndim == 0 or len(array) != part.size:
            raise DataError(
                f"{name}: {part.size} samples but labels of shape {array.shape}; needs one label per sample"
            )
    y, names = interpreted(np.concatenate(stored), name)
    starts = np.cumsum([0, *(part.size for part in every)])
    own = [y[start : start + part.size] for part, start in zip(every, starts, strict=False) if part in parts]
    return np.concatenate(own), names


def interpreted(y: NDArray[Any], name: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return labels as class indices (N,) or targets (N, K), and names of classes where they are names.

    Names become classes in their sorted order. Rows of zeros with a single one are classes, too. Masks (N, H, W) and
    boxes (N, M, 5) become rows.

    Raises
    ------
    DataError
        NaN, complex or other values that are neither.
    """
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind in "US":
        texts = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
        if texts.ndim != 1:
            raise DataError(f"{name}: names of classes have shape {texts.shape}; needs one per sample")
        names, index = np.unique(texts, return_inverse=True)
        return index.astype(np.int64), tuple(map(str, names))
    if y.dtype.kind not in "biuf":
        raise DataError(f"{name}: labels are of type {y.dtype}; give class numbers, names or targets")
    if not np.isfinite(y).all():
        raise DataError(f"{name}: labels hold NaN or infinite values; remove or repair them")
    whole = bool((np.abs(y) < 2.0**53).all() and (y == np.rint(y)).all()) if y.dtype.kind == "f" else True
    if y.ndim == 1:
        return (y.astype(np.int64) if whole else y.astype(np.float32)), None
    rows = y.reshape(len(y), -1)
    if max(y.shape[1:]) < rows.shape[1]:  # masks or boxes
        return rows.astype(np.float32), None
    if whole and ((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all():
        return rows.argmax(axis=1).astype(np.int64), None
    return rows.astype(np.float32), None
