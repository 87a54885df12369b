"""What a network keeps between calls."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from tapc.ir.program import Program


class StateReport(BaseModel):
    """A tensor of the arena that lives between calls: the network's name of it, and its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    bytes: int


def state_reports(program: Program) -> tuple[StateReport, ...]:
    """Report what a program keeps between calls."""
    return tuple(StateReport(name=own.name, bytes=program.tensors[own.before].bytes) for own in program.states)


def states_line(states: Sequence[StateReport], reset: str) -> str:
    """Say what is kept: "12 B of the arena between calls (h 8, c 4); net_reset() begins anew"."""
    parts = ", ".join(f"{own.name} {own.bytes:,}" for own in states)
    return f"{sum(own.bytes for own in states):,} B of the arena between calls ({parts}); {reset}() begins anew"
