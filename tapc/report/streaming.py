"""One step of a network over time, beside the network as a whole."""

from pydantic import BaseModel, ConfigDict

from tapc.graph.streaming import Stream
from tapc.lower import Lowered
from tapc.lower.plan import places_of
from tapc.report.states import StateReport


class StreamReport(BaseModel):
    """What a network needs step by step, and as a whole.

    Attributes
    ----------
    axis : int
        Of the network's canonical input, along which time runs.
    frames : int
        That the whole network takes.
    hop : int
        Frames of a step.
    steps : int
        Of a window of the samples.
    warm_up : int
        Steps after a reset before outputs are as the whole network's.
    latency : int
        Frames by which outputs lag behind the newest one.
    padded : bool
        An output about all of time depends on zeros before the first frame since the reset.
    macs, whole_macs : int
        Of a step, and of the network on all its frames.
    rings : tuple of StateReport
        What is kept between steps, with the bytes of the arena that it takes.
    ring_bytes : int
        Of all.
    whole_arena : int
        Bytes of the arena that the network takes at once, as planned.
    compared : int
        Outputs that were compared with the whole network's, code by code, all equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: int
    frames: int
    hop: int
    steps: int
    warm_up: int
    latency: int
    padded: bool
    macs: int
    whole_macs: int
    rings: tuple[StateReport, ...]
    ring_bytes: int
    whole_arena: int
    compared: int


def ring_reports(lowered: Lowered) -> tuple[StateReport, ...]:
    """Report what a program keeps between steps, each with the bytes of the buffer that it lies in."""
    program, places = lowered.program, places_of(lowered.program)
    found = []
    for own in program.states:
        buffer = places.get(own.before, (own.before, 0))[0]
        found.append(StateReport(name=own.name, bytes=program.tensors[buffer].bytes))
    return tuple(found)


def stream_report(
    told: Stream, lowered: Lowered, *, macs: int, whole_macs: int, whole_arena: int, compared: int
) -> StreamReport:
    """Report one step of a network.

    Parameters
    ----------
    told : Stream
    lowered : Lowered
        The step.
    macs, whole_macs, whole_arena, compared
        See `StreamReport`.
    """
    rings = ring_reports(lowered)
    return StreamReport(
        axis=told.axis, frames=told.frames, hop=told.hop, steps=told.steps, warm_up=told.warm_up, latency=told.latency,
        padded=told.padded, macs=macs, whole_macs=whole_macs, rings=rings, ring_bytes=sum(own.bytes for own in rings),
        whole_arena=whole_arena, compared=compared,
    )  # fmt: skip


def stream_lines(own: StreamReport) -> list[str]:
    """Say what a step is, and what it saves."""
    frames = "each frame" if own.hop == 1 else f"{own.hop} frames"
    share = own.whole_macs / max(own.macs, 1)
    lines = [
        f"a step for {frames} of {own.frames}: {own.macs:,} MACs, the network at once {own.whole_macs:,} "
        f"({share:.1f} times as many)",
        f"rings {own.ring_bytes:,} B of the arena; at once the arena takes {own.whole_arena:,} B",
        f"outputs are the whole network's from step {own.warm_up + 1:,} on, and lag {own.latency} frame(s) behind; "
        f"{own.compared:,} outputs compared, all equal",
    ]
    if own.padded:
        lines.append(
            "an output depends on zeros before the first frame since the reset: later it is that of the network on all "
            "frames since then, padded there alone"
        )
    return lines
