"""Detections from the maps of a network that finds centres: what it is told, and the same in real numbers.

Of each cell and class there is a score, and for each cell the distances of a box's four sides from the cell's middle.
The integers are in `tapc.operators.detect`. Detectors of boxes that have scores are in `tapc.base.boxes`.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tapc.base.boxes import FIELDS, BoxDetector, covers, packed
from tapc.base.errors import DataError

_KEY = "tapc.detector"


@dataclass(frozen=True)
class Detector:
    """How a network's maps become detections.

    Attributes
    ----------
    scores : str
        Output (1, classes, H, W): how sure it is that an object's middle is in a cell.
    sides : str
        Output (1, 4, H, W): distances of the left, upper, right and lower side.
    cell : int
        Pixels of a cell's side.
    unit : float
        Pixels of a distance of 1.
    threshold : float
        Least score.
    overlap : float
        Of two boxes of one class with a larger intersection over union the less sure one is dropped.
    most : int
        Detections of a picture; the surest, of which others are dropped then.
    """

    scores: str
    sides: str
    cell: int
    unit: float
    threshold: float = 0.1
    overlap: float = 0.5
    most: int = 16

    def __post_init__(self) -> None:
        ranges = 1 <= self.cell <= 64 and 0 < self.unit <= 4096 and 0 < self.overlap <= 1 and 1 <= self.most <= 64
        if not ranges or not np.isfinite(self.threshold):
            raise DataError(
                f"{self}: give 1 to 64 pixels a cell, a unit above 0, an overlap in 0..1, 1 to 64 detections"
            )

    @property
    def maps(self) -> tuple[str, str]:
        """The two outputs, scores first."""
        return self.scores, self.sides

    def check(self, shapes: dict[str, list[int]]) -> None:
        """Raise DataError where outputs of these shapes are no such maps; KeyError where they are none of them."""
        scores, sides = (shapes[name] for name in self.maps)
        if len(shapes) != 2 or len(scores) != 4 or sides != [1, 4, *scores[2:]]:
            raise DataError(
                f"a detector has two outputs, scores (1, classes, H, W) and sides (1, 4, H, W); these are {shapes}"
            )

    def classes(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """Return how many classes there are, given the extents (C, H, W) of the outputs."""
        return shapes[self.scores][0]

    def rows(self, scores: NDArray[Any], sides: NDArray[Any]) -> NDArray[np.float64]:
        """Return detections (most, 6), the surest first, of maps (C, H, W) and their distances, of any shape."""
        return decoded(self, scores, sides.reshape(4, *scores.shape[1:]))


AnyDetector = Detector | BoxDetector


def detector_of(fields: dict[str, Any]) -> AnyDetector:
    """Return a detector of its fields: of boxes where these are named.

    Raises
    ------
    DataError
        Others than there are, or out of their ranges.
    """
    own = dict(fields)
    try:
        if "boxes" not in own:
            return Detector(**own)
        if not isinstance(own.get("anchors", ""), str):
            own["anchors"] = packed(own["anchors"])
        return BoxDetector(**own)
    except (TypeError, ValueError) as error:
        raise DataError(f"the metadata {_KEY} of the graph are damaged: {error}") from error


def detector(model: onnx.ModelProto) -> AnyDetector | None:
    """Return how a graph's outputs become detections, None where they are none.

    Raises
    ------
    DataError
        Its metadata are damaged, or its outputs are no such maps.
    """
    fields = described(model)
    if fields is None:
        return None
    found = detector_of(fields)
    shapes = {
        str(value.name): [int(dim.dim_value) for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    try:
        found.check(shapes)
    except KeyError as error:
        raise DataError(f"the metadata {_KEY} of the graph are damaged: {error}") from error
    return found


def described(model: onnx.ModelProto) -> dict[str, Any] | None:
    """Return the fields of a detector in the metadata of any graph."""
    text = next((entry.value for entry in model.metadata_props if entry.key == _KEY), None)
    if text is None:
        return None
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise DataError(f"the metadata {_KEY} of the graph are damaged: {error}") from error


def set_detector(model: onnx.ModelProto, found: AnyDetector | None) -> None:
    """Write into a graph's metadata how its outputs become detections."""
    others = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != _KEY]
    onnx.helper.set_model_props(model, dict(others) | ({} if found is None else {_KEY: json.dumps(asdict(found))}))


def peaks(scores: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    """Return which scores (H, W, C) are no smaller than the threshold and than their eight neighbours.

    Of neighbours that are equal the first counts, row by row.
    """
    height, width, _ = scores.shape
    lowest = scores.min() - 1
    padded = np.pad(scores, ((1, 1), (1, 1), (0, 0)), constant_values=lowest)
    found: NDArray[np.bool_] = scores >= threshold
    for number in range(9):
        row, column = divmod(number, 3)
        other = padded[row : row + height, column : column + width]
        if number != 4:
            found &= scores > other if number < 4 else scores >= other
    return found


def decoded(own: Detector, scores: NDArray[Any], sides: NDArray[Any]) -> NDArray[np.float64]:
    """Return detections (most, 6), the surest first, of maps (C, H, W) and (4, H, W) of real numbers."""
    rows, around = scores.transpose(1, 2, 0).astype(np.float64), sides.transpose(1, 2, 0).astype(np.float64)
    height, width, classes = rows.shape
    places = np.flatnonzero(peaks(rows, own.threshold))
    places = places[np.argsort(-rows.reshape(-1)[places], kind="stable")][: own.most]
    cells, kinds = places // classes, places % classes
    middle = np.stack([cells % width, cells // width], axis=1) * own.cell + own.cell / 2
    apart = around.reshape(-1, 4)[cells] * own.unit
    limit = np.array([width, height]) * own.cell
    boxes = np.concatenate([np.clip(middle - apart[:, :2], 0, limit), np.clip(middle + apart[:, 2:], 0, limit)], axis=1)
    found = np.full((own.most, FIELDS), -1.0)
    kept: list[int] = []
    for i in range(len(places)):
        if not covers(boxes[i], boxes[[j for j in kept if kinds[j] == kinds[i]]], own.overlap).any():
            found[len(kept)] = (kinds[i], rows.reshape(-1)[places[i]], *boxes[i])
            kept.append(i)
    return found
