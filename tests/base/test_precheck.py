"""What is refused, or begun, before anything is imported that takes long."""

from pathlib import Path

import pytest

from tapc import zoo
from tapc.base.errors import DataError
from tapc.base.precheck import check_files, check_source, is_file


@pytest.mark.parametrize("source", ["net.onnx", "a/b.TFLITE", "make.py:net"])
def test_files(source: str) -> None:
    assert is_file(source)


@pytest.mark.parametrize("name", [entry.name for entry in zoo.models()])
def test_names_of_the_zoo_are_no_files(name: str) -> None:
    assert not is_file(name)


def test_a_name_that_is_no_text_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "net\udcff.onnx"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"net\\udcff\.onnx': its name is not UTF-8"):
        check_source(str(path), ())
    with pytest.raises(DataError, match="not UTF-8"):
        check_files(data=path)
