"""CSV, .npy, names of arrays, arrays in memory and pictures: what is read, and what is refused."""

import os
import struct
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tapc.base.errors import DataError, UsageError
from tapc.data import PixelUnits, Samples, load_samples, random_samples
from tapc.data.dataset import interpreted
from tapc.data.limits import reading

RNG = np.random.default_rng(3)


def load(source: Any, shape: tuple[int, ...], scale: Any = 1.0, split: Any = "all") -> Samples:
    return load_samples(source, shape, pixel_scale=scale, count=None, split=split)


@pytest.mark.parametrize(("x", "y"), [
    ("x", "y"), ("X", "Y"), ("images", "labels"), ("data", "target"), ("data", "targets"), ("inputs", "label"),
])  # fmt: skip
def test_usual_names_of_arrays(x: str, y: str, tmp_path: Path) -> None:
    values, labels = RNG.normal(0, 1, (6, 4)).astype(np.float32), np.arange(6)
    np.savez(tmp_path / "d.npz", **{x: values, y: labels})  # type: ignore[arg-type]
    for source in (tmp_path / "d.npz", str(tmp_path / "d.npz"), {x: values, y: labels}):
        found = load(source, (1, 4))
        assert np.array_equal(found.x, values)
        assert found.y is not None
        assert found.y.tolist() == labels.tolist()


@pytest.mark.parametrize("pattern", ["{}_{}", "{1}_{0}"])
@pytest.mark.parametrize("validation", ["val", "valid", "test"])
def test_divided_arrays(pattern: str, validation: str, tmp_path: Path) -> None:
    def name(part: str, role: str) -> str:
        return pattern.format(part, role)

    arrays = {name("train", "x"): np.ones((5, 4)), name("train", "y"): np.zeros(5, int),
              name(validation, "x"): np.zeros((3, 4)), name(validation, "y"): np.ones(3, int)}  # fmt: skip
    np.savez(tmp_path / "d.npz", **arrays)  # type: ignore[arg-type]
    train, test = (load(tmp_path / "d.npz", (1, 4), split=split) for split in ("calibration", "test"))
    assert (len(train.x), train.x.min(), len(test.x), test.x.max()) == (5, 1, 3, 0)
    assert len(load(tmp_path / "d.npz", (1, 4)).x) == 8


def test_folders_and_files_of_npy(tmp_path: Path) -> None:
    values = RNG.normal(0, 1, (7, 2, 3)).astype(np.float32)
    np.save(tmp_path / "X.npy", np.asfortranarray(values))
    alone = load(tmp_path / "X.npy", (1, 2, 3))
    assert np.array_equal(alone.x, values)
    assert alone.y is None
    assert "labels go into an npz" in alone.unlabelled
    np.save(tmp_path / "y.npy", np.arange(7))
    both = load(tmp_path, (1, 2, 3))
    assert both.y is not None
    assert np.array_equal(both.x, values)


CSV = {
    "header, label first": "label,a,b\n1,0.5,2\n0,1.5,3\n",
    "header, label last": "a;b;class\n0,5;2;1\n1,5;3;0\n",
    "decimal commas": "0,5;2,0;1\n1,5;3,0;0\n",
    "decimal commas, tabs": "0,5\t2,0\t1\n1,5\t3,0\t0\n",
    "no header": "0.5,2,1\n1.5,3,0\n",
    "index of pandas": ",a,b,y\n0,0.5,2,1\n1,1.5,3,0\n",
    "byte order mark": "\ufeffa\tb\ttarget\n0.5\t2\t1\n\n1.5\t3\t0\n",
}


@pytest.mark.parametrize("kind", CSV)
def test_csv(kind: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(CSV[kind], encoding="utf-8")
    found = load(tmp_path / "d.csv", (1, 2))
    assert np.array_equal(found.x, np.array([[0.5, 2], [1.5, 3]], np.float32))
    assert found.y is not None
    assert found.y.tolist() == [1, 0]
    assert found.y.dtype == np.int64


def test_csv_of_names_targets_integers_and_no_labels(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("a,b,label\n1,2,dog\n3,4,cat\n")
    names = load(tmp_path / "n.csv", (1, 1, 1, 2), PixelUnits(0.5))
    assert names.labels == ("cat", "dog")
    assert names.y is not None
    assert names.y.tolist() == [1, 0]
    assert names.whole
    assert names.x.reshape(-1).tolist() == [0.5, 1, 1.5, 2]
    (tmp_path / "t.csv").write_text("a,b,target_0,target_1\n1,2,0.5,1\n3,4,0.25,2\n")
    targets = load(tmp_path / "t.csv", (1, 2)).y
    assert targets is not None
    assert targets.tolist() == [[0.5, 1], [0.25, 2]]
    (tmp_path / "u.csv").write_text("a,b\n1,2.5\n3,4\n")
    assert load(tmp_path / "u.csv", (1, 2)).unlabelled == "no column is named label, class, target or y"


@pytest.mark.parametrize(("text", "message"), [
    ("a,b\n1,x\n", "row 2, column 2 holds 'x', which is no number$"),
    ('a,b\n1,"2,5"\n', "row 2, column 2 holds '2,5', which is no number; separate cells by semicolons"),
    ("1,2\n3\n", "row 2 has 1 cells"),
    ("1,2,3,4\n", r"columns of values .* the network takes 2"),
    ("", "is empty"),
    ("1,nan\n", "NaN"),
    ("\x00\xff", "one sample per row"),
])  # fmt: skip
def test_csv_says_where_it_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load(tmp_path / "d.csv", (1, 2))


def test_rows_for_several_channels_have_no_known_order(tmp_path: Path) -> None:
    row = ",".join(map(str, range(12)))
    (tmp_path / "d.csv").write_text(f"{row}\n{row}\n")
    assert load(tmp_path / "d.csv", (1, 1, 3, 4)).x[0].reshape(-1).tolist() == list(range(12))
    with pytest.raises(DataError, match=r"reshape\(-1, 3, 1, 4\) or x\.reshape\(-1, 1, 4, 3\)"):
        load(tmp_path / "d.csv", (1, 3, 1, 4))


@pytest.mark.parametrize(("given", "wanted", "message"), [
    ((128, 6), (1, 1, 6, 128), r"exchanged: give x\.transpose\(0, 2, 1\)"),
    ((12, 10), (1, 1, 10, 12), r"exchanged: give x\.transpose\(0, 2, 1\)"),
    ((3, 12, 10), (1, 3, 10, 12), r"exchanged: give x\.transpose\(0, 1, 3, 2\)"),
    ((12, 10, 3), (1, 3, 10, 12), r"exchanged: give x\.transpose\(0, 3, 2, 1\)"),
    ((5, 24), (1, 1, 10, 12), "as many values in another order"),
    ((5, 5), (1, 1, 10, 12), "resize or reorder"),
])  # fmt: skip
def test_shapes_that_do_not_fit(given: tuple[int, ...], wanted: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(np.zeros((2, *given), np.float32), wanted)


@pytest.mark.parametrize(("given", "wanted", "axes"), [
    ((6, 128), (1, 1, 6, 128), (0, 1, 2)),
    ((6, 128, 1), (1, 1, 6, 128), (0, 1, 2, 3)),
    ((6, 128), (1, 6, 1, 128), (0, 1, 2)),
    ((10, 12, 3), (1, 3, 10, 12), (0, 3, 1, 2)),
    ((128, 6), (1, 6, 1, 128), (0, 2, 1)),
    ((128, 6), (1, 6, 128, 1), (0, 2, 1)),
    ((120,), (1, 1, 10, 12), (0, 1)),
])  # fmt: skip
def test_shapes_that_fit_in_one_way(given: tuple[int, ...], wanted: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = RNG.normal(0, 1, (2, *given)).astype(np.float32)
    found = load(x, wanted)
    assert np.array_equal(found.x, x.transpose(axes).reshape(2, *wanted[1:]))
    assert bool(found.warnings) == (axes == (0, 2, 1))


LABELS: dict[str, tuple[Any, Any, tuple[str, ...] | None]] = {
    "strings": (np.array(["dog", "cat", "dog"]), [1, 0, 1], ("cat", "dog")),
    "bytes": (np.array([b"b", b"a", b"b"]), [1, 0, 1], ("a", "b")),
    "one-hot": (np.eye(3, dtype=np.uint8)[[2, 0, 1]], [2, 0, 1], None),
    "one-hot floats": (np.eye(3)[[2, 0, 1]], [2, 0, 1], None),
    "column": (np.array([[2], [0], [1]]), [2, 0, 1], None),
    "booleans": (np.array([True, False, True]), [1, 0, 1], None),
    "whole floats": (np.array([2.0, 0.0, 1.0]), [2, 0, 1], None),
    "fractions": (np.array([0.5, 0.25, 1.0]), [0.5, 0.25, 1.0], None),
    "targets": (np.array([[1, 2], [3, 4], [5, 6]]), [[1, 2], [3, 4], [5, 6]], None),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind: str) -> None:
    stored, expected, names = LABELS[kind]
    y, found = interpreted(stored, "d")
    assert y.tolist() == expected
    assert found == names
    assert y.dtype == (np.float32 if kind in ("fractions", "targets") else np.int64)


@pytest.mark.parametrize("y", [np.array([0, np.nan]), np.array([0j, 1]), np.array(["2020-01-01"] * 2, "M8[D]")])
def test_labels_that_are_none(y: Any) -> None:
    with pytest.raises(DataError, match="labels"):
        interpreted(y, "d")


def test_torch_data_sets_and_loaders() -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y = torch.randn(20, 3, 8, 8), torch.arange(20) % 4
    whole = TensorDataset(x, y)
    for source in (whole, DataLoader(whole, batch_size=6), (x, y), (x.numpy(), y.numpy())):
        found = load(source, (1, 3, 8, 8))
        assert np.array_equal(found.x, x.numpy())
        assert found.y is not None
        assert found.y.tolist() == y.tolist()
    assert load(x, (1, 3, 8, 8)).unlabelled == "only inputs were given"
    pictures = [(Image.new("RGB", (8, 8), (i, 0, 0)), i % 2) for i in range(4)]
    assert load(pictures, (1, 3, 8, 8), 1 / 255).x[:, 0, 0, 0] * 255 == pytest.approx([0, 1, 2, 3])
    with pytest.raises(DataError, match="no samples"):
        load(3, (1, 4))


def test_units_that_were_given_hold_for_floats() -> None:
    x = np.full((2, 3, 8, 8), 51.0, np.float32)
    assert load(x, (1, 3, 8, 8), PixelUnits(1 / 255)).x.max() == 51
    assert load(x, (1, 3, 8, 8), PixelUnits(1 / 255, given=True)).x.max() == np.float32(0.2)
    archive = {"x": np.zeros((2, 4), np.int8), "scale": np.array(0.5)}
    with pytest.raises(DataError, match="holds its own 'scale'"):
        load(archive, (1, 4), PixelUnits(2.0, given=True))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, [1.0, 2.0], "a", 1j])
def test_scales_that_are_none(scale: Any) -> None:
    with pytest.raises(DataError, match="scale"):
        load({"x": np.zeros((2, 4), np.int8), "scale": np.array(scale)}, (1, 4))


def picture(size: tuple[int, int] = (6, 8), kind: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.new("RGB", size, (9, 9, 9)).save(stream, kind)
    return stream.getvalue()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["validation", "Valid", "Testing", "EVAL", "test_set"])
def test_folders_of_parts(name: str, tmp_path: Path) -> None:
    files = {f"Training/{c}/{i}.png": picture() for c in "ab" for i in range(3)}
    files |= {f"{name}/{c}/0.png": picture() for c in "ab"}
    path = archive(tmp_path / "d.zip", files)
    train, test = (load(path, (1, 3, 8, 6), split=split) for split in ("calibration", "test"))
    assert (len(train.x), len(test.x), test.labels) == (6, 2, ("a", "b"))


def test_a_class_may_be_called_training(tmp_path: Path) -> None:
    path = archive(tmp_path / "d.zip", {f"{c}/{i}.png": picture() for c in ("training", "resting") for i in range(3)})
    found = load(path, (1, 3, 8, 6))
    assert found.labels == ("resting", "training")
    assert len(found.x) == 6


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    files = {"a/0.png": picture(), "b/0.png": picture(), "__MACOSX/a/._0.png": b"x", "a/.hidden.png": b"x"}
    assert len(load(archive(tmp_path / "d.zip", files), (1, 3, 8, 6)).x) == 2


@pytest.mark.parametrize(("names", "why"), [
    (["0.png", "1.png"], "no folders of classes"),
    (["a/0.png", "b/1.png", "2.png"], "1 images lie beside the folders of classes, as 2.png"),
    (["a/0.png", "a/1.png"], "all images lie in one folder, a"),
])  # fmt: skip
def test_why_there_are_no_labels(names: list[str], why: str, tmp_path: Path) -> None:
    found = load(archive(tmp_path / "d.zip", {name: picture() for name in names}), (1, 3, 8, 6))
    assert found.y is None
    assert why in found.unlabelled


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_16_bits_keep_their_values(channels: int, tmp_path: Path) -> None:
    raw = RNG.integers(0, 65536, (8, 6)).astype(np.uint16)
    Image.fromarray(raw).save(tmp_path / "a.png")
    found = load(tmp_path, (1, channels, 8, 6), 1 / 255)
    assert found.x[0, 0] == pytest.approx(raw / 65535, abs=1e-6)
    assert found.x.shape == (1, channels, 8, 6)


def test_exchanged_sides_are_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "d.zip", {"a.png": picture((8, 6))})
    with pytest.raises(DataError, match="8x6 pixels, the network takes 6x8; width and height are exchanged"):
        load(path, (1, 3, 8, 6))


def test_no_other_formats_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 8\n%%EndComments\nshowpage\n%%EOF\n"
    for name, content in (("eps", eps), ("gif", picture(kind="GIF")), ("tiff", picture(kind="TIFF"))):
        path = archive(tmp_path / f"{name}.zip", {"a.png": content})
        with pytest.raises(DataError, match=r"a\.png is not a readable image"):
            load(path, (1, 3, 8, 6))
    assert not (tmp_path / "ran").exists()


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": dtype})
    return stream.getvalue()


HOSTILE: dict[str, tuple[bytes, str]] = {
    "claims 768 TiB": (header((3, 1 << 48)), "bytes of memory"),
    "claims more than there is": (header((10, 1 << 20)) + b"12", "ends after"),
    "objects": (header((3,), "|O"), "type object"),
    "no header": (b"\x93NUMPY\x01\x00\xff\xff{", "not a readable"),
    "negative": (header((-1, 4)), "shape"),
    "nested header": (b"\x93NUMPY\x01\x00" + struct.pack("<H", 6000) + b"(" * 6000, "not a readable"),
    "dates": (header((2, 4), "<M8[D]") + b"0" * 64, "type datetime64"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_hostile_arrays(kind: str, name: str, tmp_path: Path) -> None:
    content, message = HOSTILE[kind]
    if name == "d.npz":
        archive(tmp_path / name, {"x.npy": content})
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / name, (1, 4))
    assert name in str(caught.value)


def test_only_wanted_members_are_read(tmp_path: Path) -> None:
    members = {"x.npy": header((2, 4)) + bytes(8), "more.npy": header((1 << 40,)) + b"0" * 100, "notes.txt": b"-"}
    assert load(archive(tmp_path / "d.npz", members), (1, 4)).x.shape == (2, 4)


def test_damaged_archives_name_the_file(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=RNG.normal(0, 1, (50, 4)), y=np.arange(50))
    whole = (tmp_path / "d.npz").read_bytes()
    for position in range(20, len(whole), len(whole) // 60):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        (tmp_path / "e.npz").write_bytes(damaged)
        try:
            load(tmp_path / "e.npz", (1, 4))
        except DataError as error:
            assert "e.npz" in str(error)  # noqa: PT017
        damaged = damaged[:position]
        (tmp_path / "e.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"e\.npz"):
            load(tmp_path / "e.npz", (1, 4))


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    for suffix in (".npz", ".npy", ".csv", ".zip"):
        os.mkfifo(tmp_path / f"pipe{suffix}")
        with pytest.raises(DataError, match="no regular file"):
            load(tmp_path / f"pipe{suffix}", (1, 4))


def test_random_inputs_of_large_networks_are_few() -> None:
    samples = random_samples((1, 1, 4096, 4096), 1000, 0)
    assert samples.x.nbytes <= 256 << 20
    assert f"{len(samples.x)} inputs" in samples.source


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_the_order_of_parts_is_the_same_in_every_process(kind: str, tmp_path: Path) -> None:
    arrays = {"train_x": np.zeros((1, 1)), "test_x": np.ones((1, 1)), "val_x": np.full((1, 1), 2.0)}
    path = tmp_path / "d.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    if kind == "folder":
        path = tmp_path / "d"
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    program = "import sys\nfrom tapc.data.load import open_data\nprint(list(open_data(sys.argv[1], (1, 1)).parts))"
    for seed in "0123":  # strings hash differently with each
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == "['test', 'train', 'val']\n"


def failing(error: Exception) -> None:
    with reading("d.npz", "a readable archive", "write it again"):
        raise error


def test_failures_of_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = KeyError("x")
    with pytest.raises(DataError, match="not a readable archive") as caught:
        failing(cause)
    assert caught.value.__cause__ is cause
    with pytest.raises(MemoryError):
        failing(MemoryError())
    monkeypatch.setenv("TAPC_DEBUG", "1")
    with pytest.raises(KeyError):
        failing(cause)


@pytest.mark.parametrize("std", [(0.0,), (-1.0,), (1.0, float("nan"))])
def test_deviations_are_positive(std: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"^--std .*: deviations must be positive"):
        PixelUnits(std=std)
