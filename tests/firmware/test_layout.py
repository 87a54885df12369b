from itertools import pairwise

import pytest

from tapc.base.errors import UsageError
from tapc.firmware.layout import board_layout, linker_script, twin_layout
from tapc.hardware.board import Board, load_board
from tapc.hardware.target import load_target


def board_with(ram: int, flash: int) -> Board:
    common = {"bandwidth": {"bytes_per_cycle": 4}}
    return Board.model_validate(
        {
            "schema": 1,
            "name": "big",
            "description": "",
            "core": "cortex-m7",
            "clocks": {"cpu_hz": 1},
            "memory": [
                {"name": "rom", "kind": "flash", "origin": 0, "size": flash, "holds": ["code", "weights"], **common},
                {"name": "tcm", "kind": "ram", "origin": 1 << 28, "size": 65536, "holds": ["data", "stack"], **common},
                {"name": "ram", "kind": "ram", "origin": 1 << 29, "size": ram, "holds": ["arena"], **common},
            ],
        }
    )


def test_board_layout_is_the_board() -> None:
    layout = board_layout(load_board("stm32h7"))
    assert [(span.name, span.origin, span.size) for span in layout.spans] == [
        ("flash", 0x08000000, 0x200000),
        ("axi_sram", 0x24000000, 0x80000),
        ("dtcm", 0x20000000, 0x20000),
    ]
    assert (layout.arena, layout.data, layout.stack) == ("axi_sram", "dtcm", "dtcm")


@pytest.mark.parametrize("name", ["stm32h7", "nucleo-l4r5zi", "nrf52840dk", "pico", "mps3-an547"])
def test_twin_keeps_the_sizes(name: str) -> None:
    board = load_board(name)
    own = {span.name: span.size for span in board_layout(board).spans}
    twin = {span.name: span for span in twin_layout(board, load_target(board.core)).spans}
    assert {key: span.size for key, span in twin.items() if not key.startswith("harness")} == own
    ordered = sorted(twin.values(), key=lambda span: span.origin)
    assert all(low.origin + low.size <= high.origin for low, high in pairwise(ordered))


def test_large_ram_goes_to_psram() -> None:
    spans = {span.name: span for span in twin_layout(board_with(8 << 20, 1 << 20), load_target("cortex-m7")).spans}
    assert (spans["ram"].origin, spans["ram"].size) == (0x60000000, 8 << 20)
    assert spans["tcm"].origin == 0x20000000


def test_what_exceeds_the_machine_is_cut() -> None:
    spans = {span.name: span for span in twin_layout(board_with(64 << 20, 64 << 20), load_target("cortex-m7")).spans}
    assert spans["ram"].size == 16 << 20
    assert spans["rom"].size == (4 << 20) - spans["harness_rom"].size


def test_no_machine() -> None:
    target = load_target("cortex-m7")
    with pytest.raises(UsageError, match="no QEMU machine"):
        twin_layout(load_board("stm32h7"), type(target)(**{**vars(target), "qemu": None}))


def test_script_names_the_regions() -> None:
    script = linker_script(load_target("cortex-m0plus").linker, board_layout(load_board("pico")))
    assert "flash (rx) : ORIGIN = 0x10000000, LENGTH = 0x200000" in script
    assert "sram (rw) : ORIGIN = 0x20000000, LENGTH = 0x42000" in script
    assert "KEEP(*(.boot))" in script
    assert "harness" not in script
