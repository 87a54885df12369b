"""Files for CI services: what they say is what the tools take, and the Robot test runs against the firmware."""

import json
import re
import shlex
from pathlib import Path

import onnx
import pytest
import robot
from click.testing import CliRunner

import tapc
from graph_builder import residual
from tapc.base.errors import UsageError
from tapc.cli import main
from tapc.flow.workflows import ci_files
from tapc.hardware.board import board_names, load_board

# Below platforms/ of github.com/renode/renode, and the UARTs that they have.
PLATFORMS = {
    "boards/stm32h747-disco.repl": {"usart1", "usart3"},
    "boards/nucleo_h753zi.repl": {"usart1", "usart3"},
    "cpus/nrf52840.repl": {"uart0", "uart1"},
    "cpus/stm32f4.repl": {"usart1", "usart2", "usart3"},
}
RUN = """*** Settings ***
Library    {library}    netduinoplus2
Test Teardown    End

"""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Compile for a board that both QEMU and Renode play, below a repository's root."""
    onnx.save(residual().onnx, tmp_path / "net.onnx")
    options = tapc.Options(wbits=(8,), calibration=8, eval=1, simulate=False, rounding="nearest", equalize=False)
    place = tmp_path / "build" / "a net's"
    tapc.compile(tmp_path / "net.onnx", board="netduinoplus2", data="random", output=place, options=options)
    monkeypatch.chdir(tmp_path)
    return place.relative_to(tmp_path)


def test_names_are_those_of_renode() -> None:
    boards = [load_board(name) for name in board_names()]
    assert sum(board.renode is not None for board in boards) >= 6
    for board in boards:
        if board.renode is not None:
            assert board.renode.uart in PLATFORMS[board.renode.platform]


def test_what_is_written(build: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["ci", str(build), "--qemu", "--renode", "--json"])
    assert done.exit_code == 0, done.output
    names = json.loads(done.stdout)["files"]
    workflows = [".github/workflows/a net's-qemu.yml", ".github/workflows/a net's-renode.yml"]
    assert names == [workflows[0], f"{build}/firmware.resc", f"{build}/firmware.robot", workflows[1]]
    steps = [line.strip().removeprefix("- run: ") for line in Path(workflows[0]).read_text().splitlines()]
    commands = [shlex.split(json.loads(line)) for line in steps if line.startswith('"')]
    assert commands == [["tapc", "run", str(build), "--samples", "20"],
                        ["tapc", "run", str(build), "--samples", "20", "--device", "qemu:netduinoplus2"]]  # fmt: skip
    assert f'tests-to-run: "{build}/firmware.robot"' in Path(workflows[1]).read_text().replace("\\u0027", "'")
    assert "LoadPlatformDescription @platforms/cpus/stm32f4.repl" in (build / "firmware.resc").read_text()
    (build / "firmware.resc").write_text("mine")
    kept = CliRunner().invoke(main, ["ci", str(build), "--renode"])
    assert (kept.exit_code, (build / "firmware.resc").read_text()) == (2, "mine")
    assert "exists and differs; --replace writes it anew" in kept.output
    assert CliRunner().invoke(main, ["ci", str(build), "--renode", "--replace"]).exit_code == 0


def test_the_robot_test_against_the_firmware(build: Path, tmp_path: Path) -> None:
    """Renode itself is no package: its keywords are played by QEMU. A wrong output must fail."""
    text = ci_files(build, qemu=False, renode=True)
    library = Path(__file__).with_name("RenodeKeywords.py")
    place = tmp_path / build
    for name, own in text.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(own)
    robot_file = place / "firmware.robot"
    tests = RUN.format(library=library) + robot_file.read_text()
    wrong = re.sub(r"output-\[(..)", lambda found: f"output-[{(int(found[1], 16) ^ 1):02x}", tests, count=1)
    for number, (content, failures) in enumerate(((tests, 0), (wrong, 1))):
        robot_file.write_text(content)
        assert robot.run(str(robot_file), output=None, log=None, report=None, console="none") == failures, number


def test_what_cannot_be_written(build: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the build's path from the root of your repository"):
        ci_files(tmp_path / build, qemu=True, renode=False)
    assert "say for what" in CliRunner().invoke(main, ["ci", str(build)]).output
    other = tmp_path / "other.toml"
    lines = (Path(tapc.__file__).parents[1] / "boards" / "netduinoplus2.toml").read_text().splitlines()
    other.write_text("\n".join(line for line in lines if not line.startswith("renode")))
    with pytest.raises(UsageError, match="names no platform of Renode's"):
        ci_files(build, str(other), qemu=False, renode=True)
