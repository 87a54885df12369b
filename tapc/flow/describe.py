"""Writes into a build's C library what is known when all is built and measured."""

import hashlib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from tapc.base.options import Options
from tapc.data import PixelUnits, Samples
from tapc.frontend import FloatModel
from tapc.hardware.target import Target
from tapc.lower import Lowered
from tapc.lower.facts import Facts
from tapc.report import Report


def describe_library(folder: Path, lowered: Lowered, facts: Facts) -> None:
    """Write header, conversions and README of the library in `folder` again; the code that was proved stays."""
    for name, text in lowered.shown_files(facts).items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def facts_of(
    model: FloatModel, calibration: Samples, target: Target, report: Report, network: Path, command: str
) -> Facts:
    """Collect what a library tells about itself.

    Parameters
    ----------
    model : FloatModel
    calibration : Samples
        They tell what raw values are.
    target : Target
    report : Report
    network : Path
        The file model.onnx.
    command : str
        What made the library.
    """
    units = units_of(model, calibration)
    return Facts(
        core=report.core,
        board=report.board,
        flags=target.cflags,
        units=units,
        bytes_in=units is not None and (calibration.raw is None or _bytes(calibration.raw)),
        labels=tuple(calibration.labels or model.labels or ()),
        bits=tuple(f"{x.name} {x.w_bits}/{x.a_bits}" for x in report.layers if x.w_bits is not None),
        stack=report.memory.stack.measured,
        accuracy=_proved(report),
        kept=report.kept,
        arithmetic=report.arithmetic,
        command=command,
        sha256=hashlib.sha256(network.read_bytes()).hexdigest(),
    )


def units_of(model: FloatModel, calibration: Samples) -> PixelUnits | None:
    """Return what raw values become; None where the samples were floats that the network takes as they are."""
    if calibration.raw is None:  # random: what the network says of itself
        return None if model.units.identity else model.units
    return None if calibration.units.identity and not _bytes(calibration.raw) else calibration.units


def _bytes(raw: tuple[float, float]) -> bool:
    """Whether values of this range are those of 8-bit integers; floats from 0 to 1 are not."""
    return raw[0] >= 0 and 1 < raw[1] <= 255 and all(value == int(value) for value in raw)


def _proved(report: Report) -> tuple[str, ...]:
    if report.exact is None:
        return ("not run: nothing was proved or measured",)
    a, samples = report.accuracy, report.accuracy.samples
    lines = [
        f"bit-exact on {report.device}: every layer of {report.exact_samples} samples and the outputs of {samples} "
        "equal the integer reference"
    ]
    for name, value in a.scores.get("device", {}).items():
        percent = " %" if name in ("top1", "accuracy") else ""
        before = a.scores.get("float", {}).get(name)
        of_float = "" if before is None else f"float {before:.4g}{percent}, "
        lines.append(f"{name} over {samples} samples: {of_float}this library {value:.4g}{percent}")
    if a.reason:
        lines.append(f"accuracy is not known: {a.reason}")
    if a.sqnr_db is not None:
        lines.append(f"outputs against the float network's: {a.sqnr_db:.1f} dB signal to noise")
    for output in a.outputs:
        if output.sqnr_db is not None:
            lines.append(f"output {output.name}: {output.sqnr_db:.1f} dB signal to noise")
    if report.instructions is not None:
        lines.append(f"{report.instructions:,} instructions")
    if (t := report.timing) is not None:
        lines.append(f"{t.milliseconds:,.3f} ms at {t.hz / 1e6:g} MHz, measured on the board")
    return tuple(lines)


def call(model: Any, board: str, options: Options, **given: Any) -> str:
    """Return the call of `tapc.compile` that this is, without the output folder."""
    changed = [
        f"{field.name}={getattr(options, field.name)!r}"
        for field in fields(options)
        if field.default is MISSING or getattr(options, field.name) != field.default
    ]
    arguments = [_word(model), f"board={board!r}"]
    arguments += [f"{name}={_word(value)}" for name, value in given.items() if value is not None]
    if changed:
        arguments.append(f"options=Options({', '.join(changed)})")
    return f"tapc.compile({', '.join(arguments)})"


def _word(value: Any) -> str:
    return repr(str(value)) if isinstance(value, str | Path) else type(value).__name__
