"""Non-maximum suppression at the end of ONNX files: what it is told, and the network up to its inputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

from tapc.base.detector import described
from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.onnx_anchors import encoded
from tapc.frontend.onnx_tail import Numbers, Tail, read, tail_of

KIND = "NonMaxSuppression"
_SHARES = ("Sigmoid", "Softmax", "HardSigmoid")
"""What gives no score above 1."""
_RECIPE = (
    "export the network up to its boxes and scores, with one NonMaxSuppression behind them, or with the metadata "
    "tapc.detector"
)


def without_suppression(
    model: onnx.ModelProto, constants: Mapping[str, float]
) -> tuple[onnx.ModelProto, dict[str, Any] | None, str]:
    """Return the network before a suppression, the fields of `BoxDetector`, and what was assumed of its boxes.

    None where there is no such node; the model is as it was. Metadata of the file go before what its nodes say. Besides
    the fields there are `first` and `surest`, how many of what is found are taken, see `tapc.frontend.onnx_tail.Tail`;
    and `found` where anchors were found, in the unit of the boxes.

    Parameters
    ----------
    model : onnx.ModelProto
    constants : mapping of str to float
        Inputs that always hold one number.

    Raises
    ------
    UnsupportedError
        Several of them, numbers that are not constant, or more behind one than the choice of what it found.
    DataError
        Numbers that are none of a suppression's.
    """
    if any(node.op_type == KIND for function in model.functions for node in function.node):
        model = inliner.inline_local_functions(model)
    found = [node for node in model.graph.node if node.op_type == KIND]
    inner = _inner(model.graph)
    if not found and not inner:
        return model, None, ""
    node = (found or inner)[0]
    where = f"node {node.name or node.output[0]!r} ({KIND})"
    if inner:
        raise UnsupportedError(f"{where} stands in a branch or loop, where there may be nothing to suppress; {_RECIPE}")
    if len(found) > 1:
        raise UnsupportedError(f"{where}: a network has one, of all of its classes; {_RECIPE}")
    numbers = Numbers.of(model, constants)
    tail = tail_of(model, node, numbers, where)
    origins = {numbers.origin(name) for name in node.input[:2]}
    others = [value.name for value in model.graph.output
              if value.name not in tail.tensors and numbers.origin(value.name) not in origins]  # fmt: skip
    if others:
        raise UnsupportedError(
            f"{where}: the output {others[0]!r} stands beside what it finds; the outputs of a detector are its boxes "
            "and scores alone, export it without"
        )
    own = described(model) or {}
    fields = _fields(node, numbers, where) | {"first": tail.first, "surest": tail.surest} | own
    words = "middle x, y, width, height" if fields["form"] == "xywh" else "corners y, x, y, x, as ONNX orders them"
    text = "" if "form" in own else f"; boxes of its {KIND} are {words}"
    return _ended(model, node, tail, numbers, fields), fields, text


def _inner(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the suppressions of a graph's branches and loops."""
    inner = [part for node in graph.node for item in node.attribute for part in (item.g, *item.graphs)]
    return [own for part in inner for own in (*(n for n in part.node if n.op_type == KIND), *_inner(part))]


def _ended(
    model: onnx.ModelProto, node: onnx.NodeProto, tail: Tail, numbers: Numbers, fields: dict[str, Any]
) -> onnx.ModelProto:
    """Return the network before a suppression; its outputs are called scores and boxes where nothing else is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken = {name for own in model.graph.node for name in (*own.input, *own.output)}
    taken |= {str(value.name) for value in (*model.graph.input, *model.graph.initializer)}
    ends, scores = [], node.input[1]
    while (before := numbers.made.get(scores)) is not None and _swaps(before):
        scores = before.input[0]  # detections are the same, and a copy of all scores is spared
        fields["classes_first"] = not fields["classes_first"]
    for key, name in (("scores", scores), ("boxes", node.input[0])):
        own = key
        while own in taken:
            own += "_"
        fields[key] = own
        ends.append(helper.make_node("Identity", [name], [own]))
    code = encoded(model, node.input[0], numbers, fields["form"])
    if code is not None:
        fields |= {"form": "anchors", "anchors": code.anchors, "scales": code.scales, "found": True}
        order = numpy_helper.from_array(np.array(code.columns), f"{fields['boxes']}.columns")
        copy.graph.initializer.append(order)
        ends[1] = helper.make_node("Gather", [code.tensor, order.name], [fields["boxes"]], axis=2)
    kept = [own for own in copy.graph.node if not tail.tensors & set(own.output)]
    del copy.graph.node[:]
    copy.graph.node.extend(_needed([*kept, *ends], {fields["scores"], fields["boxes"]}))
    del copy.graph.output[:]
    for end in ends:
        copy.graph.output.append(helper.make_tensor_value_info(end.output[0], onnx.TensorProto.FLOAT, (None,) * 3))
    return copy


def _swaps(node: onnx.NodeProto) -> bool:
    """Tell whether a node exchanges the last two axes of three."""
    return node.op_type == "Transpose" and any(list(item.ints) == [0, 2, 1] for item in node.attribute)


def _needed(nodes: list[onnx.NodeProto], needed: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes on which some tensors depend."""
    kept = []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed = needed | read(node)
    return kept[::-1]


def _fields(node: onnx.NodeProto, numbers: Numbers, where: str) -> dict[str, Any]:
    def number(place: int, name: str, default: float) -> float:
        own = node.input[place] if place < len(node.input) else ""
        if not own:
            return default
        found = numbers.one(own)
        if found is None:
            raise UnsupportedError(
                f"{where}: {name} ({own!r}) is one constant number; export it as one, or give an input its value "
                f"(--constant {own}=VALUE)"
            )
        return found

    each = number(2, "max_output_boxes_per_class", 0.0)
    overlap, threshold = number(3, "iou_threshold", 0.0), number(4, "score_threshold", -np.inf)
    if not each >= 1:
        raise DataError(f"{where}: it finds nothing with max_output_boxes_per_class {each:g}; give one of 1 or more")
    if not 0 <= overlap <= 1:
        raise DataError(f"{where}: iou_threshold is {overlap:g}; give a share of the union, from 0 to 1")
    before = numbers.made.get(numbers.origin(node.input[1]))
    if not threshold < (1 if before is not None and before.op_type in _SHARES else np.inf):
        raise DataError(f"{where}: no score is above score_threshold, {threshold:g}; give a smaller one")
    centre = any(item.name == "center_point_box" and item.i for item in node.attribute)
    return {
        "form": "xywh" if centre else "yxyx",
        "threshold": max(threshold, float(np.finfo(np.float32).min)),
        "strict": True,
        "overlap": overlap,
        "together": False,
        "per_class": int(min(each, 1 << 31)),
        "background": 0,
        "classes_first": True,
    }
