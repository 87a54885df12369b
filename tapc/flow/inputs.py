"""A compilation's samples: found, loaded, brought to the network's input units, and how they measure the network."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tapc.base.errors import BudgetError, DataError
from tapc.base.options import Options, Source
from tapc.data import Samples, find_data, in_order, overlap, shipped_note
from tapc.data.choice import check_classes
from tapc.data.doubts import few, uneven
from tapc.data.load import open_data
from tapc.data.masks import masks_of
from tapc.data.metrics import Metric
from tapc.flow.sequences import LEAST_STEPS, load_steps, metric_of, random_steps, with_states
from tapc.frontend import FloatModel, load
from tapc.hardware.board import Board

KINDS = "folder, zip, npz, npy or CSV"


@dataclass(frozen=True, eq=False)
class Data:
    """Calibration and evaluation samples, and what to tell the user about them.

    Attributes
    ----------
    calibration, test : Samples
    warnings : tuple of str
    metric : Metric
        What the test samples measure.
    """

    calibration: Samples
    test: Samples
    warnings: tuple[str, ...]
    metric: Metric

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, where the data has them."""
        return self.test.labels or self.calibration.labels


def with_units(
    model: FloatModel, pixel_scale: float | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> FloatModel:
    """Return a model with what the user says about raw data values."""
    changes = {"pixel_scale": pixel_scale, "mean": mean, "std": std}
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(model, units_given=bool(given), **given)  # type: ignore[arg-type]


def open_model(name: str, source: Source, seed: int = 0) -> FloatModel:
    """Load a network as the user says that it and its inputs are to be read; it is one of real values."""
    model = load(name, weights=source.weights, input_shape=source.input_shape, seed=seed, keep=False,
                 state=source.state, constant=source.constant)  # fmt: skip
    return with_units(model, source.pixel_scale, source.mean, source.std)


def check_input(model: FloatModel, board: Board, options: Options) -> None:
    """Refuse a network whose input alone is larger than the board's memory, before samples of it are made.

    Raises
    ------
    BudgetError
    """
    size = sum(port.size * (4 if port.tokens else 1) for port in model.inputs)  # states included
    outside = None if options.no_external or options.ram is not None else board.external_ram
    room = max(board.arena_region.size, 0 if outside is None else outside.size)
    if size > room:
        extents = " and ".join("x".join(map(str, port.shape[1:])) for port in model.inputs)
        raise BudgetError(
            f"{model.name}: the input, {extents} values of 8 bits, takes {size:,} bytes; {board.name} has {room:,} for "
            "activations: take a board with more memory, or a network with a smaller input"
        )


def load_data(model: FloatModel, data: Any, options: Options) -> Data:
    """Find and load calibration and evaluation samples, and choose what they measure.

    Parameters
    ----------
    model : FloatModel
    data : str, Path, arrays or None
        See `tapc.data.load_samples`; "random" for random inputs. None: the network's own data set.
    options : Options

    Raises
    ------
    DataError
        The file is missing, empty or of the wrong shape, or its labels do not fit the network.
    """
    warnings: tuple[str, ...] = ()
    source: Any = None if isinstance(data, str) and data == "random" else data
    if data is None:
        dataset = model.dataset
        source = find_data(dataset)
        if source is not None:
            warnings = shipped_note(source)
        else:
            what = f"data set {dataset!r} was not found" if dataset else "no data was given"
            folder = ", or put its file into ./data or a folder of TAPC_DATA" if dataset else ""
            random = "calibrated on random inputs, so accuracy is unknown and probably poor"
            if model.given is not None:
                random = "proved on random inputs; accuracy is not measured"
            warnings = (f"{what}: {random}; give samples with --data PATH ({KINDS}){folder}",)
    for file in (source, options.test_data):
        if isinstance(file, (str, os.PathLike)) and not _there(file):
            raise DataError(f"data {file}: no such file or folder")
    # Once for both splits: what is drawn in another order each time would mix them, an iterator would be used up.
    source = None if source is None else open_data(source, model.given_inputs, options.seed, masks_of(model.onnx))
    tested: Any = source if options.test_data is None else options.test_data
    tests = max(options.eval, LEAST_STEPS) if model.states else options.eval
    calibration = (
        _random(model, options.calibration, options.seed)
        if source is None
        else load_steps(source, model.onnx, model.units, options.calibration, "calibration", options.seed)
    )
    test = (
        _random(model, tests, options.seed + 1)
        if tested is None
        else load_steps(tested, model.onnx, model.units, tests, "test" if options.test_data is None else "all",
                        options.seed)
    )  # fmt: skip
    calibration, test = (in_order(samples, model.labels) for samples in (calibration, test))
    metric = metric_of(options.metric, test, model.onnx)
    if metric.classes:
        check_classes(calibration, metric.outputs)
    if source is not None:
        warnings += tuple(dict.fromkeys((*calibration.warnings, *test.warnings)))
        doubtful = uneven(calibration) if len(model.inputs) == 1 else ()
        warnings += (*few(calibration), *doubtful, *overlap(calibration, test))
    elif tested is not None:
        warnings += test.warnings
    return Data(calibration, test, warnings, metric)


def _there(file: str | os.PathLike[str]) -> bool:
    try:
        return Path(file).exists()
    except (OSError, ValueError):
        return False


def _random(model: FloatModel, count: int, seed: int) -> Samples:
    units = model.units
    low, high = 0.0, 1.0 if units.scale == 1.0 else 255.0
    one = len(model.given_inputs) == 1 and not model.given_inputs[0].tokens
    point = model.given.points.get(model.given_inputs[0].name) if model.given is not None and one else None
    if point is not None and units.identity:
        low, high = (point.scale * (code - point.zero) for code in ((-128, 127) if point.bits == 8 else (0, 15)))
    samples = random_steps(model.onnx, count, seed, low, high)
    if one:
        samples = replace(samples, x=units.apply(samples.x), units=units)
    return with_states(samples, model.onnx)
