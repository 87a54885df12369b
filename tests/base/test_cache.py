from pathlib import Path

import pytest

from tapc.base.cache import Store, digest, tree_digest


def test_records_come_back(tmp_path: Path) -> None:
    store, key = Store(tmp_path / "deep" / "store"), digest("a", 1)
    assert store.get(key) is None
    store.put(key, {"instructions": 7})
    assert store.get(key) == {"instructions": 7}
    assert Store(tmp_path / "deep" / "store").get(key) == {"instructions": 7}
    assert [p.suffix for p in (tmp_path / "deep").rglob("*") if p.is_file()] == [".json"]


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    store, key = Store(tmp_path), digest("a")
    store.put(key, [1, 2])
    next(tmp_path.rglob("*.json")).write_text("[1,")
    assert store.get(key) is None


def test_without_a_writable_folder_it_goes_on_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    for key in "ab":
        store.put(digest(key), 1)
        assert store.get(digest(key)) is None
    assert [record.getMessage().count("going on without") for record in caplog.records] == [1]


def test_digests_see_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    first = tree_digest(tmp_path, "*.py")
    (tmp_path / "a.py").write_text("y")
    second = tree_digest(tmp_path, "*.py")
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, tree_digest(tmp_path, "*.py")}) == 3
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
