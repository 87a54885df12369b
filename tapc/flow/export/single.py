"""A library as one C file and its header."""

import re
from collections.abc import Iterable

from tapc.flow.export.contents import Contents
from tapc.flow.export.templates import render
from tapc.lower.names import Names

_OWN_INCLUDE = r'^#include "{}(?:_\w+)?\.h"\n'
_GUARD = re.compile(
    r"\A(?P<head>(?:/\*.*?\*/\s*)?)#ifndef (\w+)\n#define \2\n(?P<body>.*)^#endif\n\Z", re.DOTALL | re.MULTILINE
)


def single_file(contents: Contents) -> str:
    """Return the C file: constants, intrinsics, kernels, the network, conversions and steps, in the order of their use.

    Nothing of it is global but what the header declares. Kernels stay functions of their own, as they were measured.
    """
    names = contents.names
    constants = _static_constants(contents.sources[names.file("weights.c")])
    kernels = _static_kernels(
        contents.sources[names.file("kernels.c")], contents.headers[names.file("kernels.h")], names
    )
    parts = (
        _unguarded(contents.headers[names.file("intrinsics.h")]),
        constants,
        kernels,
        *(contents.sources[names.file(end)] for end in (".c", "convert.c", "stepwise.c")),
    )
    return render("pragmas.h", c=contents, include=True) + "\n" + "\n".join(_without_own(parts, names))


def _without_own(parts: Iterable[str], names: Names) -> Iterable[str]:
    """Leave out what includes the library's own headers."""
    own = re.compile(_OWN_INCLUDE.format(re.escape(names.prefix)), re.MULTILINE)
    return (re.sub(r"\n{3,}", "\n\n", own.sub("", part)).strip("\n") + "\n" for part in parts)


def _unguarded(header: str) -> str:
    found = _GUARD.fullmatch(header)
    assert found is not None
    return found["head"] + found["body"]


def _static_constants(source: str) -> str:
    """Give the arrays internal linkage; what says their section stays in front of the type."""
    return re.sub(r"^((?:[A-Z]\w* )?)const (?=\w+ \w+\[\d+\] = \{)", r"\1static const ", source, flags=re.MULTILINE)


def _static_kernels(source: str, header: str, names: Names) -> str:
    """Give the functions internal linkage; one that is inlined would be other code, and its stack the caller's."""
    for function in re.findall(r"^(?:void|int32_t) (\w+)\(.*\);$", header, re.MULTILINE):
        definition = rf"^(?=(?:void|int32_t) {function}\()"
        source = re.sub(definition, f"{names.macro('KERNEL')} ", source, count=1, flags=re.MULTILINE)
    return source
