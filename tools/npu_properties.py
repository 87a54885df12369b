"""Random networks on the NPU, against the reference executor and TFLite-Micro.

    python tools/npu_properties.py --first 4 --count 10
    python tools/npu_properties.py --first 4 --count 10 --parts

A number is one instance of each operator that the NPU takes, in one network, for each accelerator in turn. With
`--parts` it is one of every operator; some stay on the CPU at random, beside those that must, and a whole image runs.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from npu.networks import OPERATORS, accelerator, divided, in_image, on_npu
from operators.examples import OPERATORS as ALL
from operators.examples import Instance, case
from tapc.lower.codes import apart, input_codes, random_codes
from tapc.npu.divided_proof import prove_divided
from tapc.npu.micro import outputs
from tapc.npu.proof import prove

ACCELERATORS = ("ethos-u55-128", "ethos-u55-64", "ethos-u55-32", "ethos-u55-256")


def in_parts(number: int, accelerator_name: str) -> tuple[int, int, int]:
    """Return the instances of a network, its parts on the NPU, and what differs."""
    target = accelerator(accelerator_name)
    given, rng = case([Instance(name, number) for name in ALL]), np.random.default_rng(number)
    names = [op.name for op in divided(given, npu=target).source.ops]
    made = divided(given, [name for name in names if rng.random() < 0.2], npu=target)
    codes = np.concatenate([input_codes(made.source, given.x), random_codes(made.source, 16, number)])
    proof, different = prove_divided(made, target.outputs_at_once, codes, ask_micro=True)
    with tempfile.TemporaryDirectory() as folder:
        found, _ = in_image(made, codes[:2], Path(folder), target)
    return len(given.instances), len(made.parts), different + (not proof.exact) + (not found.exact)


def main() -> None:
    """Run and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--parts", action="store_true")
    given = parser.parse_args()
    cases, wrong = 0, 0
    for number in range(given.first, given.first + given.count):
        kind = ACCELERATORS[number % len(ACCELERATORS)]
        if given.parts:
            instances, count, different = in_parts(number, kind)
            cases, wrong = cases + instances, wrong + bool(different)
            print(f"{number}: {kind}, {instances} instances, {count} parts, {different} different", flush=True)
            continue
        target = accelerator(kind)
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
