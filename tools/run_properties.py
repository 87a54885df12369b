"""Test many random instances of every operator: `python tools/run_properties.py --count 2000`.

Each instance, `OPERATOR:NUMBER`, is tested in small networks with others: torch and the intervals against onnxruntime;
its integers in every arithmetic against onnxruntime, with bounds and pruning; its C on this machine under sanitizers,
for every instruction set and arithmetic, each step equal to the reference; and firmware in QEMU on every board, in the
core's arithmetic and in TFLite's. With `--share`, which continuous integration runs, the C of every tenth instance is
tested, for one instruction set and arithmetic in turn, and firmware of the first four instances of an operator, each
on one board; everything else of all.
Exit code 1 where anything fails; `--only OPERATOR:NUMBER` repeats an instance with everything.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from operators.examples import OPERATORS, Case, Instance, case
from operators.properties import MODES, Steps, integers, many_steps, torch_and_intervals
from operators.properties_in_c import BOARDS, FORMS, in_firmware, on_host
from tapc.base.cache import cache_folder

NETWORKS = 4
"""Into which the instances of a number are built: planning takes longer than all else where there are many steps."""
_KERNELS = 16
"""Numbers after which the cache of kernels is emptied."""
_FIRMWARE = tuple((board, mode) for mode in (None, "tflite") for board in BOARDS)


@dataclass(frozen=True)
class Levels:
    """What is tested of an instance."""

    forms: tuple[tuple[str, str], ...]
    firmware: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Found:
    """What tests found.

    Attributes
    ----------
    failures : list of str
    steps : Steps
        Differences to onnxruntime.
    passed : Counter
        Level -> instances that were tested at it, those that failed among them.
    """

    failures: list[str] = field(default_factory=list)
    steps: Steps = field(default_factory=Steps)
    passed: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Found") -> None:
        """Add what other tests found."""
        self.failures.extend(other.failures)
        self.steps.add(other.steps)
        self.passed.update(other.passed)


def test(instances: list[Instance], levels: Levels) -> Found:
    """Test instances in `NETWORKS` networks; where something breaks off, each alone, to find out which one it is."""
    try:
        return _test([case(instances[i::NETWORKS]) for i in range(NETWORKS) if instances[i::NETWORKS]], levels)
    except Exception:  # whatever a fault leads to
        if len(instances) == 1:
            return Found([f"{instances[0]}: {traceback.format_exc(limit=-4)}"])
        error = traceback.format_exc(limit=-4)
    found = Found()
    for instance in instances:
        found.add(test([instance], levels))
    if not found.failures:
        found.failures.append(f"together: {', '.join(map(str, instances))}: {error}")
    return found


def _test(cases: list[Case], levels: Levels) -> Found:
    found = Found()
    count = sum(len(given.instances) for given in cases)
    for given in cases:
        found.failures.extend(torch_and_intervals(given, found.steps))
        for mode in MODES:
            found.failures.extend(integers(given, mode, found.steps))
    found.passed["numbers"] += count
    for isa, mode in levels.forms:
        found.failures.extend(on_host(cases, isa, mode))  # type: ignore[arg-type]
        found.passed[f"C, {isa} {mode}"] += count
    for board, own in levels.firmware:
        for given in cases:
            found.failures.extend(in_firmware(given, board, own))
        found.passed[f"QEMU, {board} {own or ''}".strip()] += count
    return found


def _number(number: int, operators: tuple[str, ...], levels: Levels) -> Found:
    found = test([Instance(name, number) for name in operators], levels)
    if number % _KERNELS == 0:
        shutil.rmtree(cache_folder() / "kernels", ignore_errors=True)
    return found


def levels_of(number: int, *, share: bool, numbers_alone: bool) -> Levels:
    """Return what is tested of instances of a number."""
    if numbers_alone:
        return Levels((), ())
    if share:
        return Levels(
            () if number % 10 else (FORMS[number // 10 % len(FORMS)],),
            _FIRMWARE[number : number + 1] if number < len(BOARDS) else (),
        )
    return Levels(FORMS, _FIRMWARE)


def _run(numbers: Iterable[int], given: argparse.Namespace) -> Found:
    total, started = Found(), time.monotonic()
    operators = tuple(given.operators or OPERATORS)
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("fork")) as pool:
        tasks = [
            pool.submit(_number, n, operators, levels_of(n, share=given.share, numbers_alone=given.numbers))
            for n in numbers
        ]
        for done, task in enumerate(as_completed(tasks), 1):
            found = task.result()
            total.add(found)
            for line in found.failures:
                print(line, flush=True)
            if done % 20 == 0:
                print(
                    f"{done} of {len(tasks)} numbers, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True
                )
    return total


def main() -> None:
    """Run what the command line asks for and print failures and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="Instances of each operator.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first.")
    parser.add_argument("--share", action="store_true", help="What continuous integration runs of each.")
    parser.add_argument("--numbers", action="store_true", help="No C.")
    parser.add_argument("--operators", nargs="*", choices=OPERATORS, metavar="OPERATOR", help="These alone.")
    parser.add_argument("--only", nargs="*", metavar="OPERATOR:NUMBER", help="These instances alone, one by one.")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tapc-properties-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        if given.only:
            total = Found()
            for text in given.only:
                operator, number = text.split(":")
                total.add(
                    test([Instance(operator, int(number))], levels_of(0, share=False, numbers_alone=given.numbers))
                )
            print(*total.failures, sep="\n")
        else:
            total = _run(range(given.first, given.first + given.count), given)
            total.failures.extend(many := many_steps(total.steps))
            print(*many, sep="\n")
    print("; ".join(f"{level}: {count}" for level, count in sorted(total.passed.items())))
    print(f"{len(total.failures)} failures")
    sys.exit(bool(total.failures))


if __name__ == "__main__":
    main()
