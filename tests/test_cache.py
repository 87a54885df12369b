from pathlib import Path

import pytest

from tapc.cache import Store, digest, tree_digest
from tapc.errors import OutputError


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


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        Store(tmp_path / "file").put(digest("a"), 1)


def test_digests_see_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    first = tree_digest(tmp_path, "*.py")
    (tmp_path / "a.py").write_text("y")
    second = tree_digest(tmp_path, "*.py")
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, tree_digest(tmp_path, "*.py")}) == 3
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
