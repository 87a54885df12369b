"""A board's file from the answers to a few questions."""

from collections.abc import Mapping
from typing import Any

import tomli_w

from tapc.hardware.board import Board

FLASH_BANDWIDTH, RAM_BANDWIDTH = 2.0, 4.0
"""Bytes per cycle where nothing better is known: flash with wait states, RAM on the core's bus."""


def draft(
    *,
    name: str,
    description: str,
    core: str,
    mhz: float,
    flash: tuple[int, int],
    ram: tuple[int, int],
    openocd: tuple[str, ...] = (),
    support: Mapping[str, Any] | None = None,
) -> str:
    """Return the file of a board with one flash and one RAM.

    Parameters
    ----------
    name, description, core : str
    mhz : float
        The core's clock as the firmware sets it.
    flash, ram : tuple of int
        Address and bytes.
    openocd : tuple of str
        Its scripts and commands.
    support : mapping, optional
        See `tapc.hardware.probe.Support`.

    Raises
    ------
    pydantic.ValidationError
        An answer breaks the schema.
    """

    def region(kind: str, place: tuple[int, int], bandwidth: float, *holds: str) -> dict[str, Any]:
        origin, size = place
        speed = {"bytes_per_cycle": bandwidth}
        return {"name": kind, "kind": kind, "origin": origin, "size": size, "bandwidth": speed, "holds": list(holds)}

    content: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "description": description,
        "core": core,
        "simulators": ["qemu"],
        "clocks": {"cpu_hz": round(mhz * 1e6)},
    }
    if openocd:
        content["probe"] = {"kind": "external", "openocd": list(openocd)}
    if support:
        content["support"] = dict(support)
    content["memory"] = [
        region("flash", flash, FLASH_BANDWIDTH, "code", "weights"),
        region("ram", ram, RAM_BANDWIDTH, "arena", "data", "stack"),
    ]
    Board.model_validate(content)
    return tomli_w.dumps(content)
