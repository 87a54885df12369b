"""Test many random instances of every operator: `python tools/run_properties.py --count 2000`.

Each instance, `OPERATOR:NUMBER`, is tested in networks with others: torch and the intervals against onnxruntime; its
integers in every arithmetic against onnxruntime, with bounds and pruning; its C on this machine under sanitizers, for
every instruction set and arithmetic, each step equal to the reference; and firmware in QEMU on every board, in the
core's arithmetic and in TFLite's. With `--share`, which continuous integration runs, firmware of an instance runs on
one board in one arithmetic, which its number decides, and the C on this machine is that for the same core; numbers
that share these are built together.
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
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from operators.examples import OPERATORS, Instance, case
from operators.properties import MODES, Steps, integers, many_steps, torch_and_intervals
from operators.properties_in_c import BOARDS, CORES, FORMS, in_firmware, on_host, together
from tapc.base.arithmetic import Mode
from tapc.base.cache import cache_folder
from tapc.base.isa import Isa

TOGETHER = 7
"""Numbers that are built together at most: a seventh of their kernels are alike, of twice as many hardly more."""
_KERNELS = 16
"""Numbers after which the cache of kernels is emptied."""
_FIRMWARE: tuple[tuple[str, Mode], ...] = tuple(
    (board, mode) for board in BOARDS for mode in (CORES[board].requantize, "tflite")
)


@dataclass(frozen=True)
class Levels:
    """What is tested of an instance."""

    forms: tuple[tuple[Isa, Mode], ...]
    firmware: tuple[tuple[str, Mode], ...]


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
    """Test instances together; where something breaks off, each half of them, to find out which one it is."""
    try:
        return _test(instances, levels)
    except Exception:  # whatever a fault leads to
        error = traceback.format_exc(limit=-4)
    if len(instances) == 1:
        return Found([f"{instances[0]}: {error}"])
    found = Found()
    for half in (instances[: len(instances) // 2], instances[len(instances) // 2 :]):
        found.add(test(half, levels))
    if not found.failures:
        numbers = ", ".join(map(str, dict.fromkeys(instance.number for instance in instances)))
        found.failures.append(f"{len(instances)} instances of numbers {numbers}, together and not in halves: {error}")
    return found


def _test(instances: list[Instance], levels: Levels) -> Found:
    found = Found()
    numbers = dict.fromkeys(instance.number for instance in instances)
    cases = [case([instance for instance in instances if instance.number == number]) for number in numbers]
    for given in cases:
        found.failures.extend(torch_and_intervals(given, found.steps))
        for mode in MODES:
            found.failures.extend(integers(given, mode, found.steps))
    found.passed["numbers"] += len(instances)
    of_firmware = [(CORES[board].isa, mode) for board, mode in levels.firmware]
    for isa, mode in dict.fromkeys((*levels.forms, *of_firmware)):
        built = together(cases, isa, mode)
        if (isa, mode) in levels.forms:
            found.failures.extend(on_host(built))
            found.passed[f"C, {isa} {mode}"] += len(instances)
        for board, own in levels.firmware:
            if (CORES[board].isa, own) == (isa, mode):
                found.failures.extend(in_firmware(built, board))
                found.passed[f"QEMU, {board} {own}"] += len(instances)
    return found


def _numbers(numbers: list[int], operators: tuple[str, ...], levels: Levels) -> Found:
    found = test([Instance(name, number) for number in numbers for name in operators], levels)
    if any(number % _KERNELS == 0 for number in numbers):
        shutil.rmtree(cache_folder() / "kernels", ignore_errors=True)
    return found


def levels_of(number: int, *, share: bool, numbers_alone: bool) -> Levels:
    """Return what is tested of instances of a number."""
    if numbers_alone:
        return Levels((), ())
    if share:
        board, mode = _FIRMWARE[number % len(_FIRMWARE)]
        return Levels(((CORES[board].isa, mode),), ((board, mode),))
    return Levels(FORMS, _FIRMWARE)


def batches(numbers: Sequence[int], share: bool) -> list[list[int]]:
    """Return numbers that are tested together: for a share, those of one board and arithmetic."""
    if not share:
        return [[number] for number in numbers]
    alike = [numbers[first :: len(_FIRMWARE)] for first in range(len(_FIRMWARE))]
    return [list(own[first :: -(-len(own) // TOGETHER)]) for own in alike for first in range(-(-len(own) // TOGETHER))]


def _run(numbers: Sequence[int], given: argparse.Namespace) -> Found:
    total, started = Found(), time.monotonic()
    operators = tuple(given.operators or OPERATORS)
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("fork")) as pool:
        tasks = {
            pool.submit(_numbers, n, operators, levels_of(n[0], share=given.share, numbers_alone=given.numbers)): len(n)
            for n in batches(numbers, given.share)
        }
        done = 0
        for task in as_completed(tasks):
            found = task.result()
            total.add(found)
            for line in found.failures:
                print(line, flush=True)
            if done // 20 < (done := done + tasks[task]) // 20:
                took = time.monotonic() - started
                print(f"{done} of {len(numbers)} numbers, {took:.0f} s", file=sys.stderr, flush=True)
    return total


def _instance(text: str) -> Instance:
    operator, _, number = text.partition(":")
    if operator not in OPERATORS or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no OPERATOR:NUMBER; the operators are {', '.join(OPERATORS)}")
    return Instance(operator, int(number))


def main() -> None:
    """Run what the command line asks for and print failures and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="Instances of each operator.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first.")
    parser.add_argument("--share", action="store_true", help="What continuous integration runs of each.")
    parser.add_argument("--numbers", action="store_true", help="No C.")
    parser.add_argument("--operators", nargs="*", choices=OPERATORS, metavar="OPERATOR", help="These alone.")
    parser.add_argument(
        "--only", nargs="*", type=_instance, metavar="OPERATOR:NUMBER", help="These instances alone, one by one."
    )
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tapc-properties-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        if given.only:
            total = Found()
            for instance in given.only:
                total.add(test([instance], levels_of(0, share=False, numbers_alone=given.numbers)))
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
