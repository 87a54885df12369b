"""From a network over windows of time to one that takes the frames of a step and keeps what it needs of others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph
from tapc.graph.opset import IR, OPSET
from tapc.graph.rules import opset_of
from tapc.graph.state import State, set_states
from tapc.graph.streaming.frames import Frames, HopError, Window
from tapc.graph.streaming.nodes import Handled, handled
from tapc.graph.streaming.told import Stream, set_stream

MOST_HOP = 4096


@dataclass(frozen=True)
class Streaming:
    """A network in steps.

    Attributes
    ----------
    onnx : onnx.ModelProto
        Canonical float graph of one step, with its states.
    told : Stream
    outputs : dict of str to Frames
        Of each output.
    alike : dict of str to str
        Tensor that the whole network does not have, or does not store -> the one whose values it holds.
    """

    onnx: onnx.ModelProto
    told: Stream
    outputs: dict[str, Frames]
    alike: dict[str, str] = field(default_factory=dict)


def streaming(model: onnx.ModelProto, axis: int) -> Streaming:
    """Return one step of a network over time.

    Parameters
    ----------
    model : onnx.ModelProto
        Canonical float graph.
    axis : int
        Of its input, along which time runs.

    Raises
    ------
    UnsupportedError
        A node that needs what comes later, or all of time at once.
    """
    graph = Graph(model)
    count = graph.shape(graph.input)[axis]
    hop = 1
    while True:
        try:
            found = _followed(graph, Frames(axis, count, hop, until=count))
            break
        except HopError as error:
            hop *= error.factor
            if hop > min(count, MOST_HOP):
                raise UnsupportedError(
                    f"--stream: its strides over time multiply to {hop:,} frames a step; the network takes {count:,}"
                ) from error
    _check(graph, found[0])
    return _Builder(graph, *found).built(axis)


def _followed(graph: Graph, given: Frames) -> tuple[dict[str, Frames], dict[int, Handled]]:
    """Return the frames of every tensor that depends on the input, and how each node makes them."""
    frames, nodes = {graph.input: given}, {}
    for number, node in enumerate(graph.nodes):
        flows = {place: frames[name] for place, name in enumerate(node.input) if name in frames}
        if flows:
            nodes[number] = handled(graph, node, flows)
            frames |= dict.fromkeys(node.output, nodes[number].frames)
    return frames, nodes


def _check(graph: Graph, frames: Mapping[str, Frames]) -> None:
    for name in graph.outputs:
        if name not in frames:
            raise UnsupportedError(f"--stream: output {name!r} does not depend on the input")
        own = frames[name]
        if own.axis is None and own.until < 1:
            raise UnsupportedError(
                f"--stream: output {name!r} depends on what the network pads behind the last frame (padding on the "
                "right of time), which a stream never has: pad on the left alone, or not at all"
            )
        if own.axis is None and own.exact > 0:
            raise UnsupportedError(
                f"--stream: output {name!r} depends on zeros that an inner layer pads before frames that the layers "
                "before it are late with (layers with and without padding on the left of time): pad all or none of them"
            )
        if own.axis is not None and own.until <= own.exact:
            raise UnsupportedError(
                f"--stream: every frame of output {name!r} depends on padding of an inner layer on both sides of time; "
                "pad on the left alone, or give the network more frames"
            )


class _Builder:
    def __init__(self, graph: Graph, frames: Mapping[str, Frames], handled: Mapping[int, Handled]) -> None:
        self.graph, self.frames, self.handled = graph, frames, handled
        self.nodes: list[onnx.NodeProto] = []
        self.constants = dict(graph.constants)
        self.states: list[tuple[State, tuple[int, ...]]] = []
        self.alike: dict[str, str] = {}
        self.names = {*graph.constants, *graph.inputs, *(name for node in graph.nodes for name in node.output)}
        self.demands: dict[str, list[Window]] = {}
        for number, own in handled.items():
            for place, window in own.windows.items():
                self.demands.setdefault(graph.nodes[number].input[place], []).append(window)
        self.rings: dict[str, tuple[str, int]] = {}
        self.parts: dict[tuple[str, Window], str] = {}

    def built(self, axis: int) -> Streaming:
        graph = self.graph
        self._ring(graph.input)
        for number, node in enumerate(graph.nodes):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if (own := self.handled.get(number)) is not None:
                self._changed(copy, own)
            self.nodes.append(copy)
            for name in node.output:
                self._ring(name)
        used = {name for node in self.nodes for name in node.input}
        own_inputs = [self._value(name, self._shape(name)) for name in graph.inputs]
        own_outputs = [self._value(name, self._shape(name)) for name in graph.outputs]
        made = helper.make_graph(
            self.nodes,
            graph.model.graph.name or "network",
            own_inputs + [self._value(state.input, shape) for state, shape in self.states],
            own_outputs + [self._value(state.output, shape) for state, shape in self.states],
            initializer=[numpy_helper.from_array(value, n) for n, value in self.constants.items() if n in used],
        )
        opset, ir = opset_of(self.nodes, OPSET)
        model = helper.make_model(
            made, opset_imports=[helper.make_opsetid("", opset)], ir_version=max(ir, IR[opset]), producer_name="tapc"
        )
        if not self.states:
            raise UnsupportedError("--stream: no layer looks at more than one frame: there is nothing to keep")
        set_states(model, [state for state, _ in self.states])
        told = self._told(axis)
        set_stream(model, told)
        onnx.checker.check_model(model, full_check=True)
        return Streaming(model, told, {name: self.frames[name] for name in graph.outputs}, self.alike)

    def _told(self, axis: int) -> Stream:
        graph, given = self.graph, self.frames[self.graph.input]
        ends = [self.frames[name] for name in graph.outputs]
        steps = [own.first_step + 1 if own.axis is None else -(-given.count // given.new) for own in ends]
        port = graph.input_ports[0]
        return Stream(
            axis=axis, frames=given.count, hop=given.new, shape=port.shape, source=port.source, loops=port.loops,
            steps=max(steps), warm_up=max(own.first_step for own in ends),
            latency=max(_latency(own, given.new) for own in ends),
            padded=any(own.axis is None and own.clean > 0 for own in ends),
        )  # fmt: skip

    def _shape(self, name: str) -> tuple[int, ...]:
        shape, own = list(self.graph.shape(name)), self.frames.get(name)
        if own is not None and own.axis is not None:
            shape[own.axis] = own.new
        return tuple(shape)

    def _value(self, name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def _free(self, name: str) -> str:
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        name = self._free(name)
        self.constants[name] = value
        return name

    def _changed(self, node: onnx.NodeProto, own: Handled) -> None:
        for place, window in own.windows.items():
            node.input[place] = self._part(node.input[place], window)
        for place, value in own.constants.items():
            node.input[place] = self._constant(f"{node.name}.{place}", value)
        for name, value in own.attributes.items():
            kept = [item for item in node.attribute if item.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(name, value)])

    def _ring(self, name: str) -> None:
        """Keep as many frames of a tensor as the node needs that looks back furthest."""
        own, back = self.frames.get(name), max((window.back for window in self.demands.get(name, ())), default=0)
        if own is None or own.axis is None or back <= 0:
            return
        past, whole, after = (self._free(f"{name}_{part}") for part in ("past", "window", "kept"))
        self.nodes.append(
            helper.make_node("Concat", [past, name], [whole], name=self._free(f"{name}.window"), axis=own.axis)
        )
        self._slice(whole, own.new, back, own.axis, after, f"{name}.kept")
        shape = list(self.graph.shape(name))
        shape[own.axis] = back
        self.states.append((State(past, after), tuple(shape)))
        self.alike |= {past: name, whole: name, after: name}
        self.rings[name] = whole, back
        stored = name
        while (maker := self.graph.producer.get(stored)) is not None and self.graph.arranges(maker):
            stored = maker.input[0]
        if stored != name:
            self.alike[name] = stored

    def _part(self, name: str, window: Window) -> str:
        """Return the tensor that holds the frames of a window."""
        own = self.frames[name]
        assert own.axis is not None
        whole, back = self.rings.get(name, (name, 0))
        if (back, back + own.new) == (window.back, window.count):
            return whole
        if whole != name and window == Window(0, own.new):
            return name
        if (name, window) not in self.parts:
            made = self._free(f"{name}_frames")
            self._slice(whole, back - window.back, window.count, own.axis, made, made)
            self.parts[name, window] = made
            self.alike[made] = name
        return self.parts[name, window]

    def _slice(self, source: str, first: int, count: int, axis: int, result: str, name: str) -> None:
        ends = [
            self._constant(f"{name}.{part}", np.array([value], np.int64))
            for part, value in (("starts", first), ("ends", first + count), ("axes", axis), ("steps", 1))
        ]
        self.nodes.append(helper.make_node("Slice", [source, *ends], [result], name=self._free(f"{name}.slice")))


def _latency(own: Frames, hop: int) -> int:
    """Return by how many frames what a step gives lags behind the newest frame that it was given."""
    if own.until < own.count:  # it looks ahead
        return -own.offset * own.every
    if own.axis is None:
        return (1 - own.offset) * hop - 1 - own.ahead
    return hop - 1 - (own.new - 1 + own.offset) * own.every - own.ahead
