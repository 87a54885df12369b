"""What is flashed, read from an ELF file: flat bytes, and Intel HEX."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

_ALLOCATED = 2
_ROW, _SEGMENT = 16, 1 << 16
_DATA, _END, _ADDRESS, _START = 0, 1, 4, 5


def flashed(elf: Path, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> list[tuple[int, bytes]]:
    """Return the load address and the bytes of each section that is flashed, by address.

    Parameters
    ----------
    elf : Path
        An image, or an object.
    only, without : sequence of str
        Names of the sections that are taken, where there are some, and of those that are not.
    """
    with elf.open("rb") as stream:
        image = ELFFile(stream)
        segments = list(image.iter_segments("PT_LOAD"))
        found = []
        for section in image.iter_sections():
            taken = section.name in only if only else section.name not in without
            if not taken or not section["sh_flags"] & _ALLOCATED or section["sh_type"] == "SHT_NOBITS":
                continue
            if not section["sh_size"]:
                continue
            moved = [s["p_paddr"] - s["p_vaddr"] for s in segments if s.section_in_segment(section)]
            found.append((section["sh_addr"] + (moved[0] if moved else 0), section.data()))
    return sorted(found)


def flat(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """Return everything from the first byte to the last; zeros between."""
    first = parts[0][0] if parts else 0
    content = bytearray()
    for address, data in parts:
        content.extend(bytes(address - first - len(content)))
        content.extend(data)
    return bytes(content)


def intel_hex(parts: Sequence[tuple[int, bytes]], entry: int) -> str:
    """Return Intel HEX (Intel, 1988: 32-bit records)."""
    return "".join(f":{record.hex().upper()}\r\n" for record in _records(parts, entry))


def _records(parts: Sequence[tuple[int, bytes]], entry: int) -> Iterator[bytes]:
    upper = 0
    for address, data in parts:
        at = 0
        while at < len(data):
            place = address + at
            if place >> 16 != upper:
                upper = place >> 16
                yield _record(_ADDRESS, 0, upper.to_bytes(2, "big"))
            size = min(_ROW, len(data) - at, _SEGMENT - place % _SEGMENT)
            yield _record(_DATA, place % _SEGMENT, data[at : at + size])
            at += size
    yield _record(_START, 0, entry.to_bytes(4, "big"))
    yield _record(_END, 0, b"")


def _record(kind: int, address: int, data: bytes) -> bytes:
    body = bytes([len(data)]) + address.to_bytes(2, "big") + bytes([kind]) + data
    return body + bytes([-sum(body) & 0xFF])
