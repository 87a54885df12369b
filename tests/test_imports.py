"""Imports point one way: a package may only import from packages of its own or a lower rank."""

import ast
from pathlib import Path

import pytest

import tapc

ROOT = Path(tapc.__file__).parent
RANKS = (
    ("confine", "errors"),
    (
        "arithmetic",
        "board",
        "cache",
        "cli_types",
        "data",
        "metrics",
        "ending",
        "files",
        "network",
        "network_analysis",
        "normalization",
        "options",
        "output",
        "picture",
        "progress",
        "target",
        "terminal",
        "tool",
        "worker",
    ),
    ("kernels", "zoo"),
    ("precheck",),
    ("allocate", "frontend", "proxy"),
    ("lower", "quantize"),
    ("cost", "cycles", "device", "finetune", "firmware"),
    ("balancing", "decide", "fidelity", "inputs", "measure"),
    ("doctor", "search", "tune"),
    ("bench", "build"),
    ("report",),
    ("accuracy", "attempt", "describe"),
    ("pipeline", "rerun"),
    ("evaluation", "pareto", "profile"),
    ("cli_options",),
    ("cli_accuracy", "cli_bench", "cli_compile", "cli_search"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "tapc":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tapc."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tapc.")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_import_points_upwards(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    upwards = {name for name in imports(path) if RANK[name] > RANK[own]}
    assert not upwards, f"{own} must not import {sorted(upwards)}"
