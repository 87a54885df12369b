"""The ESP32-C3's flashed image in Unicorn's RISC-V core: direct boot, code and data at their own addresses, the UART.

Nothing here models the chip's clock: what runs is the image, and what it does to the UART's registers.
"""

import struct
import zlib

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from device.lines import sample_images
from device.test_qemu import expected, samples
from tapc.device.dialog import Dialog
from tapc.firmware import FirmwareImages
from tapc.hardware.board import load_board

unicorn = pytest.importorskip("unicorn", reason="Unicorn is not installed: pip install unicorn")

CODE, DATA, RAM, REGISTERS = 0x42000000, 0x3C000000, 0x3FC80000, 0x60000000
FIFO, STATUS, UART_ID = 0x00, 0x1C, 0x80
MPCCR = range(0x7E0, 0x7E3)
POLLS = 2000


class Chip:
    """A line to the firmware: code may only be fetched, data only be read, at the addresses that the boot ROM maps."""

    def __init__(self, images: FirmwareImages) -> None:
        flash = images.bin.read_bytes()
        self.uc = uc = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
        uc.mem_map(CODE, 4 << 20, unicorn.UC_PROT_EXEC)
        uc.mem_map(DATA, 4 << 20, unicorn.UC_PROT_READ)
        uc.mem_map(RAM, 320 << 10, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        for base in (CODE, DATA):
            uc.mem_write(base, flash)
        uc.mmio_map(REGISTERS, 1 << 20, self._read, None, self._write, None)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._trap)
        self.written: dict[int, int] = {}
        self._received, self._sent, self._polls, self._cycles = bytearray(), bytearray(), 0, 0
        assert struct.unpack_from("<2I", flash) == (0xAEDB041D, 0xAEDB041D)
        self._pc = CODE + 8

    def _read(self, uc: object, offset: int, size: int, data: object) -> int:
        if offset == FIFO:
            self._polls = 0
            return self._received.pop(0)
        if offset == STATUS:
            self._polls += not self._received
            if self._polls > POLLS:  # it waits for a command
                self.uc.emu_stop()
            return len(self._received)
        return self.written.get(offset, 0) & (0x7FFFFFFF if offset == UART_ID else 0xFFFFFFFF)

    def _write(self, uc: object, offset: int, size: int, value: int, data: object) -> None:
        self.written[offset] = value
        if offset == FIFO:
            self._polls = 0
            self._sent.append(value)

    def _trap(self, uc: object, cause: int, data: object) -> None:
        """Run what only this core has: its counter's registers."""
        pc = self.uc.reg_read(unicorn.riscv_const.UC_RISCV_REG_PC) - 4  # it has gone on already
        (word,) = struct.unpack("<I", self.uc.mem_read(pc, 4))
        assert word & 0x7F == 0x73, f"trap {cause} at {pc:#x}"
        assert word >> 20 in MPCCR, f"trap {cause} at {pc:#x}"
        self._cycles += 1000
        if target := word >> 7 & 31:
            self.uc.reg_write(unicorn.riscv_const.UC_RISCV_REG_X0 + target, self._cycles)

    def write(self, data: bytes) -> None:
        self._received += data

    def read(self, seconds: float) -> bytes:
        if not self._sent:
            self._polls = 0
            self.uc.emu_start(self._pc, 0)
            self._pc = self.uc.reg_read(unicorn.riscv_const.UC_RISCV_REG_PC)
        sent, self._sent = bytes(self._sent), bytearray()
        return sent


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> FirmwareImages:
    return sample_images("esp32-c3", tmp_path_factory.mktemp("esp32-c3"))


def test_the_flashed_image(images: FirmwareImages) -> None:
    chip = Chip(images)
    dialog = Dialog(chip)
    dialog.connect()
    info = dialog.info()
    assert (info.board, info.hz, info.counter) == ("esp32-c3", 160_000_000, "mpccr")
    assert dialog.checksums()["image"] == zlib.crc32(images.bin.read_bytes())
    for x in samples(3):
        dialog.load(x.tobytes())
        inference = dialog.infer()
        assert np.frombuffer(inference.output, np.int8).tolist() == expected(x)[2]
        assert inference.cycles[0] > 0
    layers = dialog.layers()
    assert [layer.crc for layer in layers] == [zlib.crc32(np.array(own, np.int8).tobytes()) for own in expected(x)]


def test_registers(images: FirmwareImages) -> None:
    """Watchdogs off, 160 MHz, 115200 baud from the crystal: ESP32-C3 Technical Reference Manual."""
    chip = Chip(images)
    Dialog(chip).connect()
    read = chip.written
    assert (read[0x8090], read[0x80AC] >> 31, read[0x1F048] >> 31, read[0x20048] >> 31) == (0, 1, 0, 0)
    assert read[0xC0008] & 7 == 5  # of 480 MHz, a third
    assert read[0xC0058] >> 10 & 3 == 1  # the PLL
    assert read[0x78] >> 20 & 3 == 3  # the crystal
    divider = read[0x14]
    assert 40e6 / ((divider & 0xFFF) + (divider >> 20) / 16) == pytest.approx(115_200, rel=0.002)


def test_code_and_data_lie_at_the_same_place_in_flash(images: FirmwareImages) -> None:
    flash = load_board("esp32-c3").flash
    with images.elf.open("rb") as stream:
        for segment in ELFFile(stream).iter_segments("PT_LOAD"):
            if segment["p_filesz"]:
                assert segment["p_paddr"] - flash.origin == segment["p_vaddr"] - (
                    flash.origin if segment["p_flags"] & 1 else flash.data_origin
                )
