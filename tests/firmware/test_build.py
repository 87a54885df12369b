import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tapc.base.errors import BudgetError, DataError, OutputError, ToolError
from tapc.firmware import FirmwareImages, RegionOverflowError, build_firmware, memory_of
from tapc.firmware.boot import crc32_mpeg2
from tapc.firmware.build import alias_header
from tapc.firmware.speaking import speaking_units
from tapc.firmware.toolchain import Gcc, compile_units
from tapc.hardware.board import Board, board_names, load_board
from tapc.hardware.target import load_target
from tapc.lower.names import names_in

SAMPLE = Path(__file__).parent / "sample_library"
BOARDS = ("stm32h7", "nucleo-l4r5zi", "nrf52840dk", "pico", "mps3-an547")


def build(library: Path, board: Board, folder: Path) -> FirmwareImages:
    return build_firmware(library, board, load_target(board.core), folder / "out", work=folder / "work")


def variant(folder: Path, name: str, old: str, new: str) -> Path:
    """Copy the sample library with one text of one file replaced."""
    library = folder / "library"
    shutil.copytree(SAMPLE, library)
    text = (library / name).read_text()
    assert old in text
    (library / name).write_text(text.replace(old, new, 1))
    return library


def shrunk(board: Board, **sizes: int) -> Board:
    memory = [region.model_copy(update={"size": sizes.get(region.name, region.size)}) for region in board.memory]
    return board.model_copy(update={"memory": tuple(memory)})


def hex_image(path: Path) -> tuple[int, bytes]:
    """Decode an Intel HEX file of consecutive records: first address and content."""
    base, data = 0, {}
    for line in path.read_text().split():
        record = bytes.fromhex(line[1:])
        assert sum(record) % 256 == 0
        count, offset, kind = record[0], int.from_bytes(record[1:3], "big"), record[3]
        if kind == 4:
            base = int.from_bytes(record[4:6], "big") << 16
        elif kind == 0:
            data.update({base + offset + i: record[4 + i] for i in range(count)})
    first = min(data)
    return first, bytes(data.get(address, 0) for address in range(first, max(data) + 1))


@pytest.mark.parametrize("name", BOARDS)
def test_images(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    images = build(SAMPLE, board, tmp_path)
    binary = images.bin.read_bytes()
    assert hex_image(images.hex) == (board.flash.origin, binary)
    vectors = 256 if name == "pico" else 0
    stack, reset = (int.from_bytes(binary[vectors + i : vectors + i + 4], "little") for i in (0, 4))
    assert stack == board.stack_region.end
    assert board.flash.origin <= reset < board.flash.origin + len(binary)
    assert reset & 1
    if name == "pico":
        assert crc32_mpeg2(binary[:252]) == int.from_bytes(binary[252:256], "little")

    memory = images.memory
    assert memory.flash <= len(binary) - memory.support < memory.flash + 8
    assert (memory.weights, memory.biases, memory.scales, memory.tables) == (4 * 16, 4 * 4, 4 * 4, 0)
    assert (memory.arena, memory.data, memory.stack_reserved) == (64, 0, 4096)
    assert memory.code == memory.flash - 96
    assert memory.static_ram == 64 + memory.bss
    assert memory.symbols["sample_w_0_dense"] == 64
    assert memory.symbols["sample_k_spin"] == 18
    assert memory_of(images.elf) == memory


def test_twin_memory_leaves_the_harness_out(tmp_path: Path) -> None:
    images = build(SAMPLE, load_board("stm32h7"), tmp_path)
    twin = memory_of(images.twin)
    assert (twin.weights, twin.arena, twin.tables) == (64, 64, 0)
    assert "tapc_mark" not in twin.symbols
    assert abs(twin.code - images.memory.code) < 64  # four branches to tapc_mark, and no main


def test_library_objects_are_equal_in_both_images(tmp_path: Path) -> None:
    images = build(SAMPLE, load_board("nrf52840dk"), tmp_path)

    def code(path: Path, symbol: str) -> bytes:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            entry = elf.get_section_by_name(".symtab").get_symbol_by_name(symbol)[0]
            section = elf.get_section(entry["st_shndx"])
            start = (entry["st_value"] & ~1) - section["sh_addr"]
            return bytes(section.data()[start : start + entry["st_size"]])

    assert code(images.elf, "sample_k_scale") == code(images.twin, "sample_k_scale") != b""
    assert code(images.elf, "sample_w_0_dense") == code(images.twin, "sample_w_0_dense")


def test_data_and_tables(tmp_path: Path) -> None:
    library = variant(
        tmp_path,
        "sample_kernels.c",
        '#include "sample_weights.h"',
        '#include "sample_weights.h"\nint32_t counters[5] = {1, 2, 3, 4, 5};\n'
        "const int8_t lookup[7] = {1, 2, 3, 4, 5, 6, 7};\n"
        "int32_t *use(int i) { counters[i] += lookup[i]; return counters; }",
    )
    source, bias = library / "sample_kernels.c", "sum = sample_b_0_dense[o]"
    source.write_text(source.read_text().replace(bias, f"{bias} + *use_all(o)"))
    header = library / "sample_kernels.h"
    header.write_text(
        header.read_text().replace("void sample_k", "int32_t *use(int i);\n#define use_all use\nvoid sample_k", 1)
    )
    memory = build(library, load_board("stm32h7"), tmp_path).memory
    assert memory.data == 20
    assert memory.tables == 8  # 7 bytes, and one of padding


@pytest.mark.parametrize("name", ["stm32h7", "pico"])
def test_same_bytes_wherever_it_is_built(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    elsewhere = tmp_path / "another folder, deeper" / "b"
    shutil.copytree(SAMPLE, elsewhere / "lib")
    first = build(SAMPLE, board, tmp_path / "a")
    second = build(elsewhere / "lib", board, elsewhere)
    for one, two in zip(
        (first.elf, first.bin, first.hex, first.twin), (second.elf, second.bin, second.hex, second.twin), strict=True
    ):
        assert one.read_bytes() == two.read_bytes()
    assert str(tmp_path).encode() not in first.elf.read_bytes()
    assert b"/work" not in first.twin.read_bytes()


def test_arena_overflow_names_region_and_bytes(tmp_path: Path) -> None:
    library = variant(tmp_path, "sample.h", "SAMPLE_ARENA_BYTES 64", "SAMPLE_ARENA_BYTES 600000")
    with pytest.raises(BudgetError) as caught:
        build(library, load_board("stm32h7"), tmp_path)
    over = 600000 - 524288
    assert isinstance(caught.value, RegionOverflowError)
    assert (caught.value.region, caught.value.overflow) == ("axi_sram", over)
    assert f"region axi_sram (524288 bytes at 0x24000000) overflows by {over} bytes; 600000 bytes" in str(caught.value)


def test_flash_overflow_is_exact(tmp_path: Path) -> None:
    board = load_board("nrf52840dk").model_copy(update={"support": None})
    needed = build(SAMPLE, board, tmp_path / "a").memory.flash
    assert build(SAMPLE, shrunk(board, flash=needed), tmp_path / "b").memory.flash == needed
    with pytest.raises(RegionOverflowError, match=r"region flash .* overflows by 8 bytes") as caught:
        build(SAMPLE, shrunk(board, flash=needed - 8), tmp_path / "c")
    assert caught.value.overflow == 8


def test_what_speaks_gives_way_where_memory_is_short(tmp_path: Path) -> None:
    """First its copy of the input goes, then its commands; the network's own figures stay as they are."""
    board = load_board("nrf52840dk")
    whole = build(SAMPLE, board, tmp_path / "a")
    assert whole.speaks
    ram = 64 + whole.memory.bss + 4096 + whole.memory.support_ram
    for sizes, speaks in (({"ram": ram}, True), ({"ram": ram - 16}, True), ({"flash": 4096}, False)):
        images = build(SAMPLE, shrunk(board, **sizes), tmp_path / str(sizes))
        assert images.speaks is speaks
        assert (images.memory.weights, images.memory.arena) == (whole.memory.weights, whole.memory.arena)
        kept = [b"m-tapc-" in images.bin.read_bytes(), images.memory.support_ram == whole.memory.support_ram]
        assert kept == [speaks, sizes == {"ram": ram}]


def test_a_support_file_that_is_not_there(tmp_path: Path) -> None:
    board = load_board("pico")
    assert board.support is not None
    wrong = board.model_copy(update={"support": board.support.model_copy(update={"source": "none.c"})})
    with pytest.raises(DataError, match=r"board pico: support file 'none\.c' is in none of: "):
        build(SAMPLE, wrong, tmp_path)


def test_stack_reserve_counts(tmp_path: Path) -> None:
    with pytest.raises(RegionOverflowError, match="region ram"):
        build(SAMPLE, shrunk(load_board("nrf52840dk"), ram=4096), tmp_path)


def test_missing_compiler_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"):
        build(SAMPLE, load_board("stm32h7"), tmp_path)
    with pytest.raises(ToolError, match="apt-get install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf"):
        build(SAMPLE, load_board("hifive1"), tmp_path)


def test_compile_error_is_shown(tmp_path: Path) -> None:
    library = variant(tmp_path, "sample_kernels.c", "const int v", "const nonsense v")
    with pytest.raises(ToolError, match=r"sample_kernels\.c:9:.*nonsense"):
        build(library, load_board("stm32h7"), tmp_path)


def test_not_a_library(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs one PREFIX_steps\.h"):
        build(tmp_path, load_board("stm32h7"), tmp_path)


def test_unwritable_output(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        build(SAMPLE, load_board("stm32h7"), tmp_path)


def test_memory_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable ELF"):
        memory_of(SAMPLE / "sample.h")
    with pytest.raises(DataError, match="not a readable ELF"):
        memory_of(tmp_path / "missing.elf")


@pytest.mark.parametrize("name", board_names())
def test_c_that_speaks_has_no_warnings(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    target = load_target(board.core)
    (tmp_path / "tapc_network.h").write_text(alias_header(names_in(SAMPLE)))
    regions = [region.name for region in board.memory]
    units, _ = speaking_units(
        SAMPLE, names_in(SAMPLE), board, target, ("-I", str(SAMPLE), "-I", str(tmp_path)), regions
    )
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wno-sign-conversion", "-Wno-array-bounds")
    compile_units(units, (*target.cflags, "-std=gnu11", *warnings), tmp_path, Gcc(target.compiler))


@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m4", "cortex-m0plus", "cortex-m55", "cortex-m33", "rv32imc"])
def test_shipped_c_has_no_warnings(core: str, tmp_path: Path) -> None:
    import tapc.firmware

    target = load_target(core)
    (tmp_path / "tapc_network.h").write_text(alias_header(names_in(SAMPLE)))
    folder = Path(tapc.firmware.__file__).parent
    own = [folder / "boot_rp2040.c"] if core == "cortex-m0plus" else []
    for source in (*target.sources, folder / "board_main.c", folder / "twin_main.c", *own):
        command = [f"{target.compiler}gcc", *target.cflags, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
        done = subprocess.run(
            [*command, "-I", str(SAMPLE), "-I", str(tmp_path), "-c", str(source), "-o", str(tmp_path / "x.o")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
