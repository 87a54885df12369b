"""From measured builds to the factors by which a board's cycles are predicted."""

from collections.abc import Sequence
from pathlib import Path

from tapc.base.errors import DataError, UsageError
from tapc.cost.calibrated import Calibration, keep_calibration, model_digest
from tapc.cost.calibration import Observation, fit, kind_of
from tapc.cost.model import CostModel, load_coefficients
from tapc.flow.measuring import MEASURED
from tapc.flow.pages import report_of, times_of
from tapc.flow.rerun import part
from tapc.hardware.target import load_target
from tapc.report import Report
from tapc.report.timing import BoardTimes

_LONG = 1000  # instructions, below which a layer tells nothing of its counter
_LEAST_CYCLES, _SAME, _SPREAD = 0.4, 0.01, 0.5


def calibrate_board(folders: Sequence[Path]) -> tuple[Calibration, Path]:
    """Fit a board's factors to builds that were measured on it, and keep them.

    Parameters
    ----------
    folders : sequence of Path
        Builds with a measured.json, all for one board and measured at one clock.

    Returns
    -------
    Calibration
    Path
        The file that keeps it.

    Raises
    ------
    DataError
        A build was not measured, or not as it is now; or nothing can be learned.
    UsageError
        The builds are for several boards, or none are given.
    """
    if not folders:
        raise UsageError("name the builds that were measured: tapc boards calibrate BUILD [BUILD ...]")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a build is named twice")
    measured = [(folder, report_of(folder), _times(folder)) for folder in folders]
    boards = sorted({report.board for _, report, _ in measured})
    if len(boards) > 1:
        raise UsageError(f"a calibration is of one board, and these builds are for {', '.join(boards)}")
    first = measured[0][2].timing
    clocks = sorted({times.timing.hz for _, _, times in measured})
    if len(clocks) > 1:
        shown = " and ".join(f"{hz / 1e6:g} MHz" for hz in clocks)
        raise DataError(f"these builds were measured at {shown}: a calibration is of one clock")
    coefficients = load_coefficients(load_target(measured[0][1].core).cost)
    observations: list[Observation] = []
    doubts: list[str] = []
    for folder, report, times in measured:
        _check_model(folder, report, CostModel(coefficients).provenance)
        observations += observed(str(folder), report, times)
        doubts += [doubt for doubt in emulated(report, times) if doubt not in doubts]
    made = Calibration(
        board=boards[0],
        model=model_digest(coefficients),
        hz=first.hz,
        counter=first.counter,
        builds=tuple(report.model for _, report, _ in measured),
        layers=len(observations),
        fit=fit(observations),
        doubts=tuple(doubts),
    )
    return made, keep_calibration(made)


def observed(build: str, report: Report, times: BoardTimes) -> list[Observation]:
    """Put what was predicted and what was measured of each layer side by side."""
    cycles = {layer.name: layer.cycles for layer in times.layers}
    return [
        Observation(
            build, layer.name, kind_of(layer.op), layer.predicted_instructions, layer.stall_cycles or 0.0,
            cycles[layer.name],
        )
        for layer in report.layers
        if layer.name in cycles
    ]  # fmt: skip


def emulated(report: Report, times: BoardTimes) -> list[str]:
    """Return what tells that no silicon counted these cycles: an emulator's mean nothing."""
    cycles = {layer.name: layer.cycles for layer in times.layers}
    long = [
        (layer.predicted_instructions if layer.instructions is None else layer.instructions, cycles[layer.name])
        for layer in report.layers
        if layer.name in cycles and layer.predicted_instructions > _LONG
    ]
    found = []
    if still := sum(own == 0 for _, own in long):
        found.append(f"emulated: the counter stood still in {still} of {len(long)} layers")
    rate = sum(own for _, own in long) / max(sum(count for count, _ in long), 1)
    if long and rate < _LEAST_CYCLES:
        found.append(f"emulated: {rate:.2f} cycles per instruction are fewer than any of tapc's cores takes")
    exact = any(layer.instructions is not None for layer in report.layers)
    if long and exact and all(abs(own / max(count, 1) - 1) < _SAME for count, own in long):
        found.append("emulated: every layer's cycles equal its instructions")
    if times.median and (times.most - times.least) / times.median > _SPREAD:
        found.append(f"emulated: {times.least:,.0f} to {times.most:,.0f} cycles for the same network")
    return found


def _times(folder: Path) -> BoardTimes:
    times, note = times_of(folder, part(folder, "firmware.bin"))
    if times is None:
        raise DataError(f"{folder}: {note or f'there is no {MEASURED}: tapc measure {folder} --port PORT'}")
    return times


def _check_model(folder: Path, report: Report, provenance: str) -> None:
    if not report.provenance.get("predicted", "").startswith(provenance):
        raise DataError(
            f"{folder} was predicted by another cost model of {report.core}: compile it again, then measure it again"
        )
    if "firmware" in report.provenance:
        raise DataError(
            f"{folder} cannot calibrate: predictions are of gcc's code, and it was {report.provenance['firmware']}"
        )
