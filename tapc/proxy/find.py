"""A proxy by its name, or by its file."""

from pathlib import Path

from tapc.base.errors import UsageError
from tapc.proxy.base import Proxy, proxy_names, registered
from tapc.proxy.program import ProgramProxy, load_program


def get_proxy(name: str) -> Proxy:
    """Return a registered proxy, or one from a file.

    Parameters
    ----------
    name : str
        A registered name, or the path of a ``.toml`` or ``.py`` file; see `tapc.proxy.program`.

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
    if Path(name).suffix in (".toml", ".py"):
        return ProgramProxy(load_program(Path(name)))
    raise UsageError(f"unknown proxy {name!r}; known: {', '.join(proxy_names())}, or give a .toml or .py file")
