"""Loss tables as files that come with tapc: compressed JSON, one per network."""

import gzip
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import tapc
from tapc.base.errors import DataError, OutputError, UsageError
from tapc.base.files import write_whole
from tapc.flow.losses.facts import LayerFacts, StatisticsRow

FOLDER = Path(tapc.__file__).parent / "bench" / "data" / "losses"
"""Tables of tapc-bench 2."""

SEARCHED = FOLDER.with_name("searched")
"""Tables of the networks that searches are run on, so that those of the benchmark stay unseen."""
SCHEMA = 1
SUFFIX = ".json.gz"

RoundingName = Literal["nearest", "gptq"]
ROUNDINGS: tuple[RoundingName, ...] = get_args(RoundingName)


@dataclass(frozen=True)
class Measured:
    """What a quantized network loses, on samples that were not calibrated on.

    Attributes
    ----------
    loss : float
        Squared error of the logits over their variance.
    metric : float
        Top-1, 0 to 1, by the data's labels or by the float network's answers; of an autoencoder the rank correlation of
        its samples' reconstruction errors with the float network's. Of other labels what they measure: R2, AUC, mIoU,
        mAP at an overlap of 0.5.
    cross_entropy : float or None
        Mean over samples, nats; None without labels.
    divergence : float or None
        Mean Kullback-Leibler divergence from the float network's classes, nats; None without classes.
    """

    loss: float
    metric: float
    cross_entropy: float | None
    divergence: float | None


@dataclass(frozen=True)
class LossRow:
    """A measured configuration.

    Attributes
    ----------
    kind : str
        ``uniform``, ``one-low``, ``one-high``, ``size`` (random) or ``chosen`` (by an allocator).
    size : float or None
        Average weight bits that it was drawn or chosen for.
    weights, activations : str
        A digit per layer, per activation group.
    average_bits, weight_bytes : float
        Of the weights; neither biases nor padding.
    nearest, gptq : Measured
        By rounding method.
    """

    kind: str
    size: float | None
    weights: str
    activations: str
    average_bits: float
    weight_bytes: float
    nearest: Measured
    gptq: Measured

    @property
    def key(self) -> str:
        """The bits, such as ``8442/8848``."""
        return f"{self.weights}/{self.activations}"

    def by(self, rounding: RoundingName) -> Measured:
        """Return the figures of a rounding method."""
        return self.nearest if rounding == "nearest" else self.gptq


@dataclass(frozen=True)
class LossProvenance:
    """Where a table's figures come from.

    Attributes
    ----------
    description, command : str
    model, model_sha256 : str
        Zoo name or file name; digest of the canonical float ONNX before equalization.
    data, data_sha256 : str
        File name, or what was synthesized; digest of calibration and test samples and labels as the network takes them.
    calibration_samples, rounding_samples, test_samples, seed : int
        `rounding_samples` of the calibration samples serve gptq.
    metric : str
        ``top1``, ``agreement`` with the float network's answers, ``anomaly``, or that of `tapc.data.metrics`.
    float_metric : float
        Of the float network.
    tapc, code_sha256 : str
        Version; digest of the code that rounds and scores.
    """

    description: str
    command: str
    model: str
    model_sha256: str
    data: str
    data_sha256: str
    calibration_samples: int
    rounding_samples: int
    test_samples: int
    seed: int
    metric: str
    float_metric: float
    tapc: str
    code_sha256: str


@dataclass(frozen=True)
class LossTable:
    """One network of tapc-bench 2.

    Attributes
    ----------
    network : str
    provenance : LossProvenance
    layers : tuple of LayerFacts
        In execution order.
    interface : tuple of int
        Activation groups that stay at 8 bits.
    statistics : tuple of rows
        The statistics table that proxy programs score.
    scores : dict of str to tuple of float
        Built-in proxy -> score per layer, with a mean of 1.
    alone : dict of str to tuple of (float, float, float)
        Rounding method -> per layer the measured loss when it alone is rounded, to 2, 4 and 8 bits; on the last
        calibration samples. By those of gptq `tapc compile --proxy error` chooses.
    choices : dict of str to str
        ``proxy@budget`` -> key of the row that the allocator chooses by that proxy; ``alone`` stands for those losses.
    rows : tuple of LossRow
    """

    network: str
    provenance: LossProvenance
    layers: tuple[LayerFacts, ...]
    interface: tuple[int, ...]
    statistics: tuple[StatisticsRow, ...]
    scores: dict[str, tuple[float, ...]]
    alone: dict[str, tuple[tuple[float, ...], ...]]
    choices: dict[str, str]
    rows: tuple[LossRow, ...]

    def row(self, key: str) -> LossRow | None:
        """Return the configuration with these bits, or None where it was not measured."""
        return next((row for row in self.rows if row.key == key), None)


def loss_names(folder: Path = FOLDER) -> tuple[str, ...]:
    """Return the networks that there are tables of, sorted."""
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")))


def load_losses(name: str | Path) -> LossTable:
    """Read a loss table.

    Parameters
    ----------
    name : str or Path
        A network of tapc-bench 2, one that comes with tapc for searches, or the path of a .json.gz file.

    Raises
    ------
    UsageError
        No network of that name.
    DataError
        The file is missing or damaged.
    """
    path = Path(name)
    if not path.name.endswith(SUFFIX):
        folders = {known: folder for folder in (SEARCHED, FOLDER) for known in loss_names(folder)}
        if str(name) not in folders:
            known = ", ".join(folders) or "none"
            raise UsageError(f"no network {str(name)!r} in the loss tables; there are: {known}")
        path = folders[str(name)] / f"{name}{SUFFIX}"
    try:
        values = json.loads(gzip.decompress(path.read_bytes()))
        if values.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        columns, rows = values.pop("columns"), values.pop("rows")
        return LossTable(
            network=values["network"],
            provenance=LossProvenance(**values["provenance"]),
            layers=tuple(LayerFacts.model_validate(layer) for layer in values["layers"]),
            interface=tuple(values["interface"]),
            statistics=tuple(values["statistics"]),
            scores={proxy: tuple(own) for proxy, own in values["scores"].items()},
            alone={rounding: tuple(map(tuple, own)) for rounding, own in values["alone"].items()},
            choices=dict(values["choices"]),
            rows=tuple(row_of(dict(zip(columns, row, strict=True))) for row in rows),
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise DataError(f"{path}: no loss table: {type(error).__name__}: {error}") from None


def save_losses(table: LossTable, path: Path) -> None:
    """Write a loss table, beside its place and renamed; the same table gives the same bytes.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    rows = [flat(row) for row in table.rows]
    columns = list(rows[0]) if rows else []
    values = {field.name: getattr(table, field.name) for field in fields(table) if field.name != "rows"} | {
        "schema": SCHEMA,
        "provenance": asdict(table.provenance),
        "layers": [layer.model_dump(mode="json") for layer in table.layers],
        "columns": columns,
        "rows": [list(row.values()) for row in rows],
    }
    data = gzip.compress(json.dumps(values, separators=(",", ":"), sort_keys=True).encode(), 9, mtime=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    write_whole(path, data)


def flat(row: LossRow) -> dict[str, Any]:
    """Return a row's columns, such as ``gptq_loss``."""
    values = asdict(row)
    for rounding in ROUNDINGS:
        values |= {f"{rounding}_{name}": value for name, value in values.pop(rounding).items()}
    return values


def row_of(values: dict[str, Any]) -> LossRow:
    """Return a row from its columns."""
    names = [field.name for field in fields(Measured)]
    own = {r: Measured(**{name: values.pop(f"{r}_{name}") for name in names}) for r in ROUNDINGS}
    return LossRow(**values, nearest=own["nearest"], gptq=own["gptq"])
