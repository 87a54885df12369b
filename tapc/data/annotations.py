"""Pictures with boxes as Pascal VOC and COCO store them; pictures are resized to what the network takes.

VOC: a folder with JPEGImages, Annotations and, where the set is divided, ImageSets/Main/train.txt, val.txt or test.txt.
COCO: a folder with annotations/instances_train2017.json and pictures in train2017 or images, or such a file.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.data.dataset import DataSet, Part, PartName, part_of
from tapc.data.detection import CROWD, HARD
from tapc.data.images import Picture, pixels, read_file
from tapc.data.limits import check_memory, reading

_LARGEST = 1 << 30
FIELDS = 6
"""Of a box: class, x0, y0, x1, y1 in pixels, and whether it is hard (1) or a crowd (2)."""


@dataclass(frozen=True, eq=False)
class Annotated:
    """A picture and its boxes, in pixels of the picture as it is stored.

    Attributes
    ----------
    file : Path
    width, height : int
    boxes : list of (str, float, float, float, float, int)
        Name of the class, x0, y0, x1, y1, kind.
    """

    file: Path
    width: int
    height: int
    boxes: list[tuple[str, float, float, float, float, int]]


def is_voc(path: Path) -> bool:
    """Whether a folder looks like one of Pascal VOC."""
    return (path / "Annotations").is_dir() and (path / "JPEGImages").is_dir()


def is_coco(path: Path) -> bool:
    """Whether a path looks like COCO's: its folder, or a file of annotations."""
    return path.suffix.lower() == ".json" or bool(_coco_files(path))


def open_voc(path: Path, shape: tuple[int, ...]) -> DataSet:
    """Open a folder of Pascal VOC; classes are in the order of their names.

    Raises
    ------
    DataError
        Damaged files, or pictures that are missing.
    """
    lists = voc_lists(path, "Main") or {"": sorted(file.stem for file in (path / "Annotations").glob("*.xml"))}
    parts = {part: [_of_voc(path, stem) for stem in stems] for part, stems in lists.items()}
    names = sorted({box[0] for pictures in parts.values() for one in pictures for box in one.boxes})
    return _data_set(path, parts, names, shape)


def voc_lists(path: Path, folder: str) -> dict[PartName, list[str]]:
    """Return the names of the pictures of each part, from a folder of ImageSets; none where it has no lists."""
    lists: dict[PartName, list[str]] = {}
    divided: tuple[PartName, ...] = ("train", "val", "test")
    for name in divided:
        file = path / "ImageSets" / folder / f"{name}.txt"
        if file.is_file():
            lists[name] = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return lists


def _of_voc(path: Path, stem: str) -> Annotated:
    file = path / "Annotations" / f"{stem}.xml"
    with reading(str(file), "a readable annotation of Pascal VOC", "remove or replace it"):
        root = ElementTree.parse(file).getroot()
        size = root.find("size")
        assert size is not None, "no size"
        width, height = (int(_text(size, name)) for name in ("width", "height"))
        boxes = []
        for found in root.iter("object"):
            box = found.find("bndbox")
            assert box is not None, "no bndbox"
            x0, y0, x1, y1 = (float(_text(box, name)) for name in ("xmin", "ymin", "xmax", "ymax"))
            hard = HARD if (found.findtext("difficult") or "0").strip() == "1" else 0
            # Pixels are counted from 1, and the last is inside.
            boxes.append((_text(found, "name"), x0 - 1, y0 - 1, x1, y1, hard))
        return Annotated(path / "JPEGImages" / (root.findtext("filename") or f"{stem}.jpg"), width, height, boxes)


def _text(element: ElementTree.Element, name: str) -> str:
    text = element.findtext(name)
    assert text is not None, f"no {name}"
    return text.strip()


def open_coco(path: Path, shape: tuple[int, ...]) -> DataSet:
    """Open COCO's folder or a file of annotations; classes are in the order of their numbers.

    Raises
    ------
    DataError
        Damaged files, or pictures that are missing.
    """
    alone: PartName = ""
    files = _coco_files(path) if path.is_dir() else {alone: path}
    parts: dict[PartName, list[Annotated]] = {}
    names: dict[int, str] = {}
    for part, file in files.items():
        if file.stat().st_size > _LARGEST:
            raise DataError(f"{file}: has {file.stat().st_size:,} bytes; annotations have at most {_LARGEST:,}")
        with reading(str(file), "a readable file of COCO's annotations", "give instances_*.json"):
            content = json.loads(file.read_text(encoding="utf-8"))
            names |= {int(one["id"]): str(one["name"]) for one in content["categories"]}
            parts[part] = _of_coco(file, content, names)
    return _data_set(path, parts, [names[number] for number in sorted(names)], shape)


def _coco_files(path: Path) -> dict[PartName, Path]:
    found: dict[PartName, Path] = {}
    for file in sorted((path / "annotations").glob("instances_*.json")) if path.is_dir() else ():
        part = part_of(file.stem.removeprefix("instances_").rstrip("0123456789"))
        found[part or ""] = file
    return found


def _of_coco(file: Path, content: Any, names: dict[int, str]) -> list[Annotated]:
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    own = file.stem.removeprefix("instances_")
    boxes: dict[int, list[tuple[str, float, float, float, float, int]]] = {}
    for one in content["annotations"]:
        x, y, width, height = map(float, one["bbox"])
        row = (names[int(one["category_id"])], x, y, x + width, y + height, CROWD if one.get("iscrowd") else 0)
        boxes.setdefault(int(one["image_id"]), []).append(row)
    found = []
    for one in sorted(content["images"], key=lambda image: int(image["id"])):
        places = [folder / str(one["file_name"]) for folder in (root / own, root / "images", root, file.parent)]
        picture = next((place for place in places if place.is_file()), places[0])
        found.append(Annotated(picture, int(one["width"]), int(one["height"]), boxes.get(int(one["id"]), [])))
    return found


def _data_set(
    path: Path, parts: dict[PartName, list[Annotated]], names: Sequence[str], shape: tuple[int, ...]
) -> DataSet:
    every = [one for pictures in parts.values() for one in pictures]
    if not every:
        raise DataError(f"{path}: holds no annotated pictures; the data set needs samples")
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise DataError(f"{path}: images cannot feed a network with input shape {shape}")
    most = max(1, *(len(one.boxes) for one in every))
    number = {name: index for index, name in enumerate(names)}
    made = {
        part: Part(
            len(own),
            resized_reader(path, [one.file for one in own], shape),
            np.stack([_rows(one, number, most, shape) for one in own]),
        )
        for part, own in parts.items()
        if own
    }
    return DataSet(str(path), made, tuple(names), pictures=True)


def _rows(one: Annotated, number: dict[str, int], most: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return boxes (most, 6) in pixels of the network's input."""
    rows = np.full((most, FIELDS), -1, np.float32)
    scale = np.array([shape[3] / one.width, shape[2] / one.height] * 2)
    for row, (name, *box, kind) in zip(rows, one.boxes, strict=False):
        row[:] = (number[name], *(np.array(box) * scale), kind)
    return rows


def resized_reader(
    path: Path, files: Sequence[Path], shape: tuple[int, ...]
) -> Callable[[NDArray[np.intp]], NDArray[Any]]:
    """Return what reads pictures by their indices, (n, C, H, W), resized."""

    def take(index: NDArray[np.intp]) -> NDArray[Any]:
        check_memory(len(index) * shape[1] * shape[2] * shape[3], str(path))
        pictures = [Picture(file.name, partial(read_file, file.parent, file)) for file in (files[i] for i in index)]
        return np.stack([pixels(path, picture, shape, resized=True) for picture in pictures])

    return take
