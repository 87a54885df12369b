"""What a long run tells its user: named stages, each timed, with a bar where the length is known."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Advance = Callable[[int, int], None]
_TICKS = 1000


def portion(advance: Advance | None, start: float, end: float) -> Advance | None:
    """Return what moves a bar from one share of its length to another."""
    if advance is None:
        return None
    told = advance
    return lambda done, total: told(round(_TICKS * (start + (end - start) * done / max(total, 1))), _TICKS)


@dataclass
class Stages:
    """Times stages; a subclass may show them.

    Attributes
    ----------
    seconds : dict of str to float
        Stage -> wall-clock seconds.
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """Time a stage; yields a function that takes (done, total)."""
        start = time.perf_counter()
        try:
            with self.show(name) as advance:
                yield advance
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)

    @contextmanager
    def show(self, name: str) -> Iterator[Advance]:
        """Display a running stage; silent by default."""
        yield lambda done, total: None
