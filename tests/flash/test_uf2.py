"""UF2 files, against adafruit-uf2's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tapc.base.errors import DataError
from tapc.flash.uf2 import uf2


@pytest.mark.parametrize("size", [8, 255, 256, 257, 5000])
def test_equals_adafruits(size: int, tmp_path: Path) -> None:
    image = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    source, made = tmp_path / "firmware.bin", tmp_path / "firmware.uf2"
    source.write_bytes(image)
    command = [sys.executable, "-m", "adafruit_uf2.uf2conv", "-c", "-b", "0x10000000", "-f", "0xe48bff56"]
    subprocess.run([*command, "-o", str(made), str(source)], check=True, capture_output=True)
    assert uf2(image, 0x10000000, 0xE48BFF56) == made.read_bytes()


def test_nothing_is_no_image() -> None:
    with pytest.raises(DataError, match="empty"):
        uf2(b"", 0, 0)
