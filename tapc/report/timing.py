"""Time that a board's own counter told."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from tapc.cost.calibrated import Calibration
from tapc.device import Timing


class TimingReport(BaseModel):
    """Time that a board's own counter told.

    Attributes
    ----------
    hz, rated_hz : int
        The core's clock as the firmware set it, and as the board's file has it.
    counter : str
        What counted.
    runs : int
        Inferences.
    least, median, most : float
        Cycles of one.
    milliseconds : float
        Of the median, at `hz`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hz: int
    rated_hz: int
    counter: str
    runs: int
    least: float
    median: float
    most: float
    milliseconds: float


class PredictedTime(BaseModel):
    """Time of one inference by the cost model, corrected by what the board measured of other networks.

    Attributes
    ----------
    hz : int
        The clock at which the board was measured.
    cycles : int
    milliseconds : float
    silicon : bool
        False where what was measured looks like an emulator's counter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hz: int = Field(gt=0)
    cycles: int
    milliseconds: float
    silicon: bool


def predicted_time(cycles: Iterable[int | None], calibrated: Calibration | None) -> PredictedTime | None:
    """Add up the predicted cycles of layers; None where the board was not calibrated."""
    if calibrated is None:
        return None
    total = sum(own or 0 for own in cycles)
    milliseconds = 1e3 * total / calibrated.hz
    return PredictedTime(hz=calibrated.hz, cycles=total, milliseconds=milliseconds, silicon=not calibrated.doubts)


def timing_report(timing: Timing | None) -> TimingReport | None:
    """Return what a board's own counter told; None where nothing was measured on one."""
    if timing is None:
        return None
    return TimingReport(
        hz=timing.hz,
        rated_hz=timing.rated_hz,
        counter=timing.counter,
        runs=len(timing.cycles),
        least=min(timing.cycles),
        median=timing.median,
        most=max(timing.cycles),
        milliseconds=timing.milliseconds,
    )


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class LayerCycles(_Lenient):
    """A layer's measured cycles."""

    name: str
    cycles: int = Field(ge=0)


class Clock(_Lenient):
    """What counted, and at which clock in Hz."""

    hz: int = Field(gt=0)
    rated_hz: int
    counter: str


class BoardTimes(_Lenient):
    """What is shown of measured.json, as `tapc measure` keeps it.

    Attributes
    ----------
    port : str
    samples, runs : int
        Samples whose outputs were compared, and inferences that were timed.
    timing : Clock
    least, median, most : float
        Cycles of one inference.
    milliseconds : float
        Of the median.
    layers : tuple of LayerCycles
    provenance : str
    firmware : str
        SHA-256 of the firmware.bin that was measured.
    """

    port: str
    samples: int
    runs: int
    timing: Clock
    least: float
    median: float
    most: float
    milliseconds: float
    layers: tuple[LayerCycles, ...]
    provenance: str
    firmware: str = ""
