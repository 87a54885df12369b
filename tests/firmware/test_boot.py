import struct
from pathlib import Path

from device.lines import sample_images
from tapc.firmware.boot import crc32_mpeg2, rp2040_boot_source
from tapc.hardware.target import load_target


def test_crc_check_value() -> None:
    # the catalogue's check value of CRC-32/MPEG-2, the variant that the RP2040 datasheet describes
    assert crc32_mpeg2(b"123456789") == 0x0376E6E7


def test_boot_block(tmp_path: Path) -> None:
    source = rp2040_boot_source(load_target("cortex-m0plus").cflags, tmp_path)
    block = bytes(int(value, 16) for value in source.split("{")[1].split("}")[0].split(", "))
    assert len(block) == 256
    assert crc32_mpeg2(block[:252]) == int.from_bytes(block[252:], "little")
    code = block[:252].rstrip(b"\0")
    assert 0 < len(code) < 200
    # RP2040 datasheet 4.10: EEPROM read of 32-bit frames; command 03h of 8 bits, 24 address bits; the vectors
    for literal in (0x001F0300, 0x03000218, 0x10000100):
        assert literal.to_bytes(4, "little") in code


def test_image_definition(tmp_path: Path) -> None:
    """RP2350 datasheet 5.9.5: five words, word for word, in the first 4 KiB; and the vector table first."""
    image = sample_images("pico2", tmp_path).bin.read_bytes()
    words = struct.unpack_from(f"<{1024}I", image)
    start = words.index(0xFFFFDED3)
    assert words[start : start + 5] == (0xFFFFDED3, 0x10210142, 0x000001FF, 0, 0xAB123579)
    assert words[0] == 0x20000000 + 520 * 1024  # the stack pointer
    assert 0x10000000 < words[1] < 0x10000000 + len(image)
    assert words[1] & 1


def test_direct_boot(tmp_path: Path) -> None:
    """ESP32-C3 Technical Reference Manual, Chip Boot Control: two words, then code."""
    image = sample_images("esp32-c3", tmp_path).bin.read_bytes()
    assert struct.unpack_from("<2I", image) == (0xAEDB041D, 0xAEDB041D)
    assert image[8] & 3 == 1  # c.j: the jump to the start
