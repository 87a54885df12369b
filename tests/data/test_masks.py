"""Folders of Pascal VOC with masks: class numbers of a palette, void, sizes, parts, damage."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from tapc.base.errors import DataError
from tapc.data import Samples, load_samples
from tapc.data.choice import choose
from tapc.data.masks import masks_of
from tapc.data.metrics import measure

COLOURS = (0, 0, 0, 128, 0, 0, 0, 128, 0)
"""Of the first three classes, as Pascal VOC colours them."""


def mask(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(rows, np.uint8), "P")
    image.putpalette(list(COLOURS) + [224] * (768 - len(COLOURS)))
    image.save(path)


def picture(path: Path, value: int, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def network(outputs: tuple[int, ...], inputs: tuple[int, ...] = (1, 3, 4, 4)) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in
            (("x", inputs), ("y", outputs))]  # fmt: skip
    return helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:]))


def loaded(path: Path, outputs: tuple[int, ...] = (1, 3, 4, 4), split: Any = "all") -> Samples:
    return load_samples(path, (1, 3, 4, 4), pixel_scale=1.0, count=None, split=split, masks=masks_of(network(outputs)))


FIRST = [[0, 0, 1, 1], [0, 255, 255, 1], [2, 255, 0, 0], [2, 2, 0, 0]]
SECOND = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 255]]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for number, (stem, rows) in enumerate({"a": FIRST, "b": SECOND}.items()):
        mask(tmp_path / "SegmentationClass" / f"{stem}.png", rows)
        picture(tmp_path / "JPEGImages" / f"{stem}.jpg", 40 * number)
    picture(tmp_path / "JPEGImages" / "c.jpg", 0)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\nc\n")
    return tmp_path


def test_masks_hold_class_numbers_and_the_metric_is_that_of_hand(voc: Path) -> None:
    every = loaded(voc)
    assert every.y is not None
    np.testing.assert_array_equal(every.y.reshape(2, 4, 4), [FIRST, SECOND])
    assert every.x[:, 0, 0, 0].tolist() == [0, 40]
    assert any("1 of 3 pictures have no mask: not used" in text for text in every.warnings)
    metric = choose("miou", every, network((1, 3, 4, 4)))
    assert choose("auto", every, network((1, 3, 4, 4))) == metric
    named = np.zeros((2, 4, 4), np.int64)  # all background but the first row of the second picture, half of it right
    named[1, 0] = (1, 1, 2, 2)
    scores = np.eye(3)[named].transpose(0, 3, 1, 2).astype(np.float32)
    found = measure(metric, scores, every).values
    # Background: 7 + 11 of 24 that are said so, no others; class 1: 2 of 7; class 2: 0 of 3 and 2 that are none.
    assert found["miou"] == pytest.approx(100 * (18 / 24 + 2 / 7 + 0 / 5) / 3)
    assert found["pixels"] == pytest.approx(100 * 20 / 28)


def test_parts_are_those_of_the_lists(voc: Path) -> None:
    test = loaded(voc, split="test")
    assert test.y is not None
    np.testing.assert_array_equal(test.y.reshape(-1, 4, 4), [SECOND])
    for file in (voc / "ImageSets" / "Segmentation").iterdir():
        file.unlink()
    assert len(loaded(voc).x) == 2


def test_a_mask_has_the_size_of_the_output(voc: Path) -> None:
    """Every second pixel of a map that is half as large; pictures are resized to the input."""
    mask(voc / "SegmentationClass" / "a.png", np.repeat(np.repeat(FIRST, 3, axis=0), 2, axis=1))
    picture(voc / "JPEGImages" / "a.jpg", 80, (12, 8))
    found = loaded(voc)
    assert found.y is not None
    np.testing.assert_array_equal(found.y.reshape(2, 4, 4), [FIRST, SECOND])
    assert found.x[0, 0, 0, 0] == 80
    mask(voc / "SegmentationClass" / "a.png", np.kron([[0, 1], [2, 255]], np.ones((5, 3))))
    half = loaded(voc, (1, 3, 2, 2))
    assert half.y is not None
    assert half.y[0].tolist() == [0, 1, 2, 255]


def test_other_networks_get_boxes_or_no_labels(voc: Path) -> None:
    assert loaded(voc, (1, 3)).y is None
    assert "whose one output is a map" in loaded(voc, (1, 3)).unlabelled
    (voc / "Annotations").mkdir()
    for stem in "ab":
        (voc / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>{stem}.jpg</filename><size><width>4</width><height>4</height></size><object><name>x"
            "</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>"
        )
    assert loaded(voc, (1, 3)).fields == 6
    found = loaded(voc)
    assert found.y is not None
    assert found.y.shape == (2, 16)


def refused(voc: Path) -> str:
    with pytest.raises(DataError) as caught:
        choose("miou", loaded(voc), network((1, 3, 4, 4)))
    return str(caught.value)


def test_what_is_no_mask(voc: Path) -> None:
    file = voc / "SegmentationClass" / "a.png"
    mask(file, np.full((4, 4), 7))
    assert "masks hold 0 to 7; classes are 0 to 2, and 255 where none counts" in refused(voc)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file)
    assert "SegmentationClass/a.png: has colours (mode RGB); a mask has class numbers" in refused(voc)
    file.write_bytes(b"nothing")
    assert "SegmentationClass/a.png: not a readable mask" in refused(voc)
    mask(file, FIRST)
    (voc / "JPEGImages" / "a.jpg").unlink()
    assert "a.jpg" in refused(voc)
    for own in (voc / "SegmentationClass").iterdir():
        own.unlink()
    assert "holds no masks (SegmentationClass/NAME.png)" in refused(voc)
