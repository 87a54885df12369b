"""Text files are read and written as UTF-8, whatever the locale says."""

import ast
from pathlib import Path

import pytest

import tapc

ROOT = Path(tapc.__file__).parent
_TEXT = {"read_text", "write_text"}


def without_encoding(tree: ast.AST) -> list[int]:
    """Return the lines of calls that leave a text file's encoding to the locale."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        opens = name == "open" and isinstance(node.func, ast.Name)
        binary = any(isinstance(a, ast.Constant) and isinstance(a.value, str) and "b" in a.value for a in node.args[:2])
        if name in _TEXT or (opens and not binary):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_text_file_names_its_encoding(path: Path) -> None:
    assert not without_encoding(ast.parse(path.read_text(encoding="utf-8")))


def test_the_check_finds_them() -> None:
    code = "p.read_text()\nopen('x')\nopen('x', 'rb')\nopen('x', encoding='utf-8')\np.write_text('')\n"
    assert without_encoding(ast.parse(code)) == [1, 2, 5]
