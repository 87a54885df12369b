"""The most stack that an inference can take."""

from pydantic import BaseModel, ConfigDict

from tapc.firmware.stack import StackUse


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FrameReport(_Frozen):
    """A function: bytes of its own frame, and the most with all that it calls."""

    name: str
    own: int
    worst: int


class StackReport(_Frozen):
    """The most stack that PREFIX_run can take, along the calls.

    Attributes
    ----------
    bytes : int
        Without what `unknown` take.
    path : tuple of FrameReport
        From PREFIX_run to the last function that is called where it takes most.
    functions : tuple of FrameReport
        All that it reaches, the greediest first.
    unknown : tuple of str
        Functions of the C library and of the compiler's own, whose frames nobody told.
    unbounded : tuple of str
        Functions that call themselves or whose frames depend on values.
    """

    bytes: int
    path: tuple[FrameReport, ...]
    functions: tuple[FrameReport, ...]
    unknown: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()


def stack_report(use: StackUse | None) -> StackReport | None:
    """Report what a build found."""
    if use is None:
        return None
    path, functions = (
        tuple(FrameReport(name=f.name, own=f.own, worst=f.worst) for f in frames)
        for frames in (use.path, use.functions)
    )
    return StackReport(bytes=use.bytes, path=path, functions=functions, unknown=use.unknown, unbounded=use.unbounded)


def stack_line(stack: StackReport | None) -> str:
    """Say the worst case: "stack of an inference: at most 176 B: net_run 72 + net_k_2_conv 104"."""
    if stack is None:
        return "stack of an inference, worst case: not computed, the compiler did not tell the frames"
    chain = " + ".join(f"{frame.name} {frame.own:,}" for frame in stack.path)
    line = f"stack of an inference: at most {stack.bytes:,} B ({chain})"
    if stack.unknown:
        line += f", and what these take, which were compiled elsewhere: {', '.join(stack.unknown)}"
    if stack.unbounded:
        line += f"; without a bound: {', '.join(stack.unbounded)}"
    return line
