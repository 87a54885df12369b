"""Folders of Pascal VOC and COCO: boxes in pixels of the network's input, classes, parts, damage."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tapc.base.errors import DataError
from tapc.data import Samples, in_order, load_samples

SHAPE = (1, 3, 16, 16)
OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"


def corners(x0: int, y0: int, x1: int, y1: int) -> str:
    return f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 200
    Image.fromarray(pixels).save(path)


def loaded(path: Path, split: str = "all") -> Samples:
    return load_samples(path, SHAPE, pixel_scale=1.0, count=None, split=split)  # type: ignore[arg-type]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    objects = {"a": OBJECT.format("dog", 0, corners(1, 1, 16, 8)), "b": OBJECT.format("cat", 1, corners(17, 1, 32, 16))}
    for stem, text in objects.items():
        picture(tmp_path / "JPEGImages" / f"{stem}.png")
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>{stem}.png</filename><size><width>32</width><height>16</height></size>{text}"
            "</annotation>"
        )
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    return tmp_path


def test_boxes_of_voc_are_in_pixels_of_the_input(voc: Path) -> None:
    every = loaded(voc)
    assert every.x.shape == (2, 3, 16, 16)
    assert every.x[0, 0, 0, 2] == 0
    assert every.x[0, 0, 0, 12] == 200
    assert (every.fields, every.labels) == (6, ("cat", "dog"))
    assert every.y is not None
    assert every.y.tolist() == [[1, 0, 0, 8, 8, 0], [0, 8, 0, 16, 16, 1]]
    test = loaded(voc, "test")
    assert test.y is not None
    assert test.y.tolist() == [[0, 8, 0, 16, 16, 1]]


def test_boxes_get_the_classes_of_the_network(voc: Path) -> None:
    found = in_order(loaded(voc), ("bird", "dog"))
    assert found.y is not None
    assert found.y[:, 0].tolist() == [1, -1]
    assert any("does not know cat" in warning for warning in found.warnings)


def test_damaged_annotations_are_told(voc: Path) -> None:
    (voc / "Annotations" / "a.xml").write_text("<annotation><size/></annotation>")
    with pytest.raises(DataError, match=r"a\.xml: not a readable annotation of Pascal VOC \(no width\)"):
        loaded(voc)


def test_boxes_of_coco(tmp_path: Path) -> None:
    picture(tmp_path / "val2017" / "7.png")
    file = tmp_path / "annotations" / "instances_val2017.json"
    file.parent.mkdir()
    content = {
        "images": [{"id": 7, "file_name": "7.png", "width": 32, "height": 16}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [4, 2, 8, 4], "iscrowd": 0},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 32, 16], "iscrowd": 1},
        ],
    }
    file.write_text(json.dumps(content))
    for path in (tmp_path, file):
        found = loaded(path)
        assert found.labels == ("cat", "dog")
        assert found.y is not None
        assert found.y.tolist() == [[1, 2, 2, 6, 6, 0, 0, 0, 0, 16, 16, 2]]
    file.write_text(json.dumps(content | {"categories": []}))
    with pytest.raises(DataError, match="not a readable file of COCO's annotations"):
        loaded(file)
