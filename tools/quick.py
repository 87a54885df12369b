"""Run the tests of what changed, for a minute at most: `make quick`.

What changed: files that differ from where the branch left main (on main itself: from the last commit before), and new
files. Their tests, in this order:

1. test files that changed;
2. test files that import a module that changed, by its own name or by names of its package that it defines;
3. the other test files in the folder that mirrors the module's package;

tests/e2e last of all unless it changed itself.

Helpers of tests count as modules. A change of anything else that Python reads (templates, C, TOML) counts as one of
the package that holds it. What the time does not suffice for is skipped, and said so: it is for `make test`.
"""

import argparse
import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UNTIL = "TAPC_QUICK_UNTIL"
_GRACE = 8
"""Seconds for what runs when nothing more is begun."""


def _stop(*_: object) -> None:
    pytest.skip("stopped, the time is over; make test runs it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Stop a test when the minute is over; workers read the time from the environment."""
    left = float(os.environ.get(UNTIL, "inf")) + _GRACE - time.time()
    if 0 < left < 3600:
        signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, left)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what would begin too late."""
    if time.time() > float(os.environ.get(UNTIL, "inf")):
        pytest.skip("not begun, the time is over; make test runs it")


def changed(base: str | None) -> list[Path]:
    """Return the files that differ from a commit, and new ones, relative to the root."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    if base is None:
        known = subprocess.run(["git", "rev-parse", "-q", "--verify", "main"], cwd=ROOT, capture_output=True).returncode
        base = git("merge-base", "HEAD", "main") if known == 0 else "HEAD"
        if base == git("rev-parse", "HEAD") and not git("status", "--porcelain"):
            base = "HEAD~1"
    names = git("diff", "--name-only", base).splitlines() + git("ls-files", "-o", "--exclude-standard").splitlines()
    return [Path(name) for name in dict.fromkeys(names)]


def module_of(path: Path) -> str:
    """Return the module that a file of the root is: `tapc.lower.plan`, or a test helper's name below tests/."""
    if path.parts[0] == "tests":
        return ".".join(path.with_suffix("").parts[1:])
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, also inside functions; `from a import b` gives `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reexports(package: Path) -> dict[str, str]:
    """Return which module defines each name that a package's `__init__.py` offers."""
    result: dict[str, str] = {}
    for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            result |= {f"{module_of(package.relative_to(ROOT))}.{alias.name}": node.module for alias in node.names}
    return result


def selected(paths: list[Path]) -> list[Path]:
    """Return the test files for changed files, the nearest first."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    read = {test: imports(test) for test in tests}
    offered: dict[str, str] = {}
    for init in (ROOT / "tapc").rglob("__init__.py"):
        offered |= reexports(init.parent)
    found = [test for test in dict.fromkeys(_order(paths, tests, read, offered)) if test.exists()]
    whole = [test for test in found if test.parent.name == "e2e" and test.relative_to(ROOT) not in paths]
    return [test for test in found if test not in whole] + whole


def _order(paths: list[Path], tests: list[Path], read: dict[Path, set[str]], offered: dict[str, str]) -> Iterator[Path]:
    yield from (ROOT / path for path in paths if path.parts[0] == "tests" and path.name.startswith("test_"))
    code = [path for path in paths if path.parts[0] in ("tapc", "tests") and not path.name.startswith("test_")]
    modules = {module_of(path if path.suffix == ".py" else path.parent / "__init__.py") for path in code}
    for test in tests:
        names = read[test] | {offered[name] for name in read[test] if name in offered}
        if names & modules:
            yield test
    for path in code:
        folder = ROOT / "tests" / Path(*path.parent.parts[1:])
        near = folder.glob("test_*.py") if path.parent.parts[1:] else folder.glob(f"test_{path.stem}*.py")
        yield from sorted(near)


def main() -> int:
    """Choose and run; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", help="commit to compare with; by default where the branch left main")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--seconds", type=float, default=45, help="after which nothing more is begun")
    parser.add_argument("--list", action="store_true", help="print the test files and leave")
    given = parser.parse_args()
    files = [str(path.relative_to(ROOT)) for path in selected(changed(given.base))]
    if given.list or not files:
        print("\n".join(files) or "nothing changed that has tests")
        return 0
    print(f"{len(files)} test files: {' '.join(files)}")
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        UNTIL: str(time.time() + given.seconds),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "quick", "-n", given.jobs, "-rs", *files]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
