"""From a build folder to a tool's command."""

import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from tapc.base.errors import ToolError, UsageError
from tapc.cli import main
from tapc.flow.flashing import flash


@pytest.fixture
def build(pico_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_build, tmp_path / "b"))


def test_the_command_is_told_before_it_runs(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "openocd"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/arguments"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    told: list[str] = []
    result = flash(build, announce=told.append)
    assert (result.board, result.tool, result.done) == ("pico", "openocd", "flashed with openocd")
    assert told == [result.command]
    assert f'program "{build}/firmware.elf" verify reset exit' in (tmp_path / "arguments").read_text().splitlines()
    (tmp_path / "arguments").unlink()
    shown = CliRunner().invoke(main, ["flash", str(build), "--dry-run"])
    assert shown.output == f"{result.command}\n"  # never wrapped: it can be copied
    assert not (tmp_path / "arguments").exists()


def test_a_drive_by_its_folder(build: Path, tmp_path: Path) -> None:
    result = flash(build, volume=tmp_path)
    assert result.command == f"copy firmware.uf2 to the drive {tmp_path}"
    assert (tmp_path / "firmware.uf2").stat().st_size % 512 == 0


def test_what_does_not_fit_together(build: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for the board pico, not stm32h7"):
        flash(build, board="stm32h7")
    with pytest.raises(UsageError, match="--volume is for --tool uf2 and drive"):
        flash(build, tool="openocd", volume=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"nothing here flashes pico; it takes one of: openocd \(apt-get install"):
        flash(build)
    assert flash(build, dry=True).tool == "openocd"
