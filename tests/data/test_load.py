"""Loading samples: npz, folders and zips of images, splits, shapes and errors."""

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tapc.base.errors import DataError
from tapc.data import (
    CALIBRATION_LIMIT,
    SHIPPED,
    PixelUnits,
    find_data,
    load_samples,
    overlap,
    random_samples,
    shipped_note,
)
from tapc.data.load import _choose

SHAPE = (1, 3, 8, 6)


def png(value: int, size: tuple[int, int] = (6, 8)) -> bytes:
    stream = BytesIO()
    Image.new("RGB", size, (value, 255 - value, 7)).save(stream, "PNG")
    return stream.getvalue()


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


CLASSES = {f"{name}/{i}.png": png(10 * c + i) for c, name in enumerate(["ant", "bee", "cat"]) for i in range(4)}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_class_folders(tmp_path: Path, kind: str) -> None:
    path = write_tree(tmp_path / "d", CLASSES) if kind == "folder" else write_zip(tmp_path / "d.zip", CLASSES)
    samples = load_samples(path, SHAPE, pixel_scale=1 / 255, count=None, split="all")
    assert samples.x.shape == (12, 3, 8, 6)
    assert samples.x.dtype == np.float32
    assert samples.y is not None
    assert samples.y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    # Red carries 10 * class + index, green its complement, blue 7: channel first, scaled.
    assert np.rint(samples.x[:, 0, 0, 0] * 255).tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert np.allclose(samples.x[:, 2] * 255, 7)
    assert samples.x[0, 1, 0, 0] == 1.0


def test_class_prefix(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "d.zip", {"0007_n01.png": png(1), "0412_n02.png": png(2)})
    samples = load_samples(path, SHAPE, pixel_scale=1.0, count=None, split="all")
    assert samples.y is not None
    assert samples.y.tolist() == [7, 412]


def test_split_folders_keep_one_numbering(tmp_path: Path) -> None:
    files = {f"{split}/{name}": data for split in ("train", "test") for name, data in CLASSES.items()}
    files["train/zebra/0.png"] = png(200)
    path = write_tree(tmp_path, files)
    train = load_samples(path, SHAPE, pixel_scale=1.0, count=None, split="calibration")
    test = load_samples(path, SHAPE, pixel_scale=1.0, count=None, split="test")
    assert (len(train.x), len(test.x)) == (13, 12)
    whole = load_samples(path, SHAPE, pixel_scale=1.0, count=None, split="train")
    assert np.array_equal(whole.x, train.x)
    assert train.y is not None
    assert train.y.max() == 3


def test_images_without_labels_and_grayscale(tmp_path: Path) -> None:
    path = write_tree(tmp_path, {"a.png": png(0), "b.png": png(255)})
    samples = load_samples(path, (1, 1, 8, 6), pixel_scale=1.0, count=None, split="all")
    assert samples.y is None
    assert samples.x.shape == (2, 1, 8, 6)


def test_npz_prefers_its_split(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    train, test = np.full((5, 3, 8, 6), 51, np.uint8), np.full((4, 3, 8, 6), 255, np.uint8)
    np.savez(path, train_x=train, train_y=np.arange(5), test_x=test, test_y=np.arange(4) + 10)
    loaded = load_samples(path, SHAPE, pixel_scale=1 / 255, count=3, split="calibration", seed=1)
    assert loaded.x.shape == (3, 3, 8, 6)
    assert np.all(loaded.x == np.float32(0.2))
    loaded = load_samples(path, SHAPE, pixel_scale=1 / 255, count=None, split="test")
    assert loaded.y is not None
    assert loaded.y.tolist() == [10, 11, 12, 13]
    assert np.all(loaded.x == 1)


def test_npz_dequantizes_and_reshapes(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    x = np.arange(-60, 60, dtype=np.int8).reshape(10, 12)
    np.savez(path, x=x, y=np.arange(10), scale=np.float64(0.5), zero_point=np.int64(3))
    samples = load_samples(path, (1, 1, 4, 3), pixel_scale=1.0, count=None, split="all")
    assert samples.x.shape == (10, 1, 4, 3)
    assert np.array_equal(samples.x.reshape(10, 12), (x.astype(np.float32) - 3) * 0.5)


def test_npz_accepts_channel_last(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3)).astype(np.uint8)
    np.savez(path, x=x)
    samples = load_samples(path, SHAPE, pixel_scale=1.0, count=None, split="all")
    assert np.array_equal(samples.x, x.transpose(0, 3, 1, 2))


@given(
    st.integers(2, 3000),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(1, 100)),
    st.sampled_from([CALIBRATION_LIMIT, 16, 1024]),
)
def test_single_set_splits_are_disjoint_and_reproducible(
    total: int, seed: int, count: int | None, reserve: int
) -> None:
    calibration = _choose(total, count, "calibration", seed, reserve, single=True)
    test = _choose(total, None, "test", seed, reserve, single=True)
    assert not set(calibration.tolist()) & set(test.tolist())
    assert sorted(_choose(total, None, "train", seed, reserve, single=True).tolist()) == list(range(total))
    half = min(total // 2, reserve)
    assert len(test) == total - half
    assert len(calibration) == (half if count is None else min(half, count))
    assert np.array_equal(calibration, _choose(total, count, "calibration", seed, reserve, single=True))


def test_first_calibration_samples_are_of_all_classes(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.zeros((400, 3)), y=np.repeat(np.arange(4), 100))
    samples = load_samples(path, (1, 3), pixel_scale=1.0, count=100, split="calibration")
    assert samples.y is not None
    assert set(samples.y[:20].tolist()) == {0, 1, 2, 3}
    test = load_samples(path, (1, 3), pixel_scale=1.0, count=100, split="test")
    assert test.y is not None
    assert np.all(np.diff(test.y) >= 0)


def test_wrong_image_size_names_both(tmp_path: Path) -> None:
    path = write_tree(tmp_path, {"a/x.png": png(0, (32, 16))})
    with pytest.raises(DataError, match=r"x.png is 32x16 pixels, the network takes 6x8; crop or resize"):
        load_samples(path, SHAPE, pixel_scale=1.0, count=None, split="all")


def test_wrong_array_shape_names_both(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    # As many elements as the network takes, but channel order would be a guess.
    np.savez(path, x=np.zeros((4, 144), np.uint8))
    with pytest.raises(DataError, match=r"\(144,\), the network takes \(3, 8, 6\)"):
        load_samples(path, SHAPE, pixel_scale=1.0, count=None, split="all")


def test_unusable_sources_are_explained(tmp_path: Path) -> None:
    cases: dict[str, tuple[bytes, str]] = {
        "broken.npz": (b"nonsense", "not a readable npz"),
        "broken.zip": (b"nonsense", "not a readable zip"),
        "data.txt": (b"1,2", "unknown kind of data"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_samples(tmp_path / name, SHAPE, pixel_scale=1.0, count=None, split="all")
    with pytest.raises(DataError, match="no such file"):
        load_samples(tmp_path / "absent", SHAPE, pixel_scale=1.0, count=None, split="all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load_samples(tmp_path / "empty", SHAPE, pixel_scale=1.0, count=None, split="all")
    write_tree(tmp_path / "bad", {"a.png": b"not an image"})
    with pytest.raises(DataError, match=r"a\.png is not a readable image"):
        load_samples(tmp_path / "bad", SHAPE, pixel_scale=1.0, count=None, split="all")
    np.savez(tmp_path / "empty.npz", x=np.zeros((0, 3, 8, 6), np.uint8))
    with pytest.raises(DataError, match="is empty"):
        load_samples(tmp_path / "empty.npz", SHAPE, pixel_scale=1.0, count=None, split="all")
    np.savez(tmp_path / "nan.npz", x=np.full((2, 3, 8, 6), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN"):
        load_samples(tmp_path / "nan.npz", SHAPE, pixel_scale=1.0, count=None, split="all")
    np.savez(tmp_path / "keys.npz", other=np.zeros(3))
    with pytest.raises(DataError, match=r"holds \['other'\]; needs 'x'"):
        load_samples(tmp_path / "keys.npz", SHAPE, pixel_scale=1.0, count=None, split="all")


def test_random_samples_say_so() -> None:
    samples = random_samples((1, 2, 3), 50, seed=4, low=-1.0, high=2.0)
    assert samples.x.shape == (50, 2, 3)
    assert samples.x.min() >= -1
    assert samples.x.max() <= 2
    assert samples.source.startswith("random")
    assert np.array_equal(samples.x, random_samples((1, 2, 3), 50, seed=4, low=-1.0, high=2.0).x)


def test_find_data_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAPC_DATA", raising=False)
    assert find_data("cifar10", shipped=False) is None
    assert find_data("unknown") is None
    shipped = find_data("cifar10")
    assert shipped is not None
    assert "cifar10-original-subset.npz" in shipped_note(shipped)[0]
    assert not shipped_note(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar10-original-subset.npz").touch()
    assert find_data("cifar10") == Path("data/cifar10-original-subset.npz")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cifar10-original-subset.npz").touch()
    monkeypatch.setenv("TAPC_DATA", f"{tmp_path / 'none'}:{tmp_path / 'mine'}")
    assert find_data("cifar10") == tmp_path / "mine" / "cifar10-original-subset.npz"


def test_the_sample_set_that_is_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is small, balanced, in the order of the data set's own classes, and its parts share no image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAPC_DATA", raising=False)
    path = find_data("cifar10")
    assert path is not None
    assert path.stat().st_size <= 1_500_000
    with zipfile.ZipFile(path) as archive:
        first = {name.split("/")[1] for name in archive.namelist()}
    assert sorted(first)[:3] == ["airplane", "automobile", "bird"]
    calibration, test = (
        load_samples(path, (1, 3, 32, 32), pixel_scale=1.0, count=None, split=split)
        for split in ("calibration", "test")
    )
    assert np.bincount(calibration.y).tolist() == [25] * 10
    assert np.bincount(test.y).tolist() == [30] * 10
    assert overlap(calibration, test) == ()


def test_samples_that_are_shipped_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tapc.base.options import Options
    from tapc.flow.inputs import load_data
    from tapc.frontend import load

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAPC_DATA", raising=False)
    model = load("resnet8")
    found = load_data(model, None, Options(calibration=20, eval=10))
    assert found.calibration.source == "cifar10-sample.zip: 20 samples (calibration)"
    assert found.test.y is not None
    assert "tapc carries" in found.warnings[0]
    assert not load_data(model, SHIPPED["cifar10"], Options(calibration=20, eval=10)).warnings


def test_shipped_samples_are_of_the_data_set(shared_data: Path) -> None:
    path = shared_data / "cifar10-original-subset.npz"
    for split in ("train", "test"):
        whole = load_samples(path, (1, 3, 32, 32), pixel_scale=1.0, count=None, split=split)
        few = load_samples(SHIPPED["cifar10"], (1, 3, 32, 32), pixel_scale=1.0, count=None, split=split)
        labels = {x.tobytes(): y for x, y in zip(whole.x, whole.y, strict=True)}
        assert all(labels[x.tobytes()] == y for x, y in zip(few.x, few.y, strict=True))


def test_development_data(shared_data: Path) -> None:
    cifar = load_samples(
        shared_data / "cifar10-original-subset.npz", (1, 3, 32, 32), pixel_scale=1 / 255, count=None, split="test"
    )
    assert (cifar.x.shape, cifar.x.min(), cifar.x.max()) == ((508, 3, 32, 32), 0, 1)
    kws = load_samples(shared_data / "kws01-mfcc-dev.npz", (1, 1, 49, 10), pixel_scale=1.0, count=None, split="test")
    assert kws.x.shape == (250, 1, 49, 10)
    jpeg = load_samples(
        shared_data / "cifar10-test-dev.zip", (1, 3, 32, 32), pixel_scale=1 / 255, count=40, split="test", seed=3
    )
    assert jpeg.y is not None
    assert len(set(jpeg.y.tolist())) > 5


def test_overlap_of_calibration_and_test() -> None:
    from dataclasses import replace

    calibration, test = random_samples(SHAPE, 8, 0), random_samples(SHAPE, 4, 1)
    assert overlap(calibration, test) == ()
    shared = replace(test, x=np.concatenate([test.x, calibration.x[2:5]]))
    (text,) = overlap(calibration, shared)
    assert text.startswith("3 of 7 ")


def test_normalization_is_per_channel(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3)).astype(np.uint8)
    path = tmp_path / "x.npz"
    np.savez(path, x=raw)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    units = PixelUnits(1 / 255, mean, std)
    loaded = load_samples(path, (1, 3, 8, 6), pixel_scale=units, count=None, split="all")
    for channel in range(3):
        expected = (raw[..., channel] / 255 - mean[channel]) / std[channel]
        assert np.allclose(loaded.x[:, channel], expected, atol=1e-6)
    one = load_samples(path, (1, 3, 8, 6), pixel_scale=PixelUnits(1.0, (127.0,), (128.0,)), count=None, split="all")
    assert np.allclose(one.x, (raw.transpose(0, 3, 1, 2) - 127.0) / 128.0, atol=1e-6)
    with pytest.raises(DataError, match="2 values of mean for 3 channels"):
        load_samples(path, (1, 3, 8, 6), pixel_scale=PixelUnits(1.0, (1.0, 2.0)), count=None, split="all")


def test_class_folders_are_the_labels(tmp_path: Path) -> None:
    samples = load_samples(write_tree(tmp_path, CLASSES), SHAPE, pixel_scale=1 / 255, count=None, split="all")
    assert samples.labels == ("ant", "bee", "cat")
    assert samples.pictures
    assert samples.raw == (0, 255)
    assert samples.units.scale == 1 / 255


def test_dequantized_values_say_their_units(tmp_path: Path) -> None:
    x = np.arange(-60, 60, dtype=np.int8).reshape(10, 12)
    np.savez(tmp_path / "d.npz", x=x, scale=0.5, zero_point=3)
    samples = load_samples(tmp_path / "d.npz", (1, 12), pixel_scale=1.0, count=None, split="all")
    assert np.array_equal(samples.units.apply(x), samples.x)
    assert not samples.pictures
