"""How a board is flashed and spoken to: its probe, and the C file that starts its clock and its UART."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


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


Macro = Annotated[str, Field(pattern=r"^TAPC_[A-Z0-9_]+$")]


class Support(_Schema):
    """C that starts a board: its clock, its external memories and a UART (115200 baud, 8N1).

    Attributes
    ----------
    source : str
        A file of boards/support/, or of a folder `support` beside the board's own file or in TAPC_PATH.
    uart : str
        Which UART, its pins, and where a cable goes.
    defines : dict of str to int or True
        Macros of the C file.
    regions : dict of str to str
        External memory -> the macro that has it brought up, where an image uses it.
    """

    source: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\.c$")
    uart: _Word
    defines: dict[Macro, int | Literal[True]] = Field(default_factory=dict)
    regions: dict[str, Macro] = Field(default_factory=dict)


class Renode(_Schema):
    """How Renode plays the board.

    Attributes
    ----------
    platform : str
        File below Renode's platforms/.
    uart : str
        The peripheral's name there.
    changes : str
        What is said about the platform besides, in its language.
    """

    platform: str = Field(pattern=r"^[A-Za-z0-9_/.-]+\.repl$")
    uart: str = Field(pattern=r"^[a-z][a-zA-Z0-9]*$")
    changes: str = Field(default="", pattern=r'^[^"$]*$')


class Probe(_Schema):
    """Debug probe, and the tools that flash through it, in the order in which they are tried.

    Attributes
    ----------
    kind : str
        Of the probe on the board, or beside it.
    openocd : tuple of str
        What OpenOCD is told: files of its scripts folder (NAME.cfg) and commands, in order. One text in TOML will do.
        Empty where its scripts do not know the chip.
    external : tuple of str
        External flash regions that OpenOCD's script can write.
    pyocd : str or None
        pyOCD's name of the chip, where it has it built in.
    st_flash : bool
        The probe is an ST-Link and st-flash knows the chip.
    uf2 : Uf2 or None
    esptool : str or None
        esptool's name of the chip, whose boot ROM takes images over the UART.
    drive : str or None
        Label of the probe's own drive, which programs HEX files that are copied to it.
    """

    kind: str
    openocd: Annotated[tuple[_Word, ...], BeforeValidator(_several)] = ()
    external: tuple[str, ...] = ()
    pyocd: _Word | None = None
    st_flash: bool = False
    uf2: Uf2 | None = None
    esptool: _Word | None = None
    drive: _Word | None = None

    @model_validator(mode="after")
    def _flashed(self) -> Self:
        if not self.tools:
            raise ValueError("names no tool that flashes the board: openocd, pyocd, st_flash, esptool, uf2 or drive")
        return self

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that flash the board."""
        given = {
            "openocd": self.openocd,
            "pyocd": self.pyocd,
            "st-flash": self.st_flash,
            "esptool": self.esptool,
            "uf2": self.uf2,
            "drive": self.drive,
        }
        return tuple(name for name, value in given.items() if value)
