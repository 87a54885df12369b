"""What boards measured, kept for later predictions: a file for each board in the user's folder."""

from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tapc.base.cache import config_folder, digest
from tapc.base.errors import DataError, OutputError
from tapc.base.files import read_regular, write_whole
from tapc.cost.calibration import Fit
from tapc.cost.model import Coefficients

_MOST = 1 << 20


class Calibration(BaseModel):
    """A board's own factors on the cost model of its core.

    Attributes
    ----------
    board : str
    model : str
        Digest of the coefficients that are corrected: see `model_digest`.
    hz : int
        The core's clock while it was measured.
    counter : str
        What counted.
    builds : tuple of str
        Names of the networks that were measured.
    layers : int
        How many were measured.
    fit : Fit
    doubts : tuple of str
        Why these cycles are not silicon's, where they look as an emulator's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(default=1, alias="schema", validation_alias="schema")
    board: str
    model: str
    hz: int = Field(gt=0)
    counter: str
    builds: tuple[str, ...]
    layers: int
    fit: Fit
    doubts: tuple[str, ...] = ()

    @property
    def provenance(self) -> str:
        """How predicted cycles came about."""
        held_out = self.fit.held_out
        kept = "not known" if held_out is None else f"{held_out} (a {self.fit.kept_back} kept back)"
        doubts = f"; {'; '.join(self.doubts)}" if self.doubts else ""
        return (
            f"calibrated({', '.join(self.builds)}): {self.layers} layers measured by {self.counter} at {self.hz:,} Hz; "
            f"error {kept}, before {self.fit.before}{doubts}"
        )


def model_digest(coefficients: Coefficients) -> str:
    """Return what tells a cost model from another one of the same core."""
    return digest(coefficients.model_dump(mode="json"))[:16]


def calibration_file(board: str) -> Path:
    """Return where a board's calibration is kept."""
    return config_folder() / "calibrations" / f"{board}.json"


def load_calibration(board: str, coefficients: Coefficients) -> tuple[Calibration | None, str]:
    """Return a board's calibration, and why it is not used although there is one.

    Parameters
    ----------
    board : str
    coefficients : Coefficients
        Of its core, as they are today.
    """
    path = calibration_file(board)
    if not path.exists():
        return None, ""
    again = f"calibrate again (tapc boards calibrate), or remove it (--reset --board {board})"
    try:
        found = Calibration.model_validate_json(read_regular(path, _MOST, "calibration"))
    except (DataError, ValueError):
        return None, f"the calibration {path} is damaged and is not used: {again}"
    if found.board != board or found.model != model_digest(coefficients):
        return None, f"the calibration {path} is of another board or cost model and is not used: {again}"
    return found, ""


def keep_calibration(made: Calibration) -> Path:
    """Write a board's calibration, in place of an earlier one, and return its file.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    path = calibration_file(made.board)
    with suppress(OSError):  # told where the file is written
        path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, made.model_dump_json(by_alias=True, indent=1) + "\n")


def remove_calibration(board: str) -> Path | None:
    """Remove a board's calibration and return its file; None where there is none.

    Raises
    ------
    OutputError
        It cannot be removed.
    """
    path = calibration_file(board)
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"the calibration {path} cannot be removed: {error}") from error
    return path
