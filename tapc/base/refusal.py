"""Alternatives that a compilation did not take, and why."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["bits", "layer", "build", "memory", "kernels", "training", "firmware"]


@dataclass(frozen=True)
class Refusal:
    """An alternative that was refused.

    Attributes
    ----------
    kind : str
        What it is an alternative of: bits of all layers, those of one `layer`, a `build` whose measurement exceeded a
        budget, a place in memory, schedules of kernels, training, or what the firmware can.
    what, why : str
    """

    kind: Kind
    what: str
    why: str
