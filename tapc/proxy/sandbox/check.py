"""A quick look at the source: says what is not allowed before anything runs. Feedback for authors, not a boundary."""

import ast

from tapc.proxy.sandbox.outcome import SandboxError

MODULES = ("math", "statistics")
MOST_CHARACTERS = 64_000
MOST_NODES = 20_000
MOST_DEPTH = 120

_FORBIDDEN_NODES = (
    ast.AsyncFor,
    ast.AsyncFunctionDef,
    ast.AsyncWith,
    ast.Await,
    ast.ClassDef,
    ast.Global,
    ast.With,
)
_FORBIDDEN_NAMES = frozenset(
    [
        "breakpoint",
        "compile",
        "delattr",
        "dir",
        "eval",
        "exec",
        "getattr",
        "globals",
        "help",
        "id",
        "input",
        "locals",
        "memoryview",
        "object",
        "open",
        "setattr",
        "super",
        "type",
        "vars",
    ]
)
_FORBIDDEN_ATTRIBUTES = frozenset(
    ["format", "format_map", "mro", "gi_frame", "gi_code", "f_globals", "f_back", "tb_frame"]
)


def check_source(code: str) -> None:
    """Check untrusted source against the allow-list.

    Raises
    ------
    SandboxError
        Of kind "syntax" or "forbidden"; names the line and what to do instead.
    """
    if len(code) > MOST_CHARACTERS:
        raise SandboxError(
            "forbidden", f"the code has {len(code):,} characters; at most {MOST_CHARACTERS:,} are allowed"
        )
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise SandboxError("syntax", f"line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise SandboxError("syntax", f"the code cannot be parsed: {error}") from None
    count = 0
    level: list[ast.AST] = [tree]
    for _ in range(MOST_DEPTH):
        count += len(level)
        for node in level:
            _check(node)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if count > MOST_NODES:
            break
    if level:
        raise SandboxError("forbidden", "the code is too long or too deeply nested; write it more simply")


def _check(node: ast.AST) -> None:
    line = getattr(node, "lineno", 0)
    if isinstance(node, _FORBIDDEN_NODES):
        raise SandboxError("forbidden", f"line {line}: {type(node).__name__} is not allowed; write plain functions")
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in names:
            if name not in MODULES:
                raise SandboxError("forbidden", f"line {line}: import {name} is not allowed; only {', '.join(MODULES)}")
    if isinstance(node, ast.Attribute) and (node.attr.startswith("_") or node.attr in _FORBIDDEN_ATTRIBUTES):
        raise SandboxError("forbidden", f"line {line}: the attribute {node.attr} is not allowed")
    if isinstance(node, ast.Name) and (node.id.startswith("__") or node.id in _FORBIDDEN_NAMES):
        raise SandboxError("forbidden", f"line {line}: the name {node.id} is not allowed")
