"""What each operator of the canonical graph does to frames, and how its node computes those of a step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, attribute
from tapc.graph.rules import rule
from tapc.graph.streaming.frames import Frames, Window, together, windowed


@dataclass(frozen=True)
class Handled:
    """A node in a step.

    Attributes
    ----------
    frames : Frames
        Of its result.
    windows : dict of int to Window
        Input -> what it reads of it; all new frames where it is missing.
    attributes : dict
        That change.
    constants : dict of int to ndarray
        Inputs that change.
    """

    frames: Frames
    windows: dict[int, Window] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: dict[int, NDArray[Any]] = field(default_factory=dict)


Flows = Mapping[int, Frames]
"""Input of a node -> its frames, of those that are no constants."""


def handled(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
    """Return how a node computes the frames of a step.

    Raises
    ------
    UnsupportedError
        It cannot.
    HopError
        A step must have more frames.
    """
    if all(x.axis is None for x in flows.values()):
        made = together(list(flows.values()))
        if made is None:
            raise _refused(node, "its operands are of different steps")
        return Handled(made[1])
    own = _HANDLERS.get(node.op_type)
    if own is not None:
        return own(graph, node, flows)
    if rule(node).elementwise or rule(node).activation:
        return Handled(flows[0])
    raise _refused(node, "it needs all of time at once, or tapc does not know what it does to frames")


def _refused(node: onnx.NodeProto, why: str) -> UnsupportedError:
    return UnsupportedError(f"--stream: node {node.name!r} ({node.op_type}): {why}")


def _only(node: onnx.NodeProto, flows: Flows) -> tuple[int, Frames]:
    ((place, x),) = flows.items()
    if x.axis is None:
        raise _refused(node, "it has no frames")
    return place, x


def _window_operator(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
    place, x = _only(node, flows)
    assert x.axis is not None
    shape, result = graph.shape(node.input[0]), graph.shape(node.output[0])
    rank = len(shape) - 2
    if place != 0 or x.axis < 2:
        raise _refused(node, "time runs along its channels")
    at = x.axis - 2
    if rule(node).global_pool:
        window, made = windowed(x, reach=x.count, stride=1, before=0, count=1)
        return Handled(made, {0: window})
    weights = graph.constants[node.input[1]].shape[2:] if rule(node).weighted else None
    kernel = list(attribute(node, "kernel_shape", None) or weights or ())
    pads = list(attribute(node, "pads", [0] * 2 * rank))
    strides, dilations = (attribute(node, name, [1] * rank) for name in ("strides", "dilations"))
    zeros = rule(node).weighted or bool(attribute(node, "count_include_pad", 0))
    window, made = windowed(
        x, reach=(kernel[at] - 1) * dilations[at] + 1, stride=strides[at], before=pads[at], count=result[x.axis],
        padding_is_zero=zeros,
    )  # fmt: skip
    pads[at] = pads[at + rank] = 0
    return Handled(made, {0: window}, {"pads": pads} if any(attribute(node, "pads", [])) else {})


def _operands(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
    """Handle sums, products and the like of tensors whose frames belong together, and of constants."""
    ranks = {len(graph.shape(node.input[place])) for place in flows}
    found = together(list(flows.values())) if len(ranks) == 1 else None
    if found is None:
        raise _refused(
            node, "one operand comes once for all of time, such as a mean over it, another frame by frame: the first "
            "frame would have to wait for the last one"
        )  # fmt: skip
    windows, made = found
    assert made.axis is not None
    from_end = made.axis - ranks.pop()
    for name in node.input:
        constant = graph.constants.get(name)
        if constant is not None and constant.ndim >= -from_end and constant.shape[from_end] != 1:
            raise _refused(node, "it has a constant of its own for every frame, such as an embedding of positions")
    return Handled(made, dict(zip(flows, windows, strict=True)))


def _concat(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
    made = _operands(graph, node, flows)
    if attribute(node, "axis", 1) % len(graph.shape(node.output[0])) == made.frames.axis:
        raise _refused(node, "it joins tensors one after the other in time")
    return made


def _along(*, rest: bool = False, default: int = -1) -> Callable[[Graph, onnx.NodeProto, Flows], Handled]:
    """Return the handler of what works along one axis, or all from that on."""

    def own(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
        _, x = _only(node, flows)
        assert x.axis is not None
        axis = attribute(node, "axis", default) % len(graph.shape(node.input[0]))
        if x.axis >= axis if rest else x.axis == axis:
            raise _refused(node, "it works along time, and needs all of it at once")
        return Handled(x)

    return own


def _pad(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
    _, x = _only(node, flows)
    assert x.axis is not None
    rank = len(graph.shape(node.input[0]))
    axes = list(range(rank))
    if len(node.input) > 3 and node.input[3]:
        axes = [int(axis) % rank for axis in graph.constants[node.input[3]].reshape(-1)]
    pads = graph.constants[node.input[1]].copy()
    if x.axis not in axes:
        return Handled(x)
    at = axes.index(x.axis)
    first, last = int(pads[at]), int(pads[at + len(axes)])
    if first == last == 0:
        return Handled(x)
    value = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if attribute(node, "mode", b"constant") != b"constant" or (value is not None and float(value.item()) != 0):
        raise _refused(node, "it pads time with other values than zeros")
    pads[at] = pads[at + len(axes)] = 0
    window, made = windowed(x, reach=1, stride=1, before=first, count=graph.shape(node.output[0])[x.axis])
    return Handled(made, {0: window}, {}, {1: pads})


def _move(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
    """Follow time through a node that moves elements, by where the index of each one's frame ends up."""
    _, x = _only(node, flows)
    assert x.axis is not None
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    index = np.broadcast_to(np.arange(x.count).reshape([-1 if a == x.axis else 1 for a in range(len(before))]), before)
    index = _moved(graph, node, index)
    if (index == index.flat[0]).all() and x.count > 1:
        return _one_frame(graph, node, x, int(index.flat[0]))
    for axis, extent in enumerate(after if len(after) > 2 else ()):
        line = np.moveaxis(index, axis, 0).reshape(extent, -1)
        step = int(line[1, 0] - line[0, 0]) if extent > 1 else 0
        if step > 0 and (line == line[:1, :1] + step * np.arange(extent)[:, None]).all():
            window, made = windowed(x, reach=1, stride=step, before=-int(line[0, 0]), count=extent)
            return _sliced(graph, node, Handled(replace(made, axis=axis), {0: window}), x.axis)
    if sum(extent > 1 for extent in after) > 1:
        raise _refused(node, "it brings frames into an order that is not that of time")
    window, made = windowed(x, reach=x.count, stride=1, before=0, count=1)
    return Handled(made, {0: window})


def _moved(graph: Graph, node: onnx.NodeProto, x: NDArray[Any]) -> NDArray[Any]:
    given = [graph.constants[name] for name in node.input[1:] if name]
    match node.op_type:
        case "Transpose":
            return x.transpose(attribute(node, "perm", None))
        case "Gather":
            return np.take(x, given[0], axis=int(attribute(node, "axis", 0)))
        case "Slice":
            starts, ends, axes, steps = (part.reshape(-1).tolist() for part in given)
            places = [slice(None)] * x.ndim
            for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
                places[axis] = slice(start, end, step)
            return x[tuple(places)]
        case _:
            return x.reshape(graph.shape(node.output[0]))


def _one_frame(graph: Graph, node: onnx.NodeProto, x: Frames, chosen: int) -> Handled:
    """Return how a node chooses one frame of all, such as the last one."""
    window, made = windowed(x, reach=1, stride=1, before=-chosen, count=1)
    found = Handled(made, {0: window})
    if node.op_type == "Gather":
        return replace(found, constants={1: np.zeros_like(graph.constants[node.input[1]])})
    if node.op_type == "Slice" and x.axis is not None:
        return replace(found, constants=_whole_slice(graph, node, x.axis, 1))
    raise _refused(node, "it chooses a frame in a way that tapc does not know")


def _whole_slice(graph: Graph, node: onnx.NodeProto, axis: int, count: int) -> dict[int, NDArray[Any]]:
    """Return the starts and ends of a Slice that leaves no frame of a window out."""
    starts, ends, axes = (graph.constants[name].reshape(-1).copy() for name in node.input[1:4])
    places = [int(other) % len(graph.shape(node.input[0])) for other in axes]
    if axis in places:
        starts[places.index(axis)], ends[places.index(axis)] = 0, count
    return {1: starts, 2: ends}


def _sliced(graph: Graph, node: onnx.NodeProto, own: Handled, axis: int) -> Handled:
    """Return a node that moves whole frames, with the constants for those of a step."""
    made, window = own.frames, own.windows[0]
    if node.op_type == "Reshape" and made.axis is not None:
        shape = np.array(graph.shape(node.output[0]), np.int64)
        shape[made.axis] = made.new
        return replace(own, constants={1: shape})
    if node.op_type == "Slice":
        return replace(own, constants=_whole_slice(graph, node, axis, window.count))
    if node.op_type == "Gather" and attribute(node, "axis", 0) % len(graph.shape(node.input[0])) == axis:
        raise _refused(node, "it gathers frames; a Slice says which ones")
    return own


def _gemm(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
    raise _refused(node, "time is among its inputs' values")


def _reduction(graph: Graph, node: onnx.NodeProto, flows: Flows) -> Handled:
    _, x = _only(node, flows)
    rank = len(graph.shape(node.input[0]))
    axes: Sequence[int] = attribute(node, "axes", ())
    if len(node.input) > 1 and node.input[1]:
        axes = graph.constants[node.input[1]].reshape(-1).tolist()
    if not axes or x.axis in [axis % rank for axis in axes]:
        raise _refused(node, "it works along time, and needs all of it at once")
    if not attribute(node, "keepdims", 1):
        raise _refused(node, "it removes an axis")
    return Handled(x)


_HANDLERS: dict[str, Callable[[Graph, onnx.NodeProto, Flows], Handled]] = {
    **dict.fromkeys(("Conv", "MaxPool", "AveragePool", "GlobalAveragePool"), _window_operator),
    **dict.fromkeys(("Add", "Sub", "Mul", "Max", "Min", "PRelu", "Pow"), _operands),
    **dict.fromkeys(("Transpose", "Reshape", "Flatten", "Slice", "Gather"), _move),
    **dict.fromkeys(("Softmax", "LogSoftmax", "ArgMax", "LpNormalization"), _along()),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _along(rest=True)),
    **dict.fromkeys(("ReduceMean", "ReduceSum"), _reduction),
    "Concat": _concat,
    "Pad": _pad,
    "Gemm": _gemm,
}
