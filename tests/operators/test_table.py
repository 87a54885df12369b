"""The table of operators in the docs is what the operators say of themselves."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_docs_are_current() -> None:
    command = [sys.executable, ROOT / "tools" / "operators.py"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "operators.md").read_text(encoding="utf-8") == printed
