import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tapc.base.errors import DataError, UsageError
from tapc.cli import main
from tapc.hardware.board import Board, board_names, load_board, shipped
from tapc.hardware.target import load_target

MINIMAL = """
schema = 1
name = "tiny"
description = "a test board"
core = "cortex-m4"
[clocks]
cpu_hz = 1_000_000
[[memory]]
name = "flash"
kind = "flash"
origin = 0x0
size = "64K"
bandwidth = { bytes_per_cycle = 4 }
holds = ["code", "weights"]
[[memory]]
name = "ram"
kind = "ram"
origin = 0x20000000
size = 8192
bandwidth = { mb_per_s = 2 }
holds = ["arena", "data", "stack"]
"""


def write(folder: Path, text: str, name: str = "tiny.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


SHIPPED = [
    "arduino-nano33ble",
    "b-l475e-iot01a",
    "esp32-c3",
    "grove-vision-ai-v2",
    "hifive1",
    "microbit",
    "mps3-an547",
    "netduinoplus2",
    "nrf52840dk",
    "nrf5340dk",
    "nucleo-f103rb",
    "nucleo-f446re",
    "nucleo-h743zi",
    "nucleo-l4r5zi",
    "nucleo-u575zi-q",
    "pico",
    "pico2",
    "stm32h7",
    "stm32vldiscovery",
]


def test_shipped_boards() -> None:
    assert board_names() == SHIPPED
    for name in board_names():
        board = load_board(name)
        assert board.name == name
        assert load_target(board.core).qemu is not None


# Reference manuals: RM0399 (STM32H747), RM0432 (STM32L4R5), nRF52840 PS, RP2040 datasheet, Arm DAI0547.
@pytest.mark.parametrize(
    ("name", "hertz", "flash", "arena", "stack"),
    [
        ("stm32h7", 400_000_000, (0x08000000, 2 << 20), (0x24000000, 512 << 10), (0x20000000, 128 << 10)),
        ("nucleo-l4r5zi", 120_000_000, (0x08000000, 2 << 20), (0x20000000, 640 << 10), (0x20000000, 640 << 10)),
        ("nrf52840dk", 64_000_000, (0, 1 << 20), (0x20000000, 256 << 10), (0x20000000, 256 << 10)),
        ("nrf5340dk", 128_000_000, (0, 1 << 20), (0x20000000, 512 << 10), (0x20000000, 512 << 10)),
        ("esp32-c3", 160_000_000, (0x42000000, 4 << 20), (0x3FC80000, 320 << 10), (0x3FC80000, 320 << 10)),
        ("mps3-an547", 32_000_000, (0, 512 << 10), (0x20000000, 512 << 10), (0x20000000, 512 << 10)),
        ("pico", 125_000_000, (0x10000000, 2 << 20), (0x20000000, 264 << 10), (0x20000000, 264 << 10)),
    ],
)
def test_regions_in_use(
    name: str, hertz: int, flash: tuple[int, int], arena: tuple[int, int], stack: tuple[int, int]
) -> None:
    board = load_board(name)
    assert board.clocks.cpu_hz == hertz
    assert (board.flash.origin, board.flash.size) == flash
    assert (board.arena_region.origin, board.arena_region.size) == arena
    assert (board.stack_region.origin, board.stack_region.size) == stack
    assert board.data_region == board.stack_region


def test_stm32h7_has_all_its_memories() -> None:
    regions = {region.name: (region.kind, region.origin, region.size) for region in load_board("stm32h7").memory}
    assert regions == {
        "flash": ("flash", 0x08000000, 2097152),
        "itcm": ("ram", 0, 65536),
        "dtcm": ("ram", 0x20000000, 131072),
        "axi_sram": ("ram", 0x24000000, 524288),
        "sram1": ("ram", 0x30000000, 131072),
        "sram2": ("ram", 0x30020000, 131072),
        "sram3": ("ram", 0x30040000, 32768),
        "sram4": ("ram", 0x38000000, 65536),
        "qspi_flash": ("external_flash", 0x90000000, 134217728),
        "sdram": ("external_ram", 0xD0000000, 33554432),
    }


def test_sizes_and_bandwidths(tmp_path: Path) -> None:
    board = load_board(write(tmp_path, MINIMAL))
    assert [region.size for region in board.memory] == [65536, 8192]
    assert board.region("flash").bandwidth.at(board.clocks.cpu_hz) == 4
    assert board.region("ram").bandwidth.at(board.clocks.cpu_hz) == 2.0
    with pytest.raises(KeyError):
        board.region("sdram")


def test_frozen() -> None:
    board = load_board("pico")
    with pytest.raises(ValueError, match="frozen"):
        board.name = "other"  # type: ignore[misc]


def test_unknown_board_lists_the_names() -> None:
    with pytest.raises(UsageError, match=rf"unknown board 'stm32'; known: {', '.join(SHIPPED)}"):
        load_board("stm32")


@pytest.mark.parametrize("name", ["../boards/pico", "", "/pico"])
def test_a_name_is_not_a_path(name: str) -> None:
    with pytest.raises(UsageError):
        load_board(name)


def test_missing_file_lists_the_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.toml does not exist; known boards: .*pico"):
        load_board(tmp_path / "mine.toml")


@pytest.mark.parametrize("place", [".", "boards"])
def test_search_path(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "b" / place
    folder.mkdir(parents=True)
    write(folder, MINIMAL)
    write(folder, MINIMAL.replace("a test board", "not the shipped one"), "pico.toml")
    monkeypatch.setenv("TAPC_PATH", f"{tmp_path / 'missing'}:{tmp_path / 'b'}")
    assert load_board("tiny").description == "a test board"
    assert load_board("pico").description == "not the shipped one"
    assert load_board("stm32h7").core == "cortex-m7"
    assert sorted(board_names()) == sorted([*SHIPPED, "tiny"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", r"  schema: Input should be 1"),
        ("schema = 1", "", r"  schema: Field required"),
        ("cpu_hz = 1_000_000", "cpu_hz = 0", r"clocks\.cpu_hz"),
        ("cpu_hz = 1_000_000", "mhz = 1", r"clocks\.mhz: Extra inputs are not permitted"),
        ('size = "64K"', 'size = "64Q"', r"memory\.0\.size"),
        ('size = "64K"', "size = 0", r"memory\.0\.size"),
        ("origin = 0x0", "origin = -8", r"memory\.0\.origin"),
        ("origin = 0x0", "origin = 4", r"memory\.0\.origin: Input should be a multiple of 8"),
        ("origin = 0x0", "origin = 0x1FFF8000", r"regions 'flash' and 'ram' overlap at 0x20000000"),
        ('kind = "flash"', 'kind = "disk"', r"memory\.0\.kind"),
        ("{ bytes_per_cycle = 4 }", "{ bytes_per_cycle = 4, mb_per_s = 1 }", r"exactly one of"),
        ("{ bytes_per_cycle = 4 }", "{}", r"exactly one of"),
        ('["code", "weights"]', '["code"]', r"no flash region holds code and weights"),
        ('["arena", "data", "stack"]', '["arena", "data"]', r"no ram region holds stack"),
        ('["arena", "data", "stack"]', '["arena", "cake"]', r"memory\.1\.holds\.1"),
        ('name = "ram"', 'name = "flash"', r"region names must be unique"),
        ('name = "ram"', 'name = "my ram"', r"memory\.1\.name"),
        ("schema = 1", "schema = ", r"cannot be read"),
    ],
)
def test_schema_errors_name_file_and_key(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in MINIMAL
    path = write(tmp_path, MINIMAL.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        load_board(path)
    assert str(path) in str(caught.value)


def test_boards_hold_no_code() -> None:
    """Their clocks and UARTs are C, in a folder of its own; what the boards are is TOML."""
    assert {path.suffix or path.name for path in shipped("boards").iterdir()} == {".toml", "support"}
    assert {path.suffix for path in (shipped("boards") / "support").iterdir()} == {".c", ".h"}
    used = {board.support.source for board in map(load_board, board_names()) if board.support is not None}
    assert used == {path.name for path in (shipped("boards") / "support").glob("*.c")}
    assert Board.model_config.get("extra") == "forbid"


def test_wheel_carries_the_folders(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="building the package needs setuptools 77")
    root = Path(__file__).resolve().parents[2]
    source, built = tmp_path / "source", tmp_path / "built"
    for folder in ("boards", "targets", "prompts"):
        shutil.copytree(root / folder, source / folder)
    for folder in ("tapc", "tapc/base", "tapc/hardware"):
        (source / folder).mkdir()
        (source / folder / "__init__.py").touch()
    for name in (
        "tapc/base/errors.py",
        "tapc/base/files.py",
        "tapc/base/isa.py",
        "tapc/hardware/board.py",
        "tapc/hardware/npu.py",
        "tapc/hardware/probe.py",
        "tapc/hardware/target.py",
        "setup.py",
        "pyproject.toml",
    ):
        shutil.copy(root / name, source / name)
    for name in ("README.md", "LICENSE"):
        (source / name).write_text("stand-in")
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    script = (
        "from tapc.hardware import board, target; print(board.__file__, *board.board_names());"
        "print(*target.load_target('cortex-m7').sources); print(board.shipped('prompts') / 'README.md')"
    )
    run = [sys.executable, "-c", script]
    lines = subprocess.run(run, cwd=built, check=True, capture_output=True, text=True).stdout.splitlines()
    shipped_in = built / "tapc" / "_shipped"
    assert lines[0] == f"{built / 'tapc' / 'hardware' / 'board.py'} {' '.join(SHIPPED)}"
    assert lines[1].split() == [f"{shipped_in}/targets/common/startup.c", f"{shipped_in}/targets/cortex-m7/caches.c"]
    assert (shipped_in / "prompts" / "README.md").is_file()
    assert lines[2] == str(shipped_in / "prompts" / "README.md")


NRF = (Path(__file__).parents[2] / "boards" / "nrf52840dk.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a = " + "[" * 20_000, "too deeply nested"),
        ("a = " + "1" * 5000, "cannot be read"),
        ("\xff", "breaks the schema|cannot be read"),
        ("", "breaks the schema"),
        ('"\\\\[/red]\\u001b" = 1\n' + NRF, r"\[/red\]"),
        ("\n".join(f"k{i} = 1" for i in range(1000)) + "\n" + NRF, "and 980 more"),
        (NRF.replace("origin = 0x20000000", "origin = 0xFFFFF000"), "beyond 32-bit addresses"),
        (NRF.replace("bandwidth", "speed"), "how fast it is read, e.g. bandwidth"),
        (NRF.replace("cpu_hz = 64_000_000", "cpu_hz = 1" + "0" * 400), "cpu_hz"),
    ],
    ids=range(9),
)
def test_hostile_board_files(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=match) as raised:
        load_board(tmp_path / "b.toml")
    assert "b.toml" in str(raised.value)
    assert len(str(raised.value)) < 5000


def test_boards_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "folder.toml").mkdir()
    for name in ("fifo.toml", "folder.toml"):
        with pytest.raises(DataError, match="no regular file"):
            load_board(tmp_path / name)
    for name in ("a\0.toml", "n" * 300 + ".toml"):
        with pytest.raises((UsageError, DataError)):
            load_board(name)


def test_an_arena_lies_in_one_region() -> None:
    """What the stack's region has left is of no use to it."""
    board = load_board("stm32h7")
    assert board.arena_region.name == "axi_sram"
    assert board.stack_region.name == "dtcm"
    assert board.ram_limit(1000) == 512 * 1024 + 1000 < board.working_ram
    one = load_board("pico")
    assert one.arena_region == one.stack_region
    assert one.ram_limit(1000) == one.working_ram == 264 * 1024


def test_a_new_board_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answers = ["mine", "My board", "cortex-m4", "100", "", "512K", "", "128K",
               "interface/cmsis-dap.cfg, target/nrf52.cfg", "nrf5.c", "UART: TX P0.06, RX P0.08"]  # fmt: skip
    done = CliRunner().invoke(main, ["boards", "new"], input="\n".join([*answers, ""]))
    assert done.exit_code == 0, done.output
    board = load_board("mine.toml")
    assert (board.clocks.cpu_hz, board.flash.origin, board.flash.size) == (100_000_000, 0x08000000, 512 << 10)
    assert (board.arena_region.origin, board.stack_region.size) == (0x20000000, 128 << 10)
    assert board.probe is not None
    assert board.probe.openocd == ("interface/cmsis-dap.cfg", "target/nrf52.cfg")
    assert board.support_file == shipped("boards") / "support" / "nrf5.c"
    given = ["boards", "new", "--name", "mine", "--description", "x", "--core", "cortex-m4", "--mhz", "1",
             "--flash-size", "1M", "--ram-size", "64K", "--flash-origin", "0", "--ram-origin", "0x20000000",
             "--openocd", "", "--support", ""]  # fmt: skip
    for change, message in (
        ([], "mine.toml exists"),
        (["--core", "z80"], "unknown target 'z80'"),
        (["--name", "My Board", "-o", "b.toml"], "name: String should match"),
        (["--ram-origin", "0x1000", "-o", "b.toml"], "'flash' and 'ram' overlap"),
        (["--ram-origin", "here"], "'here' is no address"),
    ):
        refused = CliRunner().invoke(main, [*given, *change])
        assert (refused.exit_code, message in refused.output) == (2, True), refused.output
    assert not (tmp_path / "b.toml").exists()


def test_a_probe_names_a_tool(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no tool that flashes the board"):
        load_board(write(tmp_path, MINIMAL + '[probe]\nkind = "swd"\n'))
