"""Try tapc on hostile inputs: `python tools/run_fuzz.py --count 1500`. Exit code 1 where a rule is broken."""

# ruff: noqa: E501

import argparse
import collections
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported: the children are forked
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fuzz import harness
from fuzz.mutants import kinds, mutant, mutants
from fuzz.sources import make_sources


def main() -> None:
    """Make mutants, run them, print what is wrong and a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--first", type=int, default=0, help="Number of the first mutant.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=harness.SECONDS, help="Time limit of a mutant.")
    parser.add_argument(
        "--only", metavar="KIND:NUMBER[:SEED]", nargs="*", help=f"These alone; kinds: {', '.join(kinds())}."
    )
    parser.add_argument("--sources", type=Path, help="Folder in which the whole inputs are kept for the next run.")
    parser.add_argument("--verbose", action="store_true", help="Print every verdict.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tapc-fuzz-") as name:
        folder = Path(name)
        sources = make_sources(given.sources or folder / "sources")
        harness.warm()
        chosen = mutants(sources, given.count, given.seed, given.first)
        if given.only:
            parts = [text.split(":") for text in given.only]
            chosen = iter([mutant(sources, kind, int(number), *map(int, seed)) for kind, number, *seed in parts])
        codes: collections.Counter[int] = collections.Counter()
        bad, cpu, slowest, largest = 0, 0.0, 0.0, 0
        for number, one in enumerate(chosen):
            verdict = harness.run(one, folder / str(number), seconds=given.seconds)
            codes[verdict.code] += 1
            cpu, slowest, largest = cpu + verdict.cpu, max(slowest, verdict.seconds), max(largest, verdict.memory)
            if verdict.faults or given.verbose:
                bad += bool(verdict.faults)
                text = verdict.output.encode("unicode_escape").decode().replace("\\n", "\n")[-1500:]
                print(
                    f"{verdict.name}: {', '.join(verdict.faults) or verdict.code}\n  {' '.join(one.arguments)!r}\n{text}\n",
                    flush=True,
                )
    total = sum(codes.values())
    print(f"{total} mutants: {bad} bad; exit codes {dict(sorted(codes.items()))}; {cpu:.0f} s of processor time, "
          f"slowest {slowest:.0f} s, largest {largest >> 20} MiB")  # fmt: skip
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
