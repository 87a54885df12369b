"""Output folders: nothing is lost, whatever fails and whenever, and nothing that is not tapc's is touched."""

import json
import os
from pathlib import Path

import pytest

from tapc.base import output
from tapc.base.errors import OutputError
from tapc.base.output import MANIFEST, MARKER, check_replaceable, remove_checkpoints, replaced_folder


def build(target: Path, text: str, *names: str) -> None:
    """Make a build of a report and some files."""
    with replaced_folder(target) as fresh:
        for name in (MARKER, *names):
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """Return the files of a folder, but the list of tapc's."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def refused(target: object, match: str) -> None:
    with pytest.raises(OutputError, match=match):
        check_replaceable(Path(str(target)))
    with pytest.raises(OutputError, match=match), replaced_folder(Path(str(target))):
        pytest.fail("the work began")


def test_a_finished_block_replaces_what_an_earlier_one_made(tmp_path: Path) -> None:
    build(tmp_path / "b", "old", "stale", "lib/a.c", "more/b.c")
    with replaced_folder(tmp_path / "b") as fresh:
        (fresh / MARKER).write_text("new")
        assert (tmp_path / "b" / MARKER).read_text() == "old"
    assert contents(tmp_path / "b") == {MARKER: "new"}
    assert sorted(os.listdir(tmp_path / "b")) == [MARKER, MANIFEST]
    assert os.listdir(tmp_path) == ["b"]


def test_files_of_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "b"
    build(target, "old", "lib/model.c")
    (target / "notes.txt").write_text("mine")
    (target / "lib" / "app.c").write_text("mine")
    (target / "link").symlink_to("/etc/passwd")
    build(target, "new", "lib/other.c")
    expected = {MARKER: "new", "lib/other.c": "new", "notes.txt": "mine", "lib/app.c": "mine"}
    assert {name: text for name, text in contents(target).items() if name != "link"} == expected
    assert (target / "link").is_symlink()


def test_a_folder_that_is_not_tapcs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "report.json").write_text('{"schema": 1, "mine": 1}')
    (tmp_path / "thesis" / "thesis.tex").write_text("years")
    refused(tmp_path / "thesis", "holds no list of files that tapc wrote")
    for text in ("", "[]", "{}", '{"schema": 1, "files": [1]}', "[" * 100_000, '{"schema": 1, "files": {"a": 7}}'):
        (tmp_path / "thesis" / MANIFEST).write_text(text)
        refused(tmp_path / "thesis", "holds no list")
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years"


def test_a_changed_file_is_refused_before_the_work(tmp_path: Path) -> None:
    build(tmp_path / "b", "old", "lib/main.c")
    (tmp_path / "b" / "lib" / "main.c").write_text("edited")
    refused(tmp_path / "b", "changed since tapc wrote it: lib/main.c")
    (tmp_path / "b" / "lib" / "main.c").unlink()
    build(tmp_path / "b", "new", "lib/main.c")
    assert (tmp_path / "b" / "lib" / "main.c").read_text() == "new"


def test_a_list_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    """Neither by its names nor through links, even with the right digest."""
    (tmp_path / "victim").write_text("victim")
    digest = output._digest(tmp_path / "victim")
    for name in ("../victim", str(tmp_path / "victim"), "a/../../victim", "", "a\0b"):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / MANIFEST).write_text(json.dumps({"schema": 1, "files": {name: digest}}))
        refused(tmp_path / "b", "holds no list")
    (tmp_path / "b" / "to").symlink_to(tmp_path)
    (tmp_path / "b" / MANIFEST).write_text(json.dumps({"schema": 1, "files": {"to/victim": digest}}))
    refused(tmp_path / "b", "changed since tapc wrote it: to/victim")
    assert (tmp_path / "victim").read_text() == "victim"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_a_failed_block_changes_nothing(error: type[BaseException], tmp_path: Path) -> None:
    build(tmp_path / "b", "old")

    def fail() -> None:
        with replaced_folder(tmp_path / "b") as fresh:
            (fresh / MARKER).write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert contents(tmp_path / "b") == {MARKER: "old"}
    assert sorted(os.listdir(tmp_path / "b")) == [MARKER, MANIFEST]


@pytest.mark.parametrize("at", range(8))
def test_a_failed_replacement_restores_the_folder(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the renames fails; with one more, none does."""
    build(tmp_path / "b", "old", "a", "lib/c")
    (tmp_path / "b" / "mine").write_text("mine")
    before = contents(tmp_path / "b")
    rename, left = Path.rename, [at]

    def fail(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(28, "No space left on device", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    if at == 7:
        build(tmp_path / "b", "new", "b")
        assert contents(tmp_path / "b") == {MARKER: "new", "b": "new", "mine": "mine"}
    else:
        with pytest.raises(OutputError, match="No space left"):
            build(tmp_path / "b", "new", "b")
        assert contents(tmp_path / "b") == before
    assert not [name for name in os.listdir(tmp_path / "b") if name.startswith(".")]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    build(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == {MARKER: "new"}
    (tmp_path / "lost").symlink_to("nowhere")
    refused(tmp_path / "lost", "not a folder")


def test_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(Path("."), "new")
    assert contents(tmp_path) == {MARKER: "new"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("")
    monkeypatch.chdir(tmp_path / "other")
    for name in (".", ""):
        refused(name, "is not empty")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "file", "exists and is not a folder")
    refused(tmp_path / "fifo", "exists and is not a folder")
    refused(tmp_path / "file" / "below", "is not a folder")
    refused(tmp_path / ("n" * 300), "File name too long")
    refused(f"{tmp_path}/a\0b", "null")
    refused("/proc/tapc", "cannot (write|make)")


def test_a_full_disk_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_LEAST_FREE", 1 << 62)
    refused(tmp_path / "b", "No space left")


def test_a_disk_that_fills_up_during_the_work(tmp_path: Path) -> None:
    def fill() -> None:
        with replaced_folder(tmp_path / "b") as fresh, Path("/dev/full").open("w") as stream:
            (fresh / MARKER).write_text("new")
            stream.write("x")
            stream.flush()

    with pytest.raises(OutputError, match="No space left"):
        fill()
    assert not list(tmp_path.iterdir())


def test_a_file_that_appears_during_the_work_is_kept(tmp_path: Path) -> None:
    build(tmp_path / "b", "old")
    with replaced_folder(tmp_path / "b") as fresh:
        (fresh / MARKER).write_text("new")
        (fresh / "lib.c").write_text("new")
        (tmp_path / "b" / "lib.c").write_text("mine")
    assert contents(tmp_path / "b") == {MARKER: "new", "lib.c": "new", "lib.c.kept": "mine"}


def test_what_was_kept_before_stays(tmp_path: Path) -> None:
    build(tmp_path / "b", "old")
    with replaced_folder(tmp_path / "b") as fresh:
        (fresh / MARKER).write_text("new")
        (fresh / "lib.c").write_text("new")
        for name, text in (("lib.c", "third"), ("lib.c.kept", "first"), ("lib.c.kept1", "second")):
            (tmp_path / "b" / name).write_text(text)
    assert contents(tmp_path / "b") == {
        MARKER: "new", "lib.c": "new", "lib.c.kept": "first", "lib.c.kept1": "second", "lib.c.kept2": "third",
    }  # fmt: skip


def test_checkpoints(tmp_path: Path) -> None:
    for name in ("0.pt", "1.part", "mine.pt"):
        (tmp_path / name).write_text("")
    remove_checkpoints(tmp_path)
    assert os.listdir(tmp_path) == ["mine.pt"]
    (tmp_path / "mine.pt").unlink()
    remove_checkpoints(tmp_path)
    assert not tmp_path.exists()
    remove_checkpoints(tmp_path)
