"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder with the development data sets, or skip."""
    if not SHARED.is_dir():
        pytest.skip("needs the development data folder ../shared/data, which is not part of the project")
    return SHARED
