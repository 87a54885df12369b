import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapc.base import files
from tapc.base.errors import DataError, OutputError
from tapc.base.files import read_regular, reading, scratch_folder, write_whole

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom tapc.base.files import scratch_folder\n"
    "with scratch_folder(Path(sys.argv[1])):\n    print('ready', flush=True)\n    time.sleep(60)"
)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    assert read_regular(tmp_path / "file", 3, "board") == b"abc"
    for path, most, match in (
        ("file", 2, "has 3 bytes; at most 2"), ("fifo", 9, "no regular file"), ("folder", 9, "no regular file"),
        ("none", 9, "No such file"), ("a\0b", 9, "null"), ("n" * 300, 9, "name too long"),
        ("/dev/zero", 9, "no regular file"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=match):
            read_regular(tmp_path / path, most, "board")


def test_scratch_of_killed_processes_is_removed_and_that_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (left,) = tmp_path.iterdir()
        (tmp_path / ".tapc-link").symlink_to(left)
        (tmp_path / "mine").mkdir()
        monkeypatch.setattr(files, "_YOUNG_SECONDS", -1.0)
        with scratch_folder(tmp_path):
            assert left.exists()
        process.kill()
        process.wait()
    with scratch_folder(tmp_path) as own:
        assert own.is_dir()
    assert sorted(os.listdir(tmp_path)) == [".tapc-link", "mine"]


def test_a_young_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".tapc-scratch-aaaaaaaa").mkdir(0o700)
    with scratch_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == [".tapc-scratch-aaaaaaaa"]


def test_folders_that_only_look_alike_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_YOUNG_SECONDS", -1.0)
    names = {".tapc-scratch-mine", ".tapc-scratch-", ".tapc-scratch-aaaaaaaaa", ".tapc-scratch-shared__"}
    for name in names:
        (tmp_path / name).mkdir(0o755)
    with scratch_folder(tmp_path):
        pass
    assert set(os.listdir(tmp_path)) == names


def failing(error: Exception) -> None:
    with reading("network n"):
        raise error


def test_only_failures_of_a_file_are_its_damage() -> None:
    with pytest.raises(DataError, match=r"^network n is damaged: 'x'"):
        failing(KeyError("x"))
    with pytest.raises(MemoryError):
        failing(MemoryError())


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    assert write_whole(path, "old\n") == path
    assert write_whole(path, "new\n").read_bytes() == b"new\n"

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=f"cannot write {path}: No space left"):
        write_whole(path, "lost\n")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["new\n"]
