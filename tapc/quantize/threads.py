"""How many threads linear algebra takes: one for small matrices, whose threads wait for each other most of the time."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

_SMALL = 1024
"""Inputs per output up to which one thread is faster than two, as timed on two cores."""


@functools.cache
def _libraries() -> ThreadpoolController:
    """Return the BLAS libraries of this process; numpy and scipy, which bring them, are imported by then."""
    return ThreadpoolController()


@contextmanager
def threads_for(length: int) -> Iterator[None]:
    """Keep BLAS to one thread within the block where weights have few inputs per output.

    Results then do not depend on how many cores there are.

    Parameters
    ----------
    length : int
        Inputs per output: rows of the matrices that are factored.
    """
    if length > _SMALL:
        yield
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield
