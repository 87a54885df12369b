"""The benchmark as files that come with tapc: one JSON table per network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapc.base.errors import DataError, UsageError
from tapc.base.files import write_whole
from tapc.bench.configurations.draw import Kind
from tapc.flow.losses.facts import LayerFacts, StatisticsRow

DATA = Path(__file__).parents[1] / "data"
SCHEMA = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Provenance(_Record):
    """Where a table's figures come from.

    Attributes
    ----------
    description : str
    command : str
        That measured it; files by name, without their folders.
    model, model_sha256 : str
        Zoo name or file name; digest of the weights or the file.
    float_correct : int
        Test samples that the float network classifies right.
    data, data_sha256 : str
    calibration_samples, test_samples, seed : int
    board, core, compiler, tapc : str
        `tapc` is its version.
    """

    description: str
    command: str
    model: str
    model_sha256: str
    float_correct: int
    data: str
    data_sha256: str
    calibration_samples: int
    test_samples: int
    seed: int
    board: str
    core: str
    compiler: str
    tapc: str


class Drawn(_Record):
    """A configuration: why it was drawn, and its bits as digits."""

    kind: Kind
    weights: str
    activations: str

    @property
    def key(self) -> str:
        """The bits, as `Configuration.key`."""
        return f"{self.weights}/{self.activations}"


class Measurement(_Record):
    """Figures of one configuration.

    Attributes
    ----------
    correct : int
        Test samples that the firmware's integer arithmetic classifies right; ties go to the first class.
    onnx_correct : int
        The same by onnxruntime on the exported ONNX, which computes in float where it has no integer kernel.
    cross_entropy : float
        Mean over test samples, in nats, of the dequantized integer logits.
    average_bits : float
        Of the weights, over parameters.
    weight_bytes : float
        Parameters x bits / 8, biases excluded; no padding.
    bops : int
        Multiply-accumulates x weight bits x input bits.
    constant_bytes, constant_bytes_predicted : int
        Of all constant arrays, as generated and as predicted before quantization.
    flash_bytes, flash_bytes_predicted : int
        Of the whole ELF, measured, and by the cost model.
    arena_bytes : int
        Of the memory plan: activations and scratch.
    ram_bytes : int
        Arena, variables and the stack that the simulator saw used.
    instructions, instructions_predicted : int
        Of one inference, in the simulator and by the cost model.
    """

    correct: int
    onnx_correct: int
    cross_entropy: float
    average_bits: float
    weight_bytes: float
    bops: int
    constant_bytes: int
    constant_bytes_predicted: int
    flash_bytes: int
    flash_bytes_predicted: int
    arena_bytes: int
    ram_bytes: int
    instructions: int
    instructions_predicted: int


class Row(Measurement, Drawn):
    """A measured configuration; its fields are a table's columns, those of `Drawn` first."""


class BenchTable(_Record):
    """One network of the benchmark.

    Attributes
    ----------
    schema_version : int
    network : str
    provenance : Provenance
    layers : tuple of LayerFacts
        In execution order.
    interface : tuple of int
        Activation groups that hold the network's input or output and stay at 8 bits.
    statistics : list of rows, or None
        The statistics table that proxy programs score.
    scores : dict of str to tuple of float
        Built-in proxy -> score per layer, with a mean of 1.
    configurations : tuple of Row
    """

    schema_version: int = Field(default=SCHEMA, ge=SCHEMA, le=SCHEMA)
    network: str
    provenance: Provenance
    layers: tuple[LayerFacts, ...]
    interface: tuple[int, ...]
    statistics: tuple[StatisticsRow, ...] | None = None
    scores: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    configurations: tuple[Row, ...]


def table_names() -> tuple[str, ...]:
    """Return the networks of the benchmark, sorted."""
    return tuple(sorted(path.stem for path in DATA.glob("*.json")))


def load_table(name: str | Path) -> BenchTable:
    """Read a table.

    Parameters
    ----------
    name : str or Path
        A network of the benchmark, or the path of a .json file.

    Raises
    ------
    UsageError
        No network of that name.
    DataError
        The file is missing or damaged.
    """
    path = Path(name)
    if path.suffix != ".json":
        if str(name) not in table_names():
            raise UsageError(f"no network {str(name)!r} in the benchmark; there are: {', '.join(table_names())}")
        path = DATA / f"{name}.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        columns = values.pop("columns")
        rows = [dict(zip(columns, row, strict=True)) for row in values["configurations"]]
        return BenchTable.model_validate(values | {"configurations": rows})
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: no benchmark table: {where}: {first['msg']}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no benchmark table: {type(error).__name__}: {error}") from None


def save_table(table: BenchTable, path: Path) -> None:
    """Write a table, beside its place and renamed: a configuration per line, so that changes can be read.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    values = table.model_dump(mode="json", exclude={"configurations"})
    columns = list(Row.model_fields)
    rows = [[getattr(row, name) for name in columns] for row in table.configurations]
    parts = [f"{json.dumps(key)}: {_block(value)}" for key, value in values.items()]
    parts += [f'"columns": {json.dumps(columns)}', f'"configurations": {_lines(rows)}']
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    write_whole(path, text)


def _block(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _lines(value)
    if isinstance(value, Mapping) and value:
        return "{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"
    return json.dumps(value)


def _lines(rows: Sequence[Any]) -> str:
    return "[\n" + ",\n".join(f" {json.dumps(row, separators=(',', ':'))}" for row in rows) + "\n]"
