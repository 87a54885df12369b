"""Boxes that ONNX files make of constant anchors: found by what the nodes compute, however they are spelled.

What is found is compared with the nodes on random encodings, so that nothing rests on a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, shape_inference
from onnx.reference import ReferenceEvaluator

from tapc.base.boxes import BoxDetector, packed
from tapc.frontend.onnx_tail import Numbers, read

_DECODING = (
    "Add", "Cast", "Clip", "Concat", "Div", "Exp", "Expand", "Flatten", "Gather", "Identity", "MatMul", "Max", "Min",
    "Mul", "Neg", "Reshape", "Slice", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze",
)  # fmt: skip
_FORMS = ("yxyx", "xyxy", "xywh")
_TOLERANCE = 1e-4
"""Of the largest edge of a box."""
_FARTHEST = 4.0
"""Shifts and logarithms, in anchors' sides and their powers, up to which nodes are compared."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Encoded:
    """Boxes relative to anchors.

    Attributes
    ----------
    tensor : str
        Four numbers for each box, (1, boxes, 4).
    columns : list of int
        Where y, x, height and width are among them.
    anchors : str
        As a detector's, in the unit of the boxes.
    scales : tuple of float
        As a detector's.
    """

    tensor: str
    columns: list[int]
    anchors: str
    scales: tuple[float, ...]


def encoded(model: onnx.ModelProto, boxes: str, numbers: Numbers, form: str) -> Encoded | None:
    """Return what boxes are made of; None where that is no encoding relative to constant anchors.

    Parameters
    ----------
    model : onnx.ModelProto
    boxes : str
        A tensor of boxes (1, boxes, 4).
    numbers : Numbers
        Of the model.
    form : {"yxyx", "xyxy", "xywh"}
        What these are.
    """
    cuts = _cuts(model, boxes, numbers) if form in _FORMS else []
    shapes = _shapes(model) if cuts else {}
    for name in reversed(cuts):  # the less is left before it, the less is computed
        dims = shapes.get(name, [])
        if len(dims) == 3 and dims[0] in (0, 1) and dims[1] > 0 and dims[2] == 4:
            found = _fitted(name, _runner(model, name, boxes, dims[1]), dims[1], form)
            if found is not None:
                return found
    return None


def _cuts(model: onnx.ModelProto, boxes: str, numbers: Numbers) -> list[str]:
    """Return the tensors before Exp that alone, with constants, decide on the boxes."""
    live = {str(value.name) for value in model.graph.input} - set(numbers.known)
    for node in model.graph.node:
        if live & read(node) and node.op_type != "Shape":
            live |= set(node.output)
    open_, grown = {boxes}, False
    found: list[str] = []
    for node in reversed(model.graph.node):
        if not open_ & set(node.output):
            continue
        if node.op_type not in _DECODING:
            break
        grown = grown or node.op_type == "Exp"
        open_ = (open_ - set(node.output)) | (set(node.input) & live)
        if grown and len(open_) == 1:
            found.append(next(iter(open_)))
    return found


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Return the shapes of tensors, 0 where an extent is free; none where they cannot be told."""
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:
        return {}
    values = (*graph.value_info, *graph.input)
    return {str(value.name): [int(dim.dim_value) for dim in value.type.tensor_type.shape.dim] for value in values}


def _runner(model: onnx.ModelProto, name: str, boxes: str, count: int) -> Callable[[Floats], Floats]:
    """Return what nodes make of encodings (boxes, 4): boxes (boxes, 4)."""
    needed = {boxes}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):  # those between, and constants that are computed
        if needed & set(node.output) and name not in node.output:
            kept.insert(0, node)
            needed |= read(node)
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    ends = [helper.make_tensor_value_info(own, TensorProto.FLOAT, (1, count, 4)) for own in (name, boxes)]
    graph = helper.make_graph(kept, "boxes", ends[:1], ends[1:], tensors)
    own = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    run = ReferenceEvaluator(own)

    def each(x: Floats) -> Floats:
        found: Any = run.run(None, {name: x[None].astype(np.float32)})[0]
        return np.asarray(found, np.float64).reshape(count, 4)

    return each


def _fitted(name: str, run: Callable[[Floats], Floats], count: int, form: str) -> Encoded | None:
    """Return the anchors and scales with which nodes compute what a detector does; None: they do something else."""
    try:
        with np.errstate(all="ignore"):
            return _compared(name, run, count, form)
    except Exception:  # nodes that are something else fail in any way
        return None


def _compared(name: str, run: Callable[[Floats], Floats], count: int, form: str) -> Encoded | None:
    plain = _sided(run(np.zeros((count, 4))), form)
    columns, scales = [-1] * 4, [0.0] * 4
    for column in range(4):
        x = np.zeros((count, 4))
        x[:, column] = 1
        moved = _sided(run(x), form)
        field = int(np.abs(moved - plain).sum(axis=0).argmax())
        step = (
            np.log(moved[:, field] / plain[:, field]) if field > 1 else (moved - plain)[:, field] / plain[:, field + 2]
        )
        columns[field], scales[field] = column, float(1 / np.median(step))
    if -1 in columns:
        return None
    found = Encoded(name, columns, packed(plain), tuple(scales))
    own = BoxDetector("", "", anchors=found.anchors, scales=(scales[0], scales[1], scales[2], scales[3]))
    x = np.random.default_rng(0).uniform(-_FARTHEST, _FARTHEST, (count, 4)) * scales
    wanted, edges = own.edges(x), _edges(_sided(run(x[:, np.argsort(columns)]), form))
    alike = np.abs(edges - wanted) <= _TOLERANCE * np.abs(wanted).max(axis=1, keepdims=True)
    return found if alike.all() else None


def _sided(boxes: Floats, form: str) -> Floats:
    """Return middles and sides y, x, height, width of boxes."""
    if form == "xywh":
        return boxes[:, [1, 0, 3, 2]]
    own = boxes if form == "yxyx" else boxes[:, [1, 0, 3, 2]]
    return np.concatenate([(own[:, :2] + own[:, 2:]) / 2, own[:, 2:] - own[:, :2]], axis=1)


def _edges(sided: Floats) -> Floats:
    """Return the left, upper, right and lower edges of middles and sides."""
    middle, half = sided[:, 1::-1], sided[:, :1:-1] / 2
    return np.concatenate([middle - half, middle + half], axis=1)
