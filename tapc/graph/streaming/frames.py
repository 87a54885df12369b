"""How the frames of a tensor come, one step after the other, and what windows over them do to that.

Step m brings the frames from `m * new + offset` on, `new` of them, as the whole network counts them: `offset` is 0, or
below it where a tensor lags behind the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Frames:
    """The frames of a tensor.

    Attributes
    ----------
    axis : int or None
        Of the tensor, along which time runs; None where the whole network has one value for all of time.
    count : int
        In the whole network.
    new : int
        In a step.
    offset : int
        Of the first frame of step 0.
    exact : int
        The first frame that is as in the whole network: what lies before an inner layer's first frame is not always
        what that pads.
    clean : int
        The first frame that depends on no padding before the input's first frame.
    until : int
        The first frame that saw what the whole network pads behind its end; `count` where none did.
    ahead : int
        Frame j depends on the input's frames up to `j * every + ahead`.
    every : int
        Frames of the input for each of this tensor.
    """

    axis: int | None
    count: int
    new: int
    offset: int = 0
    exact: int = 0
    clean: int = 0
    until: int = 0
    ahead: int = 0
    every: int = 1

    @property
    def first_step(self) -> int:
        """The first step whose frames are all as in the whole network."""
        return max(0, -((self.offset - self.exact) // self.new))

    @property
    def blank(self) -> bool:
        """Whether the zeros that lie before the first frame are the whole network's padding."""
        return self.offset == self.exact == 0


@dataclass(frozen=True)
class Window:
    """Frames that a node reads of a tensor.

    Attributes
    ----------
    back : int
        How many frames before the first new one it begins; below 0, so many behind it.
    count : int
    """

    back: int
    count: int


class HopError(Exception):
    """A step needs so many times as many frames."""

    def __init__(self, factor: int) -> None:
        super().__init__(factor)
        self.factor = factor


def windowed(
    x: Frames, *, reach: int, stride: int, before: int, count: int, padding_is_zero: bool = True
) -> tuple[Window, Frames]:
    """Return what frames a sliding window reads in a step, and the frames of its result.

    Parameters
    ----------
    x : Frames
    reach : int
        Frames from the first to the last that a window reads.
    stride : int
    before : int
        Frames of padding before the first one; below 0, frames that are left out.
    count : int
        Of the result in the whole network; a single one stands for all of time.
    padding_is_zero : bool
        Padding counts as zeros.

    Raises
    ------
    HopError
        The stride does not divide the new frames.
    """
    every = x.every * stride
    if count == 1:
        stride = x.new
    elif x.new % stride:
        raise HopError(stride)
    offset = min(0, (x.offset + before + stride - reach) // stride)
    new = x.new // stride
    exact, clean = (max(0, -((-first - before) // stride)) for first in (x.exact, x.clean))
    made = Frames(
        axis=None if count == 1 else x.axis,
        count=count,
        new=new,
        offset=offset,
        exact=0 if x.blank and padding_is_zero else exact,
        clean=clean,
        until=max(0, min(count, (x.until - reach + before) // stride + 1)),
        ahead=x.ahead + (reach - 1 - before) * x.every,
        every=every,
    )
    return Window(x.offset - stride * offset + before, (new - 1) * stride + reach), made


def together(parts: Sequence[Frames]) -> tuple[list[Window], Frames] | None:
    """Return what a node reads of tensors whose frames belong together, and the frames of its result.

    None where they never meet: frames of other extents, or what comes once for all of time beside frames.
    """
    first = parts[0]
    if any((x.axis, x.count, x.new) != (first.axis, first.count, first.new) for x in parts):
        return None
    offset = min(x.offset for x in parts)
    if first.axis is None and any(x.offset != offset for x in parts):
        return None
    made = replace(
        first,
        offset=offset,
        exact=max(x.exact for x in parts),
        clean=max(x.clean for x in parts),
        until=min(x.until for x in parts),
        ahead=max(x.ahead for x in parts),
    )
    return [Window(x.offset - offset, x.new) for x in parts], made
