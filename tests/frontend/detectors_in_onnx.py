"""Detectors whose ONNX files end in NonMaxSuppression, as exporters spell them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, EACH = 4, 5, 2
COUNT = HEIGHT * WIDTH * EACH


class Builder:
    """Nodes and constants of a graph that sees a box of class 0 or 1 where that channel is bright.

    The third channel tells its size; the second box of a pixel sees the same, a little less surely.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(value, dtype)
        return name

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def rows(self, x: str, weights: NDArray[Any], bias: NDArray[Any]) -> str:
        """Return a convolution's values of each box, (1, boxes, values)."""
        flat = weights.reshape(-1, 3, 1, 1)
        y = self.op("Conv", [x, self.constant(flat), self.constant(bias.reshape(-1))])
        y = self.op("Transpose", [y], perm=[0, 2, 3, 1])
        return self.op("Reshape", [y, self.constant([1, COUNT, weights.shape[1]], np.int64)])

    def scores(self, x: str, background: int = 0) -> str:
        weights = np.zeros((EACH, background + 2, 3))
        weights[:, background:, :2] = 8 * np.eye(2)
        bias = np.array([[-4.0, -4], [-5, -5]])
        return self.rows(x, weights, np.concatenate([np.zeros((EACH, background)), bias], axis=1))

    def sides(self, x: str) -> str:
        """Return two shifts, 0, and the logarithms of two sides, (1, boxes, 4)."""
        weights = np.zeros((EACH, 4, 3))
        weights[:, 2:, 2] = 1
        return self.rows(x, weights, np.zeros((EACH, 4)))

    def middles(self) -> NDArray[np.float32]:
        """Return x and y of the pixels of the boxes."""
        rows, columns = np.meshgrid(np.arange(HEIGHT) + 0.5, np.arange(WIDTH) + 0.5, indexing="ij")
        return np.repeat(np.stack([columns, rows], axis=-1).reshape(-1, 2), EACH, axis=0).astype(np.float32)

    def part(self, x: str, start: int, end: int, axis: int = 2) -> str:
        return self.op("Slice", [x, *(self.constant([v], np.int64) for v in (start, end, axis))])

    def decoded(self, x: str, order: tuple[int, ...]) -> tuple[str, str]:
        """Return middles and sides (1, boxes, 2), in that order of x and y."""
        sides = self.sides(x)
        places = self.constant(self.middles()[None][..., list(order)])
        middle = self.op("Add", [self.op("Mul", [self.part(sides, 0, 2), self.constant(0.1)]), places])
        return middle, self.op("Exp", [self.part(sides, 2, 4)])

    def corners(self, x: str, order: tuple[int, ...]) -> str:
        middle, sides = self.decoded(x, order)
        half = self.op("Mul", [sides, self.constant(0.5)])
        return self.op("Concat", [self.op("Sub", [middle, half]), self.op("Add", [middle, half])], axis=-1)

    def suppressed(self, boxes: str, scores: str, numbers: tuple[Any, Any, Any], **attributes: Any) -> str:
        """Return the indices that are found, with at most so many of a class, an overlap and a least score."""
        kinds = (np.int64, np.float32, np.float32)
        names = [own if isinstance(own, str) else self.constant([own], kind)
                 for own, kind in zip(numbers, kinds, strict=True)]  # fmt: skip
        return self.op("NonMaxSuppression", [boxes, scores, *names], **attributes)

    def model(self, outputs: list[str], inputs: dict[str, Any] | None = None, **metadata: str) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info(name, *kind) for name, kind in (inputs or X).items()]
        found = [onnx.ValueInfoProto(name=name) for name in outputs]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "g", given, found, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model).graph.output
        for own, known in zip(model.graph.output, inferred, strict=True):
            own.CopyFrom(known)
            own.type.tensor_type.shape.SetInParent()
        helper.set_model_props(model, metadata)
        return model


X = {"x": (TensorProto.FLOAT, (1, 3, HEIGHT, WIDTH))}


def torch_like(most: int = 4, cut: bool = False, **metadata: str) -> onnx.ModelProto:
    """Corners x, y, x, y from anchors, softmax with a background that is taken off, and what is found looked up.

    Where they are cut to the picture, they are no mere encodings.
    """
    b = Builder()
    boxes = b.corners("x", (0, 1))
    if cut:
        boxes = b.op("Clip", [boxes, b.constant(0), b.constant(5)])
    kinds = b.part(b.op("Softmax", [b.scores("x", 1)], axis=-1), 1, 3)
    scores = b.op("Transpose", [kinds], perm=[0, 2, 1])
    found = b.suppressed(boxes, scores, (most, 0.5, 0.5))
    which = b.op("Squeeze", [b.op("Gather", [found, b.constant([2], np.int64)], axis=1), b.constant([1], np.int64)])
    flat = b.op("Squeeze", [boxes, b.constant([0], np.int64)])
    return b.model([b.op("Gather", [flat, which]), found], **metadata)


def tf_like(first: int = 1 << 31) -> onnx.ModelProto:
    """Pixels last, corners y, x, y, x, one class, int32 numbers, and a slice of what is found."""
    b = Builder()
    x = b.op("Transpose", ["x"], perm=[0, 3, 1, 2])
    flat = b.op("Squeeze", [b.corners(x, (1, 0)), b.constant([0], np.int64)])
    sure = b.op("Sigmoid", [b.part(b.scores(x), 0, 1)])
    vector = b.op("Squeeze", [sure, b.constant([0, 2], np.int64)])
    most = b.op("Cast", [b.constant(6, np.int32)], to=TensorProto.INT64)
    twice = b.constant([0, 1], np.int64)
    found = b.suppressed(
        b.op("Unsqueeze", [flat, b.constant([0], np.int64)]), b.op("Unsqueeze", [vector, twice]),
        (b.op("Unsqueeze", [most, b.constant([0], np.int64)]), 0.5, 0.5),
    )  # fmt: skip
    ends = [b.constant(own, np.int64) for own in ([0, 2], [first, 3], [0, 1])]
    which = b.op("Squeeze", [b.op("Slice", [found, *ends]), b.constant([1], np.int64)])
    which = b.op("Cast", [which], to=TensorProto.INT32)
    given = {"x": (TensorProto.FLOAT, (1, HEIGHT, WIDTH, 3))}
    return b.model([b.op("Gather", [flat, which]), b.op("Gather", [vector, which])], given)


def yolo_like(surest: int = 100, cells: bool = False) -> onnx.ModelProto:
    """Middles and sides, sigmoid, and the surest of what is found by TopK.

    Where a middle is a Sigmoid of a cell, its place is no encoding.
    """
    b = Builder()
    middle, sides = b.decoded("x", (0, 1))
    if cells:
        inside = b.op("Sigmoid", [b.part(b.sides("x"), 0, 2)])
        middle = b.op("Add", [inside, b.constant(b.middles()[None] - 0.5)])
    boxes = b.op("Concat", [middle, sides], axis=-1)
    scores = b.op("Transpose", [b.op("Sigmoid", [b.scores("x")])], perm=[0, 2, 1])
    found = b.suppressed(boxes, scores, (3, 0.5, 0.5), center_point_box=1)
    sure = b.op("GatherND", [scores, found])
    count = b.op("Shape", [sure])
    most = b.op("ReduceMin", [b.op("Concat", [count, b.constant([surest], np.int64)], axis=0)], keepdims=1)
    b.nodes.append(helper.make_node("TopK", [sure, most], ["sure", "place"]))
    return b.model([b.op("Gather", [found, "place"]), "sure"])


def save(model: onnx.ModelProto, folder: Path) -> str:
    path = folder / "net.onnx"
    onnx.save(model, path)
    return str(path)
