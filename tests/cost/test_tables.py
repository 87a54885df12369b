"""docs/cost.md shows the errors that the files of the cost model store."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_are_those_of_the_files() -> None:
    spec = importlib.util.spec_from_file_location("cost_tables", ROOT / "tools" / "cost_tables.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.PAGE.read_text(encoding="utf-8")
    assert text == tool.page(text)
    assert all(f"<!-- {name} -->" in text for name in ("cores", "kinds"))
