"""UF2: files that boot loaders take as a drive (github.com/microsoft/uf2)."""

import struct

from tapc.base.errors import DataError

_FIRST, _SECOND, _LAST = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_FAMILY_PRESENT = 0x2000
_PAYLOAD, _ROOM = 256, 476


def uf2(image: bytes, origin: int, family: int) -> bytes:
    """Return an image as UF2 blocks of 512 bytes, 256 of them payload; the last block is filled with zeros.

    Parameters
    ----------
    image : bytes
        What is flashed.
    origin : int
        Address of its first byte.
    family : int
        Number of the chip.

    Raises
    ------
    DataError
        The image is empty.
    """
    if not image:
        raise DataError("an empty image cannot be flashed")
    count = -(-len(image) // _PAYLOAD)
    blocks = []
    for number in range(count):
        start = number * _PAYLOAD
        head = struct.pack("<8I", _FIRST, _SECOND, _FAMILY_PRESENT, origin + start, _PAYLOAD, number, count, family)
        payload = image[start : start + _PAYLOAD].ljust(_ROOM, b"\0")
        blocks.append(head + payload + struct.pack("<I", _LAST))
    return b"".join(blocks)
