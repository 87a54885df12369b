"""Two neighbouring words at once."""

from typing import Any

from tapc.kernels.builder import Body

REACH = 255  # words from an address that LDRD may load


def load2(b: Body, base: Any, offset: int, out: Any) -> None:
    """Load words `offset` and `offset + 1` behind `base` into two neighbouring variables."""
    b.do("t_load2" if 0 <= offset < REACH else "t_load2_far", base, offset, out)
