"""Detectors of a canonical graph: where their boxes lie in it, and what a distance of 1 is."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from tapc.base.boxes import BoxDetector
from tapc.base.detector import detector, detector_of, set_detector
from tapc.base.errors import DataError, UnsupportedError
from tapc.base.ports import Port
from tapc.base.strides import visited
from tapc.graph.interface import input_ports, output_ports


def name_detector(graph: onnx.ModelProto, fields: dict[str, Any] | None) -> None:
    """Write into a canonical graph how its outputs become detections; None: they do not.

    Raises
    ------
    DataError
        Fields that there are not, or outputs that are no detector's.
    UnsupportedError
        Boxes that lie neither side by side nor apart in the canonical output.
    """
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
