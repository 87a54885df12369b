"""Fixtures shared by all tests."""

import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tapc import cli

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

# The same examples in every run, however slow the machine; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session", autouse=True)
def _no_calibrations(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What boards of whoever runs the tests measured is no part of a report."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="session", autouse=True)
def _tracebacks() -> Iterator[None]:
    """Where a command's exit code is that of a fault of tapc's own, the report of a failed test says where it was."""
    explained = cli.explained

    def shown(error: Exception) -> tuple[str, int]:
        traceback.print_exception(error, file=sys.__stderr__)
        return explained(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "explained", shown)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder with the development data sets, or skip."""
    if not SHARED.is_dir():
        pytest.skip("needs the development data folder ../shared/data, which is not part of the project")
    return SHARED


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield a real browser, or skip."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs a real browser: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()
