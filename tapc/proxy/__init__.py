"""Proxies: which error does each layer cause when it alone is quantized? Built in, or programs from files."""

from tapc.proxy import builtin
from tapc.proxy.base import FunctionProxy, Proxy, ProxyContext, normalize, proxy_names, register_proxy
from tapc.proxy.find import all_names, get_proxy
from tapc.proxy.found import FOUND, FoundProxy
from tapc.proxy.program import Origin, Program, ProgramProxy, load_program, save_program

__all__ = [
    "FOUND",
    "FoundProxy",
    "FunctionProxy",
    "Origin",
    "Program",
    "ProgramProxy",
    "Proxy",
    "ProxyContext",
    "all_names",
    "builtin",
    "get_proxy",
    "load_program",
    "normalize",
    "proxy_names",
    "register_proxy",
    "save_program",
]
