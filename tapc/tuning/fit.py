"""Fit the cost model of a core on the kernels that tapc emits, measured in QEMU.

    python -m tapc.tuning.fit cortex-m7 --board stm32h7 --kernels 400 --seed 0

writes targets/CORE/cost.toml; `--group transformer` measures the operators of that group alone and adds them to it.
A fifth of the kernels is held out; their error is stored with the fit.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.optimize import lsq_linear, nnls

from tapc.base.arithmetic import Mode, arithmetics
from tapc.base.files import scratch_folder
from tapc.cost.model import Coefficients, load_coefficients
from tapc.cost.sample import random_program
from tapc.device import device_for
from tapc.firmware import build_firmware
from tapc.firmware.toolchain import compiler_version
from tapc.hardware.board import load_board
from tapc.hardware.target import Target, load_target
from tapc.ir.sampling import groups
from tapc.kernels.layout import RELATIVE, is_own
from tapc.kernels.spec import Features, KernelSpec
from tapc.lower import Lowered
from tapc.lower.plan import plan
from tapc.lower.steps import steps_of

BATCH = 60
SMALL_BATCHES = (6, 12, 20, 30)
GROUP_BATCH = 18
GROUP_SHARE = 100  # of the kernels of a fit, for each image of a group alone
TIES = "ties"  # a group of rare forms, of which a few kernels do
MEMSET = 162
RIDGE = 1e-3
JUMP = 48  # bytes of a function that only calls another, at most
OTHERS = 0.4  # kernels in another arithmetic for each one in the core's


@dataclass(frozen=True)
class Measurement:
    """A kernel's measured instructions per call and bytes of code."""

    spec: KernelSpec
    instructions: int
    code: int


@dataclass(frozen=True)
class Batch:
    """One image: its kernels, bytes of start-up and C library, the calls (and their arguments), stack, variables."""

    kernels: tuple[Measurement, ...]
    runtime: int
    calls: int
    steps: int
    arguments: int
    stack: int
    data: int


def measure(
    target: Target,
    board_name: str,
    count: int,
    seed: int,
    *,
    group: str = "network",
    mode: Mode | None = None,
    given: bool = True,
) -> Batch:
    """Build one image of `count` random kernels, in the core's own arithmetic or another one, and run it.

    What they read are random codes, or zeros unless `given`: functions that give an input are no part of the runtime.
    """
    board = load_board(board_name)
    program = random_program(count, mode or target.requantize, target.isa, seed, group=group, given=given)
    steps = steps_of(program)
    network = Lowered(program, steps, plan(program, steps, rounds=0), program)
    library = network.library()
    with scratch_folder() as folder:
        (folder / "lib").mkdir()
        library.write(folder / "lib")
        images = build_firmware(folder / "lib", board, target, folder, work=folder / "work")
        rng, tensors = np.random.default_rng(seed), [program.tensors[name] for name in program.inputs]
        codes = [rng.integers(-128, 128, t.bytes) * (not t.tokens) for t in tensors]
        run = device_for(target).load(images).run(np.concatenate(codes)[None].astype(np.int8))
    symbols = images.memory.symbols
    names = {kind_name: kind for kind_name, kind in library.functions.items()}
    by_spec = dict(zip({s.spec: None for s in steps}, names, strict=True))
    measured: dict[KernelSpec, Measurement] = {}
    for step, instructions in zip(steps, run.instructions_per_step, strict=True):
        measured[step.spec] = Measurement(step.spec, instructions, symbols[by_spec[step.spec]])
    kernel_bytes = sum(symbols[name] for name in names)
    calls = symbols[network.names.symbol("run")]
    # Whether a kernel's loop becomes a call of memset is the compiler's choice: always count it.
    runtime = images.memory.flash - kernel_bytes - library.weight_bytes - calls + (0 if "memset" in symbols else MEMSET)
    arguments = sum(step.arguments for step in steps)
    data = images.memory.data + images.memory.bss
    return Batch(tuple(measured.values()), runtime, calls, len(steps), arguments, run.stack_high_water, data)


def solve(rows: list[Features], values: list[float]) -> dict[str, float]:
    """Least squares of the relative error; only what another arithmetic costs beside the core's own may be negative."""
    return solve_rest(rows, values, {})


def _error(rows: list[Features], values: list[float], coefficients: dict[str, float]) -> NDArray[np.float64]:
    predicted = [sum(n * coefficients.get(k, 0.0) for k, n in row.items()) for row in rows]
    return np.array([abs(p - v) / v for p, v in zip(predicted, values, strict=True)])


def _table(part: Sequence[Measurement], *, code: bool) -> tuple[list[Features], list[float]]:
    features = [m.spec.code_features() if code else m.spec.instruction_features() for m in part]
    return features, [float(m.code if code else m.instructions) for m in part]


def _plan(own: Mode, kernels: int) -> Iterator[tuple[str, Mode, int]]:
    """Yield groups of operators, arithmetics and numbers of kernels: most of the network's in the core's arithmetic."""
    others = [a.name for a in arithmetics() if a.name != own]
    for mode, share in ((own, 1.0), *((other, OTHERS) for other in others)):
        yield "network", mode, int(share * kernels)
        for group in groups():
            if group not in ("network", TIES):
                yield group, mode, int(share * kernels / 6)


def measure_all(target: Target, board_name: str, kernels: int, seed: int) -> tuple[Batch, ...]:
    """Measure random kernels of all groups and arithmetics; the last images read zeros."""
    plan = [
        (group, mode, min(BATCH, count - first))
        for group, mode, count in _plan(target.requantize, kernels)
        for first in range(0, count, BATCH)
    ]
    batches = [
        measure(target, board_name, count, seed * 1000 + i, group=group, mode=mode)
        for i, (group, mode, count) in enumerate(track(plan, f"measuring kernels on {target.name}"))
    ]
    for i, mode in enumerate(dict.fromkeys(mode for _, mode, _ in plan)):
        batches.append(measure(target, board_name, GROUP_BATCH, seed * 1000 + 950 + i, group=TIES, mode=mode))
    for count in SMALL_BATCHES:
        batches.append(measure(target, board_name, count, seed * 1000 + 900 + count, given=False))
    return tuple(batches)


def fit(target: Target, batches: Sequence[Batch]) -> Coefficients:
    """Fit the core's coefficients to what `measure_all` gave."""
    table_of_calls = np.array([[batch.steps, batch.arguments] for batch in batches], float)
    (step_bytes, argument_bytes), _ = nnls(table_of_calls, np.array([batch.calls for batch in batches], float))
    besides = {
        "runtime_bytes": float(np.median([batch.runtime for batch in batches[-len(SMALL_BATCHES) :]])),
        "step_bytes": round(float(step_bytes), 2),
        "argument_bytes": round(float(argument_bytes), 2),
        "stack_bytes": max(batch.stack for batch in batches),
        "data_bytes": max(batch.data for batch in batches),
    }
    # Each kernel once: what is held out must be no stranger's twin.
    kernels = {m.spec: m for batch in batches for m in batch.kernels}
    return fitted(target, tuple(kernels.values()), besides)


def fitted(target: Target, samples: Sequence[Measurement], besides: Mapping[str, float]) -> Coefficients:
    """Fit coefficients to measured kernels; what is held out only tells the errors.

    Parameters
    ----------
    target : Target
    samples : sequence of Measurement
    besides : mapping
        What is no kernel: see `Coefficients`.
    """
    held, kept = _held_out(samples)
    sized = _of_own_code(samples)
    sized_held, sized_kept = _held_out(sized)
    own, own_code = (
        {key: 0.0 for row in _table(samples, code=code)[0] for key in row if is_own(key, target.requantize)}
        for code in (False, True)
    )
    instructions = own | solve_rest(*_table(kept, code=False), own)
    code = own_code | solve_rest(*_table(sized_kept, code=True), own_code)
    errors = _error(*_table(held, code=False), instructions)
    kinds = [_kind(m.spec, target.requantize) for m in held]
    return Coefficients.model_validate(
        {
            "schema_version": 1,
            "core": target.name,
            "compiler": compiler_version(target.compiler),
            "instructions": own | solve_rest(*_table(samples, code=False), own),
            "code": own_code | solve_rest(*_table(sized, code=True), own_code),
            "kernels": len(samples),
            "instruction_error": round(float(errors.mean()), 4),
            "code_error": round(float(_error(*_table(sized_held, code=True), code).mean()), 4),
            "held_out": {
                k: round(float(errors[[k == other for other in kinds]].mean()), 3) for k in sorted(set(kinds))
            },
            **besides,
        }
    )


def _held_out(samples: Sequence[Measurement]) -> tuple[Sequence[Measurement], Sequence[Measurement]]:
    """Part samples: those that tell the errors, and those that are fitted."""
    return samples[::5], [m for i, m in enumerate(samples) if i % 5]


def _of_own_code(samples: Sequence[Measurement]) -> Sequence[Measurement]:
    """Leave out functions that the compiler found to equal another and made a jump to it."""
    largest: dict[frozenset[tuple[str, float]], int] = {}
    for m in samples:
        parts = frozenset(m.spec.code_features().items())
        largest[parts] = max(largest.get(parts, 0), m.code)
    return [m for m in samples if m.code > JUMP or 2 * m.code > largest[frozenset(m.spec.code_features().items())]]


def _kind(spec: KernelSpec, own: Mode) -> str:
    """Return a kernel's kind, and its arithmetic where it is not the core's own."""
    mode = getattr(spec, "mode", getattr(spec, "form", own))
    mode = mode if mode in [a.name for a in arithmetics()] else own
    return type(spec).__name__.removesuffix("Spec").lower() + (f"_{mode}" if mode != own else "")


def with_group(
    coefficients: Coefficients, target: Target, board_name: str, images: int, seed: int, group: str
) -> Coefficients:
    """Measure the operators of a group and set the costs of their parts; those of other groups stay."""
    batches = [
        measure(target, board_name, GROUP_BATCH, seed * 1000 + i, group=group)
        for i in track(range(images), f"measuring {group} on {target.name}")
    ]
    kernels = [m for batch in batches for m in batch.kernels]
    held = set().union(*(_parts_of(target, seed + i) for i in range(images))) if group != "network" else set()
    known = {key: value for key, value in coefficients.instructions.items() if key in held or value < 0}
    own = {key: 0.0 for m in kernels for key in m.spec.instruction_features() if is_own(key, target.requantize)}
    instructions = own | solve_rest(*_table(kernels, code=False), known | own)
    known = {key: value for key, value in coefficients.code.items() if key in held}
    code = solve_rest(*_table(_of_own_code(kernels), code=True), known)
    return coefficients.model_copy(
        update={
            "instructions": coefficients.instructions | instructions,
            "code": coefficients.code | code,
            "stack_bytes": max(coefficients.stack_bytes, *(batch.stack for batch in batches)),
        }
    )


def solve_rest(rows: list[Features], values: list[float], known: dict[str, float]) -> dict[str, float]:
    """Solve for what is not known yet: what the known parts cost is taken off first."""
    rest = [{key: count for key, count in row.items() if key not in known and count} for row in rows]
    if not any(rest):
        return {}
    spent = [sum(count * known.get(key, 0.0) for key, count in row.items()) for row in rows]
    keys = sorted({key for row in rest for key in row})
    # An error is one of the whole kernel.
    scale = 1 / np.maximum(np.array(values), 1.0)
    matrix = np.array([[row.get(key, 0.0) for key in keys] for row in rest]) * scale[:, None]
    sizes = np.linalg.norm(matrix, axis=0)
    # What samples do not tell apart is shared evenly.
    system = np.vstack([matrix / sizes, RIDGE * np.eye(len(keys))])
    wanted = np.concatenate([(np.array(values) - np.array(spent)) * scale, np.zeros(len(keys))])
    least = [-np.inf if key.partition("_")[0] in RELATIVE else 0.0 for key in keys]
    found = lsq_linear(system, wanted, bounds=(least, np.full(len(keys), np.inf))).x / sizes
    return {key: round(float(value), 3) for key, value in zip(keys, found, strict=True)}


def _parts_of(target: Target, seed: int) -> set[str]:
    """Return the parts that kernels of the network group have, of instructions and of code."""
    specs = [step.spec for step in steps_of(random_program(300, target.requantize, target.isa, seed))]
    return {key for spec in specs for key in (*spec.instruction_features(), *spec.code_features())}


def to_toml(result: Coefficients) -> str:
    """Return the coefficients as TOML: scalars first, then the two tables."""
    values = result.model_dump()
    tables = {name: values.pop(name) for name in ("held_out", "instructions", "code")}
    lines = [f"# Written by: python -m tapc.tuning.fit {result.core} --board BOARD"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {value}" for key, value in sorted(table.items()))]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the fit from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("core")
    parser.add_argument("--board", required=True)
    parser.add_argument("--kernels", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group", help="measure these operators alone, and keep all other coefficients")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    output = options.output or Path("targets") / options.core / "cost.toml"
    target = load_target(options.core)
    kept = load_coefficients(output) if options.group else None
    if kept is None:
        result = fit(target, measure_all(target, options.board, options.kernels, options.seed))
    else:
        images = -(-options.kernels // GROUP_SHARE)
        result = with_group(kept, target, options.board, images, options.seed, options.group)
    output.write_text(to_toml(result), encoding="utf-8")
    print(f"{output}: {result.instruction_error:.2%} of instructions, {result.code_error:.2%} of code (held out)")


if __name__ == "__main__":
    main()
