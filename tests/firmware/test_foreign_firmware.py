"""The C library in a firmware that tapc did not write: a vendor's linker script, and unaligned access that traps."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kernels.programs import conv_op, lowered, program, tensor
from tapc.device import device_for
from tapc.firmware import build_firmware
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.lower import Lowered

CPU = ("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-d16")
# As STM32CubeIDE writes it, shortened.
VENDOR = """ENTRY(Reset_Handler)
MEMORY { RAM (xrw) : ORIGIN = 0x20000000, LENGTH = 128K
 FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 64K }
SECTIONS { .text : { KEEP(*(.isr_vector)) *(.text*) *(.rodata*) } >FLASH .ARM.exidx : { *(.ARM.exidx*) } >FLASH
 .data : { *(.data*) } >RAM AT> FLASH .bss : { *(.bss*) *(COMMON) } >RAM }
"""
MACHINE = """ENTRY(start)
MEMORY { F (rx) : ORIGIN = 0x0, LENGTH = 3M
 R (rwx) : ORIGIN = 0x20000000, LENGTH = 3M }
SECTIONS { .v : { KEEP(*(.v)) } >F .text : { *(.text*) *(.rodata*) } >F .ARM.exidx : { *(.ARM.exidx*) } >F
 .data : { *(.data*) } >R .bss (NOLOAD) : { *(.bss*) *(COMMON) } >R __stack = 0x20300000; }
"""
TRAPPING = r"""#include <stdint.h>
#include "net.h"
static void semihost(int op, const void *a)
{
    __asm__ volatile("mov r0, %0\n\tmov r1, %1\n\tbkpt 0xAB" : : "r"(op), "r"(a) : "r0", "r1", "memory");
}
extern uint32_t __stack;
void fault(void);
void start(void);
void fault(void) { semihost(4, "FAULT"); semihost(0x18, (void *)0x20026); for (;;); }
void start(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb");
    *(volatile uint32_t *)0xE000ED14 |= 8; /* CCR.UNALIGN_TRP */
    net_run();
    semihost(4, NET_NEEDS_UNALIGNED ? "RAN 1" : "RAN 0");
    semihost(0x18, (void *)0x20026);
    for (;;);
}
__attribute__((section(".v"), used)) const uintptr_t vectors[7] = {
    (uintptr_t)&__stack, (uintptr_t)start, (uintptr_t)fault, (uintptr_t)fault, (uintptr_t)fault, (uintptr_t)fault,
    (uintptr_t)fault};
"""


@pytest.fixture(scope="module")
def network() -> Lowered:
    """A convolution whose columns are gathered by words from odd addresses: three channels of 9 x 9 pixels."""
    rng = np.random.default_rng(0)
    x, y = tensor("x", (9, 9, 3), 8, rng), tensor("y", (9, 9, 4), 8, rng)
    conv = conv_op(rng, x, y, (3, 3), (1, 1), (1, 1, 1, 1), 1, 8)
    p = program([conv], [x, y])
    return lowered(type(p)(**{**vars(p), "name": "net", "prefix": "net"}))


@pytest.fixture(scope="module")
def library(network: Lowered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    network.library().write(folder)
    return folder


def link(library: Path, script: str, main: str, folder: Path, *more: str) -> Path:
    """Compile the library's files with a firmware's own and link them by its script."""
    folder.mkdir(exist_ok=True)
    (folder / "link.ld").write_text(script)
    (folder / "main.c").write_text(main)
    sources = [str(library / name) for name in ("net.c", "net_kernels.c", "net_weights.c")]
    command = ["arm-none-eabi-gcc", *CPU, "-O2", *more, "-nostartfiles", "--specs=nosys.specs", "-T", "link.ld"]
    elf = folder / "f.elf"
    subprocess.run(
        [*command, "-I", str(library), "main.c", *sources, "-lm", "-o", str(elf)], cwd=folder, check=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return elf


def flash(elf: Path) -> int:
    image = elf.with_suffix(".bin")
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(image)], check=True)
    return image.stat().st_size


def test_the_arena_takes_no_flash_whatever_the_linker_script(network: Lowered, library: Path, tmp_path: Path) -> None:
    main = (
        '#include "net.h"\nint n = 3;\nvoid Reset_Handler(void);\n'
        "void Reset_Handler(void) { net_run(); for (;;) n = net_output()[0]; }\n"
    )
    sizes = {
        name: flash(link(library, VENDOR, main, tmp_path / name, f"-DNET_ARENA_SECTION={section}"))
        for name, section in (("bss", ""), ("data", '__attribute__((section(".data.x")))'))
    }
    sizes["default"] = flash(link(library, VENDOR, main, tmp_path / "default"))
    assert network.plan.size > 200
    assert abs(sizes["default"] - sizes["bss"]) < 16
    assert sizes["data"] >= sizes["bss"] + network.plan.size  # so this would have been seen


needs_qemu = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")


@needs_qemu
def test_unaligned_access_is_told_and_can_be_left_out(library: Path, tmp_path: Path) -> None:
    said = {}
    for flag in ("-munaligned-access", "-mno-unaligned-access"):
        elf = link(library, MACHINE, TRAPPING, tmp_path / flag, flag)
        said[flag] = subprocess.run(
            ["qemu-system-arm", "-M", "mps2-an500", "-nodefaults", "-display", "none", "-semihosting",
             "-kernel", str(elf)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True,
            check=False,
        ).stdout.splitlines()[-1]  # fmt: skip
    assert said == {"-munaligned-access": "FAULT", "-mno-unaligned-access": "RAN 0"}
    text = (library / "README.md").read_text()
    assert all(
        word in text for word in ("UNALIGN_TRP", "NET_NEEDS_UNALIGNED", "-mno-unaligned-access", "Device memory")
    )


@needs_qemu
def test_conversions_cost_nothing_where_they_are_not_called(library: Path, tmp_path: Path) -> None:
    """The firmware is the same, byte for byte, whatever else the library offers."""
    less = tmp_path / "less"
    shutil.copytree(library, less)
    (less / "net_convert.c").unlink()
    board = load_board("stm32h7")
    target = load_target(board.core)
    first, second = (
        build_firmware(folder, board, target, tmp_path / name, work=tmp_path / f"work_{name}")
        for name, folder in (("a", library), ("b", less))
    )
    assert first.bin.read_bytes() == second.bin.read_bytes()
    assert first.memory.arena == second.memory.arena > 200
    assert oct(first.elf.stat().st_mode)[-3:] == "644"
    run = device_for(target, timeout=60).load(second).run(np.zeros((1, 243), np.int8))
    assert run.instructions > 1000
