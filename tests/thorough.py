"""Cases that repeat, on another core or network, what quicker ones show: for `make thorough`, not for `make test`."""

from typing import Any

import pytest


def thorough(*values: Any) -> Any:
    """Return a case of `parametrize` that only `make thorough` runs."""
    return pytest.param(*values, marks=pytest.mark.thorough)
