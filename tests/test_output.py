"""Output folders: nothing is lost, whatever fails and whenever."""

from pathlib import Path

import pytest

from tapc.errors import OutputError
from tapc.output import replaced_folder


def build(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(text)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_finished_block_replaces_the_folder(tmp_path: Path) -> None:
    build(tmp_path / "b", "old")
    (tmp_path / "b" / "stale").write_text("")
    with replaced_folder(tmp_path / "b") as fresh:
        build(fresh, "new")
        assert (tmp_path / "b" / "report.json").read_text() == "old"
    assert (tmp_path / "b" / "report.json").read_text() == "new"
    assert not (tmp_path / "b" / "stale").exists()
    assert not leftovers(tmp_path)


def test_a_failed_block_changes_nothing(tmp_path: Path) -> None:
    build(tmp_path / "b", "old")

    def fail() -> None:
        with replaced_folder(tmp_path / "b") as fresh:
            build(fresh, "new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "b" / "report.json").read_text() == "old"
    assert not leftovers(tmp_path)


def test_a_failed_swap_restores_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "b", "old")
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if self.name.startswith(".b.") and Path(target).name == "b":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(OutputError, match="No space left"), replaced_folder(tmp_path / "b") as fresh:
        build(fresh, "new")
    assert (tmp_path / "b" / "report.json").read_text() == "old"
    assert not leftovers(tmp_path)
