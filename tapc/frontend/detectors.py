"""Detectors of a canonical graph: where their boxes lie in it, and what a distance of 1 is."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from tapc.base.boxes import MOST, BoxDetector, packed
from tapc.base.detector import detector, detector_of, set_detector
from tapc.base.errors import DataError, UnsupportedError
from tapc.base.ports import Port
from tapc.base.strides import visited
from tapc.graph.interface import input_ports, output_ports

_PICTURES = 2.0
"""Where the middles of anchors are farther away than that, they are in pixels, not in pictures."""


def name_detector(graph: onnx.ModelProto, fields: dict[str, Any] | None) -> None:
    """Write into a canonical graph how its outputs become detections; None: they do not.

    Raises
    ------
    DataError
        Fields that there are not, or outputs that are no detector's.
    UnsupportedError
        Boxes that lie neither side by side nor apart in the canonical output.
    """
    fields = None if fields is None else _counted(graph, fields)
    found = None if fields is None else detector_of(fields)
    set_detector(graph, found)
    detector(graph)
    if not isinstance(found, BoxDetector):
        return
    ports = {port.name: port for port in output_ports(graph)}
    scores, boxes = (ports[name] for name in found.maps)
    turned = (_turned(scores, boxes.size // 4, found.classes_first), _turned(boxes, boxes.size // 4, False))
    size = found.size
    if found.form == "anchors" and not all(size):
        shape = input_ports(graph)[0].shape
        if len(shape) != 4:
            raise DataError(f"a detector's input is a picture, not {shape}; its metadata may tell the `size`")
        size = (float(shape[3]), float(shape[2]))
    set_detector(graph, replace(found, turned=turned, size=size))


def _counted(graph: onnx.ModelProto, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a detector; of a suppression's, with as many detections as there may be.

    See `tapc.frontend.onnx_detector` for what it says besides.
    """
    if "first" not in fields:
        return fields
    own = {key: value for key, value in fields.items() if key not in ("first", "surest", "found")}
    if "found" in fields:
        own = _pictured(graph, own)
    shapes = {port.name: port.source or port.shape for port in output_ports(graph)}
    scores, boxes = (shapes.get(str(own[key]), ()) for key in ("scores", "boxes"))
    scores = scores if own["classes_first"] or len(scores) != 3 else (scores[0], scores[2], scores[1])
    if len(scores) != 3 or scores[0] != 1 or boxes != (1, scores[2], 4):
        raise UnsupportedError(
            f"non-maximum suppression of boxes {list(boxes)} and scores {list(scores)}: (1, boxes, 4) and (1, classes, "
            "boxes) are known; export the model with batch 1"
        )
    each, classes = min(own["per_class"], scores[2]), scores[1] - own["background"]
    if fields["first"] < each * classes and classes > 1:
        raise UnsupportedError(
            f"non-maximum suppression of {classes} classes, of which the first {fields['first']:g} boxes are taken "
            "behind it, class by class; give it max_output_boxes_per_class, and end the network there"
        )
    most = int(min(each * classes, fields["first"], fields["surest"], MOST))
    return {"most": max(most, 1), **own, "per_class": each}


def _pictured(graph: onnx.ModelProto, fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields with anchors in pictures; in the file they may be in pixels, or in what metadata say."""
    shape = input_ports(graph)[0].shape
    rows = BoxDetector("", "", anchors=fields["anchors"]).anchor_rows()
    if len(shape) != 4:
        return fields
    across, down = fields.get("size") or ((1, 1) if np.abs(rows[:, :2]).max() > _PICTURES else shape[:1:-1])
    rows *= np.array([down / shape[2], across / shape[3]] * 2)
    return {**fields, "anchors": packed(rows), "size": (float(shape[3]), float(shape[2]))}


def _turned(port: Port, count: int, fields_first: bool) -> bool:
    """Return whether the channels of a canonical output are boxes, whose numbers are its pixels, or the reverse."""
    width = port.size // count
    index = np.arange(port.size) if not port.source else visited(port.loops)
    box, column = (index % count, index // count) if fields_first else (index // width, index % width)
    shape = port.shape[1:]
    for turned in (False, True):
        first, second = (box, column) if turned else (column, box)
        extents = (count, width) if turned else (width, count)
        if shape[0] == extents[0] and all(
            np.array_equal(own.reshape(extents), wanted)
            for own, wanted in ((first, np.arange(extents[0])[:, None] + np.zeros(extents)),
                                (second, np.arange(extents[1]) + np.zeros(extents)))
        ):  # fmt: skip
            return turned
    raise UnsupportedError(
        f"output {port.name!r} of shape {port.shape}: the numbers of a detector's box lie neither side by side nor as "
        "far apart as there are boxes"
    )
