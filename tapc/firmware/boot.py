"""Second-stage boot loaders that some chips need in front of the image."""

from pathlib import Path

from tapc.base.errors import ToolError
from tapc.firmware.toolchain import GCC, Gcc, Unit, compile_units

BOOT_BYTES = 256
_CODE_BYTES = BOOT_BYTES - 4


def crc32_mpeg2(data: bytes) -> int:
    """Return the CRC-32 that the RP2040's boot ROM checks: polynomial 04C11DB7, start FFFFFFFF, no reflection."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
    return crc


def rp2040_boot_source(flags: tuple[str, ...], work: Path, tools: Gcc = GCC) -> str:
    """Compile the RP2040's boot loader and return a C file with its 256 bytes, checksum included."""
    source = Path(__file__).parent / "boot_rp2040.c"
    compiled = compile_units([Unit("boot_code", source)], [*flags, "-Os"], work, tools)["boot_code"]
    raw = work / "boot_code.bin"
    tools.binary(compiled, raw, only=(".boot",))
    code = raw.read_bytes()
    if not 0 < len(code) <= _CODE_BYTES:
        raise ToolError(f"the RP2040 boot loader compiled to {len(code)} bytes; 1 to {_CODE_BYTES} can be used")
    padded = code.ljust(_CODE_BYTES, b"\0")
    block = padded + crc32_mpeg2(padded).to_bytes(4, "little")
    values = ", ".join(f"0x{byte:02x}" for byte in block)
    return f'__attribute__((section(".boot"), used)) const unsigned char tapc_boot[{BOOT_BYTES}] = {{{values}}};\n'
