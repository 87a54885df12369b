"""The documentation's page of each board is what its file says."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_pages_are_those_of_the_boards() -> None:
    pages = runpy.run_path(str(ROOT / "tools" / "board_pages.py"))["pages"]()
    kept = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "boards").glob("*.md")}
    assert kept == pages, "run: python tools/board_pages.py"
