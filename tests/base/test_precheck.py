"""What is refused, or begun, before anything is imported that takes long."""

import pytest

from tapc import zoo
from tapc.base.precheck import is_file


@pytest.mark.parametrize("source", ["net.onnx", "a/b.TFLITE", "make.py:net"])
def test_files(source: str) -> None:
    assert is_file(source)


@pytest.mark.parametrize("name", [entry.name for entry in zoo.models()])
def test_names_of_the_zoo_are_no_files(name: str) -> None:
    assert not is_file(name)
