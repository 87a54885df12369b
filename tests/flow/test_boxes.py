"""Post-processing inside a file, from the file to the board: detections are the firmware's, their precision told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frontend.tflite_builder import TfliteBuilder
from tapc import compile as compile_network
from tapc.base.detector import detector
from tapc.base.errors import UnsupportedError
from tapc.flow.rerun import open_build
from tapc.frontend import load

HEIGHT, WIDTH, EACH = 4, 5, 2
OPTIONS: dict[str, Any] = {
    "max_classes_per_detection": 1, "nms_score_threshold": 0.5, "nms_iou_threshold": 0.5, "num_classes": 2,
    "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
}  # fmt: skip


def anchors() -> NDArray[np.float32]:
    """Return two anchors of each pixel, as large as it."""
    rows, columns = (np.arange(HEIGHT) + 0.5) / HEIGHT, (np.arange(WIDTH) + 0.5) / WIDTH
    middles = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.repeat(np.concatenate([middles, middles * 0 + (1 / HEIGHT, 1 / WIDTH)], axis=1), EACH, axis=0).astype(
        "f4"
    )


def write(path: Path, regular: bool, *, most: int = 6, integers: str = "", **options: Any) -> None:
    """Write a network that sees a box of class 0 or 1 where that channel is bright; the third tells its size.

    The second anchor of a pixel sees the same, a little less surely. Of integers the post-processing reads "codes", or
    what they are "real".
    """
    kind = "int8" if integers else "float32"
    b = TfliteBuilder(1, HEIGHT, WIDTH, 3, dtype=kind)
    scores, boxes = np.zeros((EACH, 3, 1, 1, 3), np.float32), np.zeros((EACH, 4, 1, 1, 3), np.float32)
    scores[:, 1:, 0, 0, :2] = 8 * np.eye(2)
    boxes[:, 2:, 0, 0, 2] = 5
    bias = np.array([[-8, -4, -4], [-8, -5, -5]], np.float32)

    def quantized(index: int, scale: float, zero: int = 0) -> int:
        if integers:
            b.quantize(index, np.array([scale], np.float32), 0, zero)
        return index

    def made(index: int, scale: float, zero: int = 0) -> int:
        b.graph.tensors[index].type = b.graph.tensors[b.input].type
        return quantized(index, scale, zero)

    quantized(b.input, 1 / 64)
    maps = []
    for weights, shift, scale in ((boxes, np.zeros((EACH, 4), np.float32), 0.05), (scores, bias, 0.0625)):
        flat, whole = weights.reshape(-1, 1, 1, 3), shift.reshape(-1)
        if integers:
            flat, whole = (flat * 8).astype(np.int8), (whole * 8 * 64).astype(np.int32)
        inputs = [b.input, quantized(b.constant(flat), 1 / 8), quantized(b.constant(whole), 1 / 512)]
        x = b.operator("CONV_2D", inputs, (1, HEIGHT, WIDTH, len(flat)), "Conv2DOptions", strideW=1, strideH=1)
        maps.append(made(b.reshape(made(x, scale), 1, HEIGHT * WIDTH * EACH, weights.shape[1]), scale))
    maps[1] = made(b.operator("LOGISTIC", [maps[1]], (1, HEIGHT * WIDTH * EACH, 3)), 1 / 256, -128)
    if integers == "real":
        maps = [b.operator("DEQUANTIZE", [own], tuple(b.graph.tensors[own].shape)) for own in maps]
    given = OPTIONS | {"use_regular_nms": regular} | options
    path.write_bytes(b.finish(*b.post_process(*maps, b.constant(anchors()), most, **given)))


def pictures(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return pictures with two objects each, and their boxes."""
    rng = np.random.default_rng(seed)
    x, y = np.zeros((count, 3, HEIGHT, WIDTH), np.float32), np.full((count, 2, 5), -1, np.float32)
    for picture, boxes in zip(x, y, strict=True):
        for box, column in zip(boxes, (1, 3), strict=True):
            kind, row, grown = int(rng.integers(2)), int(rng.integers(1, 3)), float(rng.uniform(-0.4, 0.4))
            picture[kind, row, column], picture[2, row, column] = 1, grown
            middle = np.array([column, row] * 2) + 0.5
            box[:] = (kind, *(middle + np.array([-1, -1, 1, 1]) * np.exp(grown) / 2))
    return x, y


@pytest.mark.parametrize("regular", [False, True])
def test_post_processing_is_the_firmware_s(tmp_path: Path, regular: bool) -> None:
    write(tmp_path / "ssd.tflite", regular)
    x, y = pictures(24, 0)
    np.savez(tmp_path / "boxes.npz", x=x, y=y)
    result = compile_network(
        tmp_path / "ssd.tflite", board="microbit" if regular else "stm32h7", data=tmp_path / "boxes.npz", wbits=8,
        eval=12, output=tmp_path / "build",
    )  # fmt: skip
    report = result.report
    assert report.exact
    assert report.layers[-1].op == "nms"
    assert report.accuracy.metric == "map"
    assert [report.accuracy.scores[who]["map50"] for who in ("float", "onnx", "device")] == [100, 100, 100]
    assert report.accuracy.scores["device"]["map"] > 90
    header = (tmp_path / "build" / "lib" / "ssd.h").read_text()
    assert "#define SSD_OUTPUT_DETECTIONS_PARTS 8192" in header
    assert "right and lower edge in 1 / 8192 of the picture's width or height" in header
    assert len(open_build(tmp_path / "build").lowered().program.output_names) == 3  # from model.onnx


def test_the_network_ends_before_its_post_processing(tmp_path: Path) -> None:
    write(tmp_path / "ssd.tflite", False)
    model = load(tmp_path / "ssd.tflite")
    own = detector(model.onnx)
    assert own is not None
    assert (own.most, own.overlap, own.maps) == (6, 0.5, tuple(port.name for port in model.outputs))
    assert "checked against LiteRT" in model.provenance
    for options, words in (
        ({"max_classes_per_detection": 2}, "2 classes of a detection; convert"),
        ({"num_classes": 1}, "3 scores of a box and 1 classes"),
    ):
        write(tmp_path / "other.tflite", False, **options)
        with pytest.raises(UnsupportedError, match=words):
            load(tmp_path / "other.tflite")


@pytest.mark.parametrize("integers", ["codes", "real"])
def test_integers_of_a_file_are_kept(tmp_path: Path, integers: str) -> None:
    write(tmp_path / "ssd.tflite", False, integers=integers)
    x, y = pictures(6, 1)
    np.savez(tmp_path / "boxes.npz", x=x, y=y)
    result = compile_network(
        tmp_path / "ssd.tflite", board="nucleo-f103rb", data=tmp_path / "boxes.npz", output=tmp_path / "build"
    )
    assert result.report.exact
    assert result.report.arithmetic == "tflite"
    program = open_build(tmp_path / "build").lowered().program
    scores, boxes = (program.tensors[name] for name in program.outputs[:2])
    assert (scores.quantization, boxes.quantization) == ((1 / 256, -128), (np.float32(0.05), 0))
    assert result.report.accuracy.scores["device"]["map50"] == 100
