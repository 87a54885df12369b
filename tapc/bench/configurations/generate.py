"""Measures the configurations of a network in parallel processes; a killed run goes on where it stopped."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tapc.base.cache import digest
from tapc.base.errors import OutputError, UsageError
from tapc.base.progress import Advance
from tapc.bench.configurations.draw import Configuration, draw_configurations
from tapc.bench.configurations.layers import layer_facts
from tapc.bench.configurations.measure import (
    Setup,
    Source,
    file_digest,
    measure,
    model_digest,
    prepare,
)
from tapc.bench.configurations.table import BenchTable, Provenance, Row
from tapc.firmware.toolchain import compiler_version
from tapc.flow.losses.measure import right
from tapc.flow.losses.partial import append_line, in_processes
from tapc.quantize import evaluate


def generate(
    source: Source,
    *,
    count: int,
    partial: Path,
    command: str,
    jobs: int = 1,
    advance: Advance = lambda done, total: None,
) -> BenchTable:
    """Measure a network's configurations.

    Parameters
    ----------
    source : Source
    count : int
        Configurations, see `draw_configurations`.
    partial : Path
        JSON lines: what is measured so far. Lines are only ever appended, each as soon as it is known.
    command : str
        For the provenance.
    jobs : int
        Processes.
    advance : callable
        Told (done, total) configurations.

    Raises
    ------
    UsageError
        `partial` belongs to another network, seed or compiler.
    OutputError
        `partial` cannot be written.
    TapcError
        A measurement failed.
    """
    setup = prepare(source)
    provenance = _provenance(setup, command)
    wanted = {c.key: c for c in draw_configurations(setup.network, count, source.seed)}
    known = _open(partial, digest(provenance.model_dump(exclude={"command", "description"}), version_of_rows()))
    missing = [c for key, c in wanted.items() if key not in known]
    advance(len(wanted) - len(missing), len(wanted))
    for row in in_processes(jobs, _measure, ((c,) for c in missing), _start, (source,)):
        append_line(partial, row)
        known[f"{row['weights']}/{row['activations']}"] = row
        advance(sum(key in known for key in wanted), len(wanted))
    rows = tuple(Row.model_validate({**known[key], "kind": c.kind}) for key, c in wanted.items())
    return layer_facts(setup, BenchTable(
        network=source.name, provenance=provenance, layers=(), interface=(), configurations=rows,
    ))  # fmt: skip


def version_of_rows() -> list[str]:
    """Return the names of the figures: partial results of other figures are of no use."""
    return list(Row.model_fields)


def row_of(setup: Setup, configuration: Configuration) -> dict[str, Any]:
    """Measure a configuration; returns the values of a `Row`."""
    figures = measure(setup, configuration).model_dump()
    figures |= {name: round(figures[name], 6) for name in ("cross_entropy", "average_bits")}
    weights, activations = configuration.key.split("/")
    return {"kind": configuration.kind, "weights": weights, "activations": activations} | figures


def _provenance(setup: Setup, command: str) -> Provenance:
    source = setup.source
    return Provenance(
        description=(
            "Mixed-precision configurations, measured: nearest rounding, bias correction; `correct` and "
            "`cross_entropy` by the integer reference executor that the firmware equals bit for bit; instructions "
            "and stack in QEMU."
        ),
        command=command,
        model=Path(source.model).name,
        model_sha256=model_digest(source.model),
        float_correct=right(evaluate(setup.model.onnx, setup.x, optimized=True), setup.y),
        data=source.data.name,
        data_sha256=file_digest(source.data),
        calibration_samples=len(setup.calibration_x),
        test_samples=len(setup.x),
        seed=source.seed,
        board=setup.board.name,
        core=setup.target.name,
        compiler=compiler_version(setup.target.compiler),
        tapc=version("tapc"),
    )


_setup: Setup | None = None


def _start(source: Source) -> None:
    global _setup
    _setup = prepare(source)


def _measure(configuration: Configuration) -> dict[str, Any]:
    assert _setup is not None
    return row_of(_setup, configuration)


def _open(partial: Path, identity: str) -> dict[str, Mapping[str, Any]]:
    """Return the rows of a partial run by key, and make the file ready to be appended to."""
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        text = partial.read_text(encoding="utf-8") if partial.exists() else ""
        # A line that a kill cut short has no end.
        whole = text[: text.rfind("\n") + 1]
        records = [json.loads(line) for line in whole.splitlines()]
        if records and records[0] != {"run": identity}:
            raise UsageError(f"{partial} is of another network, seed, tapc or compiler; delete it or name another file")
        if not records:
            whole = json.dumps({"run": identity}) + "\n"
        if whole != text:
            partial.write_text(whole, encoding="utf-8")
    except ValueError:
        raise UsageError(f"{partial} holds no partial results; delete it or name another file") from None
    except OSError as error:
        raise OutputError(f"cannot write {partial}: {error.strerror or error}") from error
    return {f"{row['weights']}/{row['activations']}": row for row in records[1:]}
