"""Random networks on the NPU, against the reference executor and TFLite-Micro.

    python tools/npu_properties.py --first 4 --count 10

A number is one instance of each operator that the NPU takes, in one network, for each accelerator in turn.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from npu.networks import OPERATORS, accelerator, on_npu
from operators.examples import Instance
from tapc.lower.codes import apart
from tapc.npu.micro import outputs
from tapc.npu.proof import prove

ACCELERATORS = ("ethos-u55-128", "ethos-u55-64", "ethos-u55-32", "ethos-u55-256")


def main() -> None:
    """Run and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10)
    given = parser.parse_args()
    cases, wrong = 0, 0
    for number in range(given.first, given.first + given.count):
        target = accelerator(ACCELERATORS[number % len(ACCELERATORS)])
        built = on_npu([Instance(name, number) for name in OPERATORS], target)
        codes = built.samples()
        proof = prove(built.program, built.network, built.compiled, built.optimized, target.outputs_at_once, codes)
        parts = apart(built.program, built.program.inputs, codes)
        expected = outputs(built.network.blob, parts, len(built.program.outputs))
        different = int(np.count_nonzero(expected != proof.codes)) + (not proof.exact)
        cases, wrong = cases + len(built.given.instances), wrong + bool(different)
        print(f"{number}: {target.accelerator}, {len(built.given.instances)} instances, {proof.outputs} output codes, "
              f"{different} different", flush=True)  # fmt: skip
    print(f"{cases} instances, {wrong} networks with a difference")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
