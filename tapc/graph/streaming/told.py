"""What a graph of one step says of itself: how frames of the whole network's input become its inputs."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import DataError, UnsupportedError, UsageError
from tapc.base.ports import Port, Ports
from tapc.base.strides import Loops

_KEY = "tapc.stream"
AUTO = "auto"


@dataclass(frozen=True)
class Stream:
    """A network that was made of one over whole windows of time.

    Attributes
    ----------
    axis : int
        Of the whole network's input, along which time runs.
    frames : int
        That the whole network takes.
    hop : int
        Frames that a step takes.
    shape : tuple of int
        Of the whole network's input.
    source, loops
        See `Port`, of that input.
    steps : int
        In which a window of the whole network's passes, until what it gives is there.
    warm_up : int
        Steps after a reset before all outputs are as the whole network's.
    latency : int
        Frames by which outputs lag behind the newest frame.
    padded : bool
        An output for all of time depends on zeros before the first frame: it is the whole network's where a window
        begins at a reset, and after that the one of a network that pads there alone.
    """

    axis: int
    frames: int
    hop: int
    shape: tuple[int, ...]
    source: tuple[int, ...]
    loops: Loops
    steps: int
    warm_up: int
    latency: int
    padded: bool

    def port(self, name: str) -> Port:
        """Return the whole network's input."""
        return Port(name, self.shape, 0, self.source, self.loops)

    def framed(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the steps of windows (N, *shape[1:]): (N * steps, *shape of a step).

        Frames behind the last one, of which nothing that counts depends, are like it.
        """
        whole = np.moveaxis(x.reshape(-1, *self.shape[1:]), self.axis, 1)
        short = self.steps * self.hop - self.frames
        if short > 0:
            whole = np.concatenate([whole, np.repeat(whole[:, -1:], short, axis=1)], axis=1)
        steps = whole[:, : self.steps * self.hop].reshape(len(whole) * self.steps, self.hop, *whole.shape[2:])
        return np.ascontiguousarray(np.moveaxis(steps, 1, self.axis))

    def joined(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the windows that steps are of, the inverse of `framed`."""
        extents = [self.hop if axis == self.axis else n for axis, n in enumerate(self.shape)]
        parts = np.moveaxis(x.reshape(-1, *extents[1:]), self.axis, 1)
        whole = parts.reshape(-1, self.steps * self.hop, *parts.shape[2:])
        missing = self.frames - whole.shape[1]
        if missing > 0:  # frames that nothing depends on
            whole = np.concatenate([whole, np.repeat(whole[:, -1:], missing, axis=1)], axis=1)
        return np.ascontiguousarray(np.moveaxis(whole[:, : self.frames], 1, self.axis))


def set_stream(model: onnx.ModelProto, told: Stream) -> None:
    """Write into a graph's metadata what it was made of."""
    model.metadata_props.append(onnx.StringStringEntryProto(key=_KEY, value=json.dumps(asdict(told))))


def stream_of(model: onnx.ModelProto) -> Stream | None:
    """Return what a graph was made of; None where it is no step of another one.

    Raises
    ------
    DataError
        The metadata are damaged.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == _KEY), None)
    if text is None:
        return None
    try:
        own = json.loads(text)
        extents = [tuple(int(extent) for extent in own[name]) for name in ("shape", "source")]
        loops = tuple((int(extent), int(stride)) for extent, stride in own["loops"])
        numbers = {name: int(own[name]) for name in ("axis", "frames", "hop", "steps", "warm_up", "latency")}
        found = Stream(shape=extents[0], source=extents[1], loops=loops, padded=bool(own["padded"]), **numbers)
        if min(found.frames, found.hop, found.steps) < 1 or found.shape[found.axis] != found.frames:
            raise ValueError("its frames are not those of its shape")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"the metadata {_KEY} of the graph are damaged: {error}") from error
    return found


def time_axis(ports: Ports, text: str) -> int:
    """Return along which axis of a network's canonical input time runs.

    Parameters
    ----------
    ports : tuple of Port
        The network's inputs.
    text : str
        "auto", AXIS or INPUT:AXIS, an axis of the source's input.

    Raises
    ------
    UsageError
        The text is none of these, or the input has no such axis.
    UnsupportedError
        A network with several inputs, or whose input is no sequence of frames.
    """
    if len(ports) != 1 or ports[0].tokens:
        what = "tokens" if len(ports) == 1 else f"{len(ports)} inputs ({', '.join(port.name for port in ports)})"
        raise UnsupportedError(f"--stream takes networks with one input of values; this one has {what}")
    port = ports[0]
    if text == AUTO:
        return _longest(port)
    found = re.fullmatch(r"(?:(.+):)?(-?\d+)", text)
    if found is None:
        raise UsageError(f"--stream {text}: give the input's axis of time, AXIS or INPUT:AXIS, or nothing")
    if found[1] not in (None, port.name):
        raise UsageError(f"--stream {text}: the network has no input {found[1]!r}; it has {port.name!r}")
    shape = port.source or port.shape
    axis = int(found[2])
    if not -len(shape) <= axis < len(shape) or shape[axis] < 2:
        raise UsageError(f"--stream {text}: axis {axis} of {port.name!r} with shape {shape} holds no frames")
    return _canonical_axis(port, shape, axis % len(shape), text)


def _longest(port: Port) -> int:
    """Return the one axis of an input's map that is longer than 1, or the longer one of two."""
    spatial: Sequence[int] = port.shape[2:] if len(port.shape) == 4 else ()
    if max(spatial, default=1) < 2:
        raise UnsupportedError(
            f"--stream: the input {port} holds no sequence of frames; a network over time takes maps (1, C, T, F) or "
            "signals (1, C, T)"
        )
    return 2 + int(np.argmax(spatial))


def _canonical_axis(port: Port, shape: tuple[int, ...], axis: int, text: str) -> int:
    """Return the canonical axis that runs along one of the source's."""
    index = np.broadcast_to(
        np.arange(shape[axis], dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape
    )
    own = port.canonical(index)[:1].reshape(port.shape)
    for at in range(2, own.ndim):
        line = np.moveaxis(own, at, 0).reshape(own.shape[at], -1)
        if own.shape[at] == shape[axis] and (line == np.arange(shape[axis])[:, None]).all():
            return at
    raise UnsupportedError(
        f"--stream {text}: the network takes axis {axis} of {port.name!r} as channels, not as a sequence of frames"
    )
