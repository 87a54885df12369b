"""Devices by name: each is a module of this folder that registers its class, and is imported when it is asked for.

A name is a word, or a word and what the device is told: `serial:/dev/ttyACM0`, `qemu:microbit`.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TypeVar

from tapc.base.errors import ToolError, UsageError
from tapc.device.interface import Device, Flasher
from tapc.hardware.board import Board
from tapc.hardware.target import Target

DeviceT = TypeVar("DeviceT", bound=type[Device])

_AUTOMATIC = ("qemu", "unicorn")
"""Devices that are taken where none is named, the best first; what needs hardware has to be named.

After the first, those that the board's file names as its simulators. What this machine lacks stands back.
"""

MODULES = {
    "qemu": "qemu",
    "qemu:MACHINE": "qemu_board",
    "unicorn": "unicorn",
    "rp2040js": "rp2040js",
    "serial:PORT": "serial",
}
"""Kinds of devices, and the modules of this folder that hold them; others lie in the module of their name."""

_known: dict[str, type[Device]] = {}


def register(name: str) -> Callable[[DeviceT], DeviceT]:
    """Return a decorator for a device's class; `name` as in `MODULES`."""

    def add(device: DeviceT) -> DeviceT:
        _known[name] = device
        return device

    return add


def device_for(
    target: Target,
    name: str | None = None,
    *,
    timeout: float = 900.0,
    foreign: bool = False,
    board: Board | None = None,
    flasher: Flasher | None = None,
) -> Device:
    """Return a device that runs a core's images.

    Parameters
    ----------
    target : Target
    name : str, optional
        The device's name; by default the first of the simulators that can, and that this machine has.
    timeout, foreign, board, flasher
        See `Device`.

    Raises
    ------
    ToolError
        No device can; says why.
    UsageError
        There is no device of that name.
    """
    for each in _names(name, board):
        if (device := _class(each)).obstacle(target) is None:
            return device(target, timeout, foreign, (name or each).partition(":")[2], board, flasher)
    raise ToolError(obstacle(target, name, board))


def obstacle(target: Target, name: str | None = None, board: Board | None = None) -> str | None:
    """Return why no device runs a core's images, as a clause; None if one does."""
    found = [_class(each).obstacle(target) for each in _names(name, board)]
    return None if None in found else " and ".join(filter(None, found))


def missing(name: str) -> str | None:
    """Return what this machine lacks for a device, and what installs that; None where nothing is missing."""
    return _class(name).missing()


def _names(name: str | None, board: Board | None) -> tuple[str, ...]:
    if name is not None:
        return (name,)
    own = () if board is None else board.simulators
    names = tuple(each for each in _AUTOMATIC if each == _AUTOMATIC[0] or each in own)
    return tuple(each for each in names if _class(each).missing() is None) or names


def _class(name: str) -> type[Device]:
    word, colon, argument = name.partition(":")
    kind = next((kind for kind in MODULES if kind.partition(":")[:2] == (word, colon)), word)
    module = f"{__package__}.{MODULES.get(kind, word)}"
    if kind not in _known and word.isidentifier() and find_spec(module) is not None:
        import_module(module)
    if kind not in _known or bool(colon) != bool(argument):
        raise UsageError(f"unknown device {name!r}; known: {', '.join(MODULES)}")
    return _known[kind]
