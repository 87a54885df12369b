"""A compilation's samples: found, loaded, brought to the network's input units."""

from dataclasses import dataclass, replace
from pathlib import Path

from tapc.data import Samples, find_data, load_samples, overlap, random_samples, shipped_note
from tapc.errors import DataError, UsageError
from tapc.frontend import FloatModel
from tapc.options import Options


@dataclass(frozen=True, eq=False)
class Data:
    """Calibration and evaluation samples, and what to tell the user about them."""

    calibration: Samples
    test: Samples
    warnings: tuple[str, ...] = ()


def with_units(
    model: FloatModel, pixel_scale: float | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> FloatModel:
    """Return a model with what the user says about raw data values; UsageError for deviations that are not positive."""
    if std is not None and min(std) <= 0:
        raise UsageError(f"--std {','.join(map(str, std))}: deviations must be positive")
    changes = {"pixel_scale": pixel_scale, "mean": mean, "std": std}
    return replace(model, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


def load_data(model: FloatModel, data: str | Path | None, options: Options) -> Data:
    """Find and load calibration and evaluation samples.

    Raises
    ------
    DataError
        The file is missing, empty or of the wrong shape.
    """
    units = model.units
    path = Path(data) if data is not None and str(data) != "random" else None
    warnings: tuple[str, ...] = ()
    if data is None:
        dataset = model.dataset
        path = find_data(dataset)
        if path is not None:
            warnings = shipped_note(path)
        else:
            what = f"data set {dataset!r} was not found" if dataset else "no data was given"
            folder = ", or put its file into ./data or a folder of TAPC_DATA" if dataset else ""
            warnings = (
                f"{what}: calibrated on random inputs, so accuracy is unknown and probably poor; "
                f"give samples with --data PATH (folder, zip or npz){folder}",
            )
    if path is None:
        high = 1.0 if units.scale == 1.0 else 255.0
        raw = [random_samples(model.input_shape, n, options.seed + i, 0.0, high)
               for i, n in enumerate((options.calibration, options.eval))]  # fmt: skip
        draws = [replace(samples, x=units.apply(samples.x)) for samples in raw]
        if options.test_data is None:
            return Data(draws[0], draws[1], warnings)
    for file in (path, options.test_data):
        if file is not None and not file.exists():
            raise DataError(f"data {file}: no such file or folder")
    calibration = (
        draws[0]
        if path is None
        else load_samples(
            path,
            model.input_shape,
            pixel_scale=units,
            count=options.calibration,
            split="calibration",
            seed=options.seed,
        )
    )
    separate = options.test_data is not None
    source = options.test_data or path
    assert source is not None
    test = load_samples(
        source, model.input_shape, pixel_scale=units, count=options.eval,
        split="all" if separate else "test", seed=options.seed,
    )  # fmt: skip
    return Data(calibration, test, (*warnings, *overlap(calibration, test)))
