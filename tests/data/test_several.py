"""Samples of several inputs: an array by the name of each, rows of all of them; tokens."""

from pathlib import Path

import numpy as np
import pytest

from tapc.base.errors import DataError
from tapc.base.ports import Port, split
from tapc.data import PixelUnits, load_samples, random_samples

PORTS = (Port("picture:0", (1, 3, 4, 5)), Port("words", (1, 6), tokens=10))
UNITS = PixelUnits()


def arrays(n: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    picture = rng.normal(0, 1, (n, 4, 5, 3)).astype(np.float32)  # channels last, as a camera gives
    return {"picture_0": picture, "words": rng.integers(0, 10, (n, 6)), "y": np.arange(n)}


def test_arrays_become_rows(tmp_path: Path) -> None:
    given = arrays()
    np.savez(tmp_path / "d.npz", **given)
    for source in (tmp_path / "d.npz", given):
        samples = load_samples(source, PORTS, pixel_scale=UNITS, count=None, split="all")
        parts = split(PORTS, samples.x)
        assert samples.y is not None
        order = samples.y
        np.testing.assert_array_equal(parts["picture:0"], given["picture_0"].transpose(0, 3, 1, 2)[order])
        np.testing.assert_array_equal(parts["words"], given["words"][order])
        assert sorted(order) == list(range(6))


def test_parts_are_told_by_names(tmp_path: Path) -> None:
    train, test = arrays(5), arrays(3)
    named = {f"train_{key}": value for key, value in train.items()} | {f"{key}_test": v for key, v in test.items()}
    np.savez(tmp_path / "d.npz", **named)
    for part, expected in (("calibration", train), ("test", test)):
        samples = load_samples(tmp_path / "d.npz", PORTS, pixel_scale=UNITS, count=None, split=part)  # type: ignore[arg-type]
        assert len(samples.x) == len(expected["y"])
    (tmp_path / "folder").mkdir()
    for key, value in test.items():
        np.save(tmp_path / "folder" / f"{key}.npy", value)
    assert len(load_samples(tmp_path / "folder", PORTS, pixel_scale=UNITS, count=None, split="all").x) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": None}, r"holds \['picture_0', 'y'\]; the network has the inputs 'picture:0' of shape .* 'words'"),
        ({"words": np.full((6, 6), 10)}, "from 10 to 10; the input 'words' takes tokens, whole numbers from 0 to 9"),
        ({"words": np.full((6, 6), 0.5)}, "takes tokens"),
        ({"words": np.zeros((5, 6))}, r"\{.*'words': 5.*\} samples"),
        ({"picture_0": np.zeros((6, 7))}, "picture_0: samples have shape"),
        ({"picture_0": np.full((6, 3, 4, 5), np.nan)}, "NaN"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, np.ndarray | None], message: str) -> None:
    given = {key: value for key, value in (arrays() | change).items() if value is not None}
    with pytest.raises(DataError, match=message):
        load_samples(given, PORTS, pixel_scale=UNITS, count=None, split="all")


def test_other_kinds_of_data_and_units_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,2\n")
    for source in (tmp_path / "d.csv", np.zeros((3, 66))):
        with pytest.raises(DataError, match=r"an array by the name of each"):
            load_samples(source, PORTS, pixel_scale=UNITS, count=None, split="all")
    with pytest.raises(DataError, match="with one input of values"):
        load_samples(arrays(), PORTS, pixel_scale=PixelUnits(2.0, given=True), count=None, split="all")


def test_random_rows_have_tokens_that_there_are() -> None:
    x = random_samples(PORTS, 200, 0).x
    parts = split(PORTS, x)
    assert set(np.unique(parts["words"])) == set(range(10))
    assert 0 <= parts["picture:0"].min() < 0.01
    assert 0.99 < parts["picture:0"].max() <= 1
    np.testing.assert_array_equal(x, random_samples(PORTS, 200, 0).x)


def test_one_input_of_tokens() -> None:
    words = np.random.default_rng(0).integers(0, 10, (4, 6))
    samples = load_samples({"x": words}, PORTS[1:], pixel_scale=UNITS, count=None, split="all")
    np.testing.assert_array_equal(samples.x, words)
    with pytest.raises(DataError, match="tokens"):
        load_samples({"x": words + 1}, PORTS[1:], pixel_scale=UNITS, count=None, split="all")
