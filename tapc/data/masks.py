"""Pictures with a class for every pixel as Pascal VOC stores them: PNG files of class numbers, 255 where none counts.

A folder has JPEGImages, SegmentationClass and, where the set is divided, ImageSets/Segmentation/train.txt, val.txt or
test.txt. Pictures and masks are resized to what the network takes and gives.
"""

import math
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.detector import described
from tapc.base.errors import DataError
from tapc.data.annotations import resized_reader, voc_lists
from tapc.data.dataset import DataSet, Part, PartName
from tapc.data.images import FORMATS, IMAGE_SUFFIXES, read_file
from tapc.data.limits import check_memory, reading

FOLDER = "SegmentationClass"


def masks_of(graph: onnx.ModelProto) -> tuple[int, int] | None:
    """Return height and width of the masks that a network's outputs are compared with; None where they are no map."""
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.graph.output]
    if len(shapes) != 1 or len(shapes[0]) != 4 or math.prod(shapes[0][2:]) <= 1 or described(graph) is not None:
        return None
    return shapes[0][2], shapes[0][3]


def has_masks(path: Path) -> bool:
    """Whether a folder looks like one of Pascal VOC with masks."""
    return (path / FOLDER).is_dir() and (path / "JPEGImages").is_dir()


def open_masks(path: Path, shape: tuple[int, ...], extents: tuple[int, int] | None) -> DataSet:
    """Open a folder of Pascal VOC with masks; pictures that have none are left out, with a warning.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        The network's input shape, (1, 1 or 3, H, W).
    extents : (int, int) or None
        Height and width of the masks that are wanted; None: pictures without labels.

    Raises
    ------
    DataError
        Damaged files, or pictures that are missing.
    """
    lists = voc_lists(path, "Segmentation") or {"": sorted(file.stem for file in (path / FOLDER).glob("*.png"))}
    masks = {part: [path / FOLDER / f"{stem}.png" for stem in stems] for part, stems in lists.items()}
    there = {part: [file for file in files if file.is_file()] for part, files in masks.items()}
    parts: dict[PartName, list[Path]] = {part: files for part, files in there.items() if files}
    total = sum(map(len, parts.values()))
    if not total:
        raise DataError(f"{path}: holds no masks ({FOLDER}/NAME.png) of its pictures; the data set needs samples")
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise DataError(f"{path}: images cannot feed a network with input shape {shape}")
    missing = sum(map(len, masks.values())) - total
    notes = (f"{path}: {missing} of {missing + total} pictures have no mask: not used",) if missing else ()
    if extents is not None:
        check_memory(4 * total * math.prod(extents), str(path))
    made = {
        part: Part(
            len(files), resized_reader(path, [_picture(path, file.stem) for file in files], shape),
            None if extents is None else np.stack([_mask(path, file, extents) for file in files]),
        )
        for part, files in parts.items()
    }  # fmt: skip
    why = "" if extents is not None else "masks are labels of a network whose one output is a map, (classes, H, W)"
    return DataSet(str(path), made, None, pictures=True, unlabelled=why, warnings=notes)


def _picture(path: Path, stem: str) -> Path:
    places = [path / "JPEGImages" / f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES]
    return next((place for place in places if place.is_file()), places[0])


def _mask(path: Path, file: Path, extents: tuple[int, int]) -> NDArray[np.uint8]:
    """Return class numbers (H, W); of a mask of another size those of the nearest pixels."""
    from PIL import Image

    what = f"{path}: {FOLDER}/{file.name}"
    with reading(what, "a readable mask", "remove or replace it"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(BytesIO(read_file(path, file)), formats=FORMATS) as image:
            if image.mode not in ("P", "L", "1"):
                raise DataError(
                    f"{what}: has colours (mode {image.mode}); a mask has class numbers, as a PNG with a palette does"
                )
            grey = image.convert("L").point(lambda value: int(value > 0)) if image.mode == "1" else image
            return np.asarray(grey.resize(extents[::-1], Image.Resampling.NEAREST), np.uint8)
