"""How a board is flashed: its probe, and what each tool must be told about it."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Uf2(_Schema):
    """A boot loader that shows itself as a drive and takes UF2 files.

    Attributes
    ----------
    family : int
        Number of the chip in UF2 blocks (github.com/microsoft/uf2, utils/uf2families.json).
    volume : str
        The drive's label.
    """

    family: int = Field(ge=0, lt=1 << 32, strict=True)
    volume: _Word


class Probe(_Schema):
    """Debug probe, and the tools that flash through it, in the order in which they are tried.

    Attributes
    ----------
    kind : str
        Of the probe on the board, or beside it.
    openocd : tuple of str
        What OpenOCD is told: files of its scripts folder (NAME.cfg) and commands, in order. One text in TOML will do.
    external : tuple of str
        External flash regions that OpenOCD's script can write.
    pyocd : str or None
        pyOCD's name of the chip, where it has it built in.
    st_flash : bool
        The probe is an ST-Link and st-flash knows the chip.
    uf2 : Uf2 or None
    drive : str or None
        Label of the probe's own drive, which programs HEX files that are copied to it.
    """

    kind: str
    openocd: Annotated[tuple[_Word, ...], BeforeValidator(_several), Field(min_length=1)]
    external: tuple[str, ...] = ()
    pyocd: _Word | None = None
    st_flash: bool = False
    uf2: Uf2 | None = None
    drive: _Word | None = None

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that flash the board."""
        given = {"openocd": True, "pyocd": self.pyocd, "st-flash": self.st_flash, "uf2": self.uf2, "drive": self.drive}
        return tuple(name for name, value in given.items() if value)
