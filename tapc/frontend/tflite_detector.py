"""SSD's post-processing in TFLite files: what it is told, and the network up to its inputs."""

from dataclasses import replace
from typing import Any

import numpy as np

from tapc.base.boxes import packed
from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.tflite_names import tensor_names
from tapc.frontend.tflite_reader import POST_PROCESSING, Operator, TfliteGraph

_PER_CLASS = 100
"""Detections of a class where the file tells none."""


def without_post_processing(graph: TfliteGraph) -> tuple[TfliteGraph, dict[str, Any] | None]:
    """Return the graph that ends in what its post-processing reads, and the fields of `BoxDetector`.

    None where there is no such operator; the graph is as it was.

    Raises
    ------
    UnsupportedError
        Several of them, results that something reads, other outputs besides, or options that are not computed.
    DataError
        Damaged options or anchors.
    """
    found = [op for op in graph.operators if op.kind == POST_PROCESSING]
    if not found:
        return graph, None
    op = found[0]
    results, others = set(op.outputs), [own for own in graph.operators if own is not op]
    if len(found) > 1 or any(results & set(own.inputs) for own in others) or set(graph.outputs) - results:
        raise UnsupportedError(
            f"operator {op.index} ({op.kind}): a network has one, whose results are its outputs; end it there"
        )
    if len(op.inputs) != 3 or graph.tensors[op.inputs[2]].data is None:
        raise UnsupportedError(f"operator {op.index} ({op.kind}): it has boxes, scores and constant anchors")
    fields = _fields(op, graph)
    names = tensor_names([tensor.name for tensor in graph.tensors])
    fields |= {"scores": names[op.inputs[1]], "boxes": names[op.inputs[0]]}
    return replace(graph, operators=tuple(others), outputs=(op.inputs[1], op.inputs[0])), fields


def _fields(op: Operator, graph: TfliteGraph) -> dict[str, Any]:
    boxes, scores, anchors = (graph.tensors[index] for index in op.inputs)
    rows = np.asarray(anchors.data, np.float32)
    if boxes.shape != (1, len(rows), 4) or scores.shape[:-1] != boxes.shape[:-1] or rows.shape != (len(rows), 4):
        raise UnsupportedError(
            f"operator {op.index} ({op.kind}): boxes {list(boxes.shape)}, scores {list(scores.shape)} and anchors "
            f"{list(rows.shape)}; (1, anchors, 4), (1, anchors, classes) and (anchors, 4) are known"
        )
    try:
        own = {key: float(op.options[key]) for key in _NEEDED}
        apart = bool(op.options.get("use_regular_nms", False))
        per_class = int(op.options.get("detections_per_class", _PER_CLASS))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"operator {op.index} ({op.kind}): its options are damaged: {error}") from error
    background = scores.shape[-1] - int(own["num_classes"])
    if background not in (0, 1):
        raise UnsupportedError(
            f"operator {op.index} ({op.kind}): {scores.shape[-1]} scores of a box and {own['num_classes']:g} classes; "
            "one more, the background, or as many are known"
        )
    if own["max_classes_per_detection"] != 1 and not apart:
        raise UnsupportedError(
            f"operator {op.index} ({op.kind}): {own['max_classes_per_detection']:g} classes of a detection; convert "
            "the network with max_classes_per_detection 1 or use_regular_nms"
        )
    return {
        "form": "anchors",
        "anchors": packed(rows),
        "scales": tuple(own[f"{axis}_scale"] for axis in ("y", "x", "h", "w")),
        "threshold": own["nms_score_threshold"],
        "overlap": own["nms_iou_threshold"],
        "most": int(own["max_detections"]),
        "together": not apart,
        "per_class": per_class,
        "background": background,
    }


_NEEDED = (
    "max_detections", "max_classes_per_detection", "nms_score_threshold", "nms_iou_threshold", "num_classes", "y_scale",
    "x_scale", "h_scale", "w_scale",
)  # fmt: skip
