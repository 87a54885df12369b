"""A proxy by its name, or by its file."""

from pathlib import Path

from tapc.base.errors import UsageError
from tapc.proxy.base import Proxy, proxy_names, registered
from tapc.proxy.found import FOUND
from tapc.proxy.program import ProgramProxy, load_program


def all_names() -> tuple[str, ...]:
    """Return the names of all proxies that come with tapc: made by hand, and found by a search."""
    return tuple(sorted([*proxy_names(), *FOUND]))


def get_proxy(name: str) -> Proxy:
    """Return a proxy that comes with tapc, or one from a file.

    Parameters
    ----------
    name : str
        One of `all_names`, or the path of a ``.toml`` or ``.py`` file; see `tapc.proxy.program`.

    Raises
    ------
    UsageError
        No proxy of that name.
    DataError
        The file is missing or not a proxy.
    """
    known = registered()
    if name in known:
        return known[name]
    if name in FOUND:
        return FOUND[name]
    if Path(name).suffix in (".toml", ".py"):
        return ProgramProxy(load_program(Path(name)))
    raise UsageError(f"unknown proxy {name!r}; known: {', '.join(all_names())}, or give a .toml or .py file")
