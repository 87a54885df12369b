"""Proxies: how sensitive is each layer to quantization? One file per proxy; every file here is registered."""

from importlib import import_module
from pkgutil import iter_modules

from tapc.proxy.base import FunctionProxy, Proxy, ProxyContext, get_proxy, normalize, proxy_names, register_proxy

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

__all__ = ["FunctionProxy", "Proxy", "ProxyContext", "get_proxy", "normalize", "proxy_names", "register_proxy"]
