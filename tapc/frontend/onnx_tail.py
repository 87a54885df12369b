"""What follows a non-maximum suppression in ONNX files: whether it only looks up what was found, and how much of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from tapc.base.errors import UnsupportedError

_CODING = ("DequantizeLinear", "QuantizeLinear")
_CHOOSING = (
    *_CODING, "Cast", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad",
    "Reshape", "Shape", "Slice", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze",
)  # fmt: skip
_SAME = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""What gives the elements that it is given, in another shape or order."""
_FOUND = "found"
_END = 1 << 31


@dataclass(frozen=True)
class Numbers:
    """The nodes of a graph and what is constant in it.

    Attributes
    ----------
    made : dict of str to NodeProto
        Tensor -> the node that gives it.
    known : dict of str to ndarray
        Initializers, constants, and inputs that always hold one number.
    """

    made: dict[str, onnx.NodeProto]
    known: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, model: onnx.ModelProto, constants: Mapping[str, float]) -> "Numbers":
        """Return those of a model, some of whose inputs are constants."""
        known = {name: np.array(value) for name, value in constants.items()}
        known |= {str(tensor.name): numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute:
                value = helper.get_attribute_value(node.attribute[0])
                known[node.output[0]] = (
                    numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.array(value)
                )
        return cls({name: node for node in model.graph.node for name in node.output}, known)

    def all(self, name: str) -> NDArray[Any] | None:
        """Return the constant that a tensor holds, in some shape; None where it is computed."""
        while name not in self.known and name in self.made and self.made[name].op_type in _SAME:
            name = self.made[name].input[0]
        return self.known.get(name)

    def one(self, name: str) -> float | None:
        """Return the one number that a tensor holds."""
        value = self.all(name)
        return (
            float(value.reshape(-1)[0]) if value is not None and value.size == 1 and value.dtype.kind in "iuf" else None
        )

    def bound(self, name: str) -> float | None:
        """Return what a number is at most: itself, or the constants of which it is the least."""
        while name in self.made and self.made[name].op_type in (*_SAME, "ReduceMin"):
            name = self.made[name].input[0]
        node = self.made.get(name)
        if node is not None and node.op_type in ("Min", "Concat"):
            values = [value for own in node.input if (value := self.one(own)) is not None]
            return min(values, default=None)
        return self.one(name)

    def origin(self, name: str) -> str:
        """Return the tensor whose elements another has, in another shape or order, or as codes."""
        while name in self.made and self.made[name].op_type in (*_SAME, *_CODING):
            name = self.made[name].input[0]
        return name


@dataclass
class Tail:
    """What follows a suppression.

    Attributes
    ----------
    tensors : set of str
        What depends on the suppression.
    first : float
        How many it takes at most of what was found, in the order of classes, of which the surest come first.
    surest : float
        How many of the surest.
    """

    tensors: set[str]
    first: float = np.inf
    surest: float = np.inf
    counted: set[str] = field(default_factory=set)
    """Of these, what depends on nothing but how many were found."""
    sure: set[str] = field(default_factory=set)
    """Scores of what was found."""


def tail_of(model: onnx.ModelProto, node: onnx.NodeProto, numbers: Numbers, where: str) -> Tail:
    """Return what follows a node.

    Raises
    ------
    UnsupportedError
        It does more than look up the boxes and scores that were found, or leaves out some of them.
    """
    tail = Tail(set(node.output))
    boxes, scores = (numbers.origin(name) for name in node.input[:2])
    dims = _dims(model, node)
    for own in model.graph.node:
        behind = read(own) & tail.tensors
        if own is node or not behind:
            continue
        tail.tensors |= set(own.output)
        if own.op_type == "Shape" or behind <= tail.counted:
            tail.counted |= set(own.output)
            continue
        if own.op_type not in _CHOOSING:
            raise UnsupportedError(
                f"{where}: behind it {_named(own)} does not only look up what it finds; end the network at the "
                "suppression, and compute the rest from its detections"
            )
        others = [name for name in own.input if name and name not in tail.tensors and numbers.all(name) is None]
        strange = [
            name for name in others if numbers.origin(name) not in (boxes, scores) and not _counts(numbers, name)
        ]
        if strange:
            raise UnsupportedError(
                f"{where}: behind it {_named(own)} looks up what it finds in {strange[0]!r}, which is neither its "
                "boxes nor its scores; end the network at the suppression, whose detections have class, score and edges"
            )
        if own.input[0] in tail.sure or numbers.origin(own.input[0]) == scores:
            tail.sure |= set(own.output[:1])
        _limit(tail, own, numbers, dims, where)
    return tail


def read(node: onnx.NodeProto) -> set[str]:
    """Return what a node reads, in its branches, too."""
    inner = [part for item in node.attribute for part in (item.g, *item.graphs)]
    own = {str(value.name) for part in inner for value in part.output}
    return set(node.input).union(own, *(read(node) for part in inner for node in part.node))


def _named(node: onnx.NodeProto) -> str:
    return f"{node.name or node.output[0]!r} ({node.op_type})"


def _counts(numbers: Numbers, name: str) -> bool:
    """Tell whether a tensor is computed of shapes alone."""
    open_, seen = [name], set()
    while open_:
        node = numbers.made.get(own := open_.pop())
        if own in numbers.known or (node is not None and node.op_type in ("Shape", "Constant")):
            continue
        if node is None or own in seen:
            return False
        seen.add(own)
        open_ += [item for item in node.input if item]
    return True


def _dims(model: onnx.ModelProto, node: onnx.NodeProto) -> dict[str, list[str]]:
    """Return the names of the extents of what follows, where they can be told; the number found has one of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [own for own in copy.graph.node if own.output[:1] != node.output[:1]]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    copy.graph.input.append(helper.make_tensor_value_info(node.output[0], TensorProto.INT64, (_FOUND, 3)))
    try:
        graph = shape_inference.infer_shapes(copy, data_prop=True).graph
    except Exception:
        return {node.output[0]: [_FOUND, ""]}
    return {
        str(value.name): [str(dim.dim_param) for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _limit(tail: Tail, node: onnx.NodeProto, numbers: Numbers, dims: dict[str, list[str]], where: str) -> None:
    """Note that a node leaves out some of what was found."""
    name = node.input[0]
    if name not in tail.tensors:
        return
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    names = dims.get(name)
    refused = UnsupportedError(
        f"{where}: behind it {_named(node)} leaves out some of what it finds, which of it cannot be told; give the "
        "suppression max_output_boxes_per_class, and end the network there"
    )

    def rows(axis: int) -> bool:
        """Tell whether what was found lies along an axis, or may."""
        return axis in (0, -(len(names or ()))) if names is None or _FOUND not in names else names[axis] == _FOUND

    if node.op_type == "TopK":
        most = numbers.bound(node.input[1]) if len(node.input) > 1 else float(given.get("k", np.nan))
        if name not in tail.sure or most is None or not most >= 1 or not given.get("largest", 1):
            raise refused
        tail.surest = min(tail.surest, most)
    elif node.op_type == "Slice":
        parts = [given.get(key) for key in ("starts", "ends", "axes", "steps")]
        for place, own in enumerate(node.input[1:]):
            value = numbers.all(own) if own else None
            parts[place] = parts[place] if value is None else value.reshape(-1).tolist()
            if own and value is None and place == 1 and (bound := numbers.bound(own)) is not None:
                parts[place] = [bound]
        starts, ends, axes, steps = parts
        if starts is None:
            raise refused
        axes = list(range(len(starts))) if axes is None else axes
        for place, axis in enumerate(axes):
            if not rows(int(axis)):
                continue
            if starts[place] or ends is None or ends[place] < 1 or (steps or [1] * len(axes))[place] != 1:
                raise refused
            if ends[place] < _END - 1:
                tail.first = min(tail.first, ends[place])
    elif node.op_type in ("Gather", "Split") and rows(int(given.get("axis", 0))):
        indices = node.input[1] if node.op_type == "Gather" else ""
        if node.op_type == "Split" or numbers.all(indices) is not None:
            raise refused
