"""Cycles per instruction of the kernels of a core, by the model of its pipeline.

    python -m tapc.tuning.rates cortex-m7

writes targets/CORE/rates.toml. The error that is stored is the mean of the kernels' errors, by their cycles.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from tapc import cycles
from tapc.base.errors import UsageError
from tapc.cost.model import CostModel, load_coefficients
from tapc.cost.rates import Rates, rate_kind
from tapc.cost.sample import random_steps
from tapc.device import DeviceRun
from tapc.hardware.target import Target, load_target
from tapc.ir.sampling import groups
from tapc.lower import Lowered
from tapc.lower.plan import plan
from tapc.tuning.measure import simulate

Floats = NDArray[np.float64]
_FEW, _ALIKE = 12, 0.1  # kernels, and spread of their shares, that tell two rates apart
_TWO, _MORE = ("ahead", "nested", "winograd"), 3  # groups of kinds with two rates: so many times the kernels
_RARE = 1e-6  # kernels of a sample differ much in length
Observed = tuple[str, int, float, float]
"""A kernel's kind, its instructions, its estimated cycles, and the share of its loops over taps."""


def observe(target: Target, group: str, count: int, seed: int) -> list[Observed]:
    """Run random kernels of a group and estimate their cycles."""
    program, steps = random_steps(count, target.requantize, target.isa, seed, group=group)
    network = Lowered(program, steps, plan(program, steps, rounds=0), program)

    def estimate(run: DeviceRun) -> cycles.Estimate:
        return cycles.estimate(run.image, run.blocks, target.name, _RARE)

    done = simulate(network.library(), target, sum(program.tensors[name].bytes for name in program.inputs), estimate)
    counts = done.run.instructions_per_step
    found, cost = {}, CostModel(load_coefficients(target.cost))
    for step, instructions in zip(steps, counts, strict=True):
        rate = done.extra.per_instruction(network.functions[step.spec])
        share = cost.products_share(step.spec)
        found[step.spec] = rate_kind(step.spec), instructions, rate * instructions, share
    return list(found.values())


def rates_of(target: Target, observed: Sequence[Observed]) -> Rates:
    """Return each kind's cycles per instruction: of long kernels more than of short ones, as in a network."""
    kinds = np.array([kind for kind, *_ in observed])
    instructions, taken, shares = (np.array([o[i] for o in observed], float) for i in (1, 2, 3))
    rates, products, errors = {}, {}, np.zeros(len(observed))
    for kind in sorted(set(kinds)):
        own = kinds == kind
        rest, inner = _rates(instructions[own], taken[own], shares[own])
        rates[str(kind)] = rest
        if inner != rest:
            products[str(kind)] = inner
        errors[own] = np.abs((rest + shares[own] * (inner - rest)) * instructions[own] / taken[own] - 1)
    return Rates(
        core=target.name,
        source=cycles.source(target.name),
        kernels=len(observed),
        error=round(float(np.average(errors, weights=taken)), 4),
        other=round(float(taken.sum() / instructions.sum()), 3),
        rates=rates,
        products=products,
    )


def _rates(instructions: Floats, taken: Floats, shares: Floats) -> tuple[float, float]:
    """Return the cycles per instruction of a kind beside its loops over taps, and in these."""
    one = round(float(taken.sum() / instructions.sum()), 3)
    if len(taken) < _FEW or np.ptp(shares) < _ALIKE:
        return one, one
    parts = np.stack([instructions * (1 - shares), instructions * shares], axis=1)
    weights = 1 / np.sqrt(taken)
    rest, inner = (round(float(rate), 3) for rate in np.linalg.lstsq(parts * weights[:, None], taken * weights)[0])
    return (rest, inner) if min(rest, inner) > 0 else (one, one)


def measure(target: Target, count: int, seed: int) -> Rates:
    """Estimate random kernels of all groups.

    Raises
    ------
    UsageError
        No model of the core tells its cycles.
    """
    if not cycles.available(target.name):
        raise UsageError(f"no cycles of {target.name}: {cycles.source(target.name)}")
    own = [name for name in groups() if name != "ahead" or target.dual_issue]
    found: list[Observed] = []
    for place, name in enumerate(track(own, f"estimating kernels on {target.name}")):
        found += observe(target, name, count * (_MORE if name in _TWO else 1), seed * 1000 + place)
    return rates_of(target, found)


def to_toml(rates: Rates) -> str:
    """Return the rates as TOML."""
    values: Mapping[str, object] = rates.model_dump()
    lines = [f"# Written by: python -m tapc.tuning.rates {rates.core}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if key not in ("rates", "products")]
    lines += ["", "[rates]", *(f"{kind} = {rate}" for kind, rate in rates.rates.items())]
    if rates.products:
        lines += ["", "[products]", *(f"{kind} = {rate}" for kind, rate in rates.products.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the rates from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("core")
    parser.add_argument("--kernels", type=int, default=60, help="of each group of operators")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    target = load_target(options.core)
    output = options.output or target.rates
    found = measure(target, options.kernels, options.seed)
    output.write_text(to_toml(found), encoding="utf-8")
    print(f"{output}: {found.kernels} kernels, {found.error:.1%} from their kinds' cycles per instruction")


if __name__ == "__main__":
    main()
