"""Small matrices take one BLAS thread, and what the program had is given back."""

import numpy as np  # noqa: F401  (brings a BLAS)
import pytest
import scipy.linalg  # noqa: F401  (brings another)
from threadpoolctl import ThreadpoolController, threadpool_info

from tapc.quantize.threads import threads_for


def counts() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize(("length", "threads"), [(8, 1), (1024, 1), (1025, 2)])
def test_threads_for_a_length(length: int, threads: int) -> None:
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        with threads_for(length):
            assert counts() == {threads}
        assert counts() == {2}
