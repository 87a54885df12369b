"""Fit the cost model of a core on the kernels that tapc emits, measured in QEMU.

    python -m tapc.tuning.fit cortex-m7 --board stm32h7 --kernels 900 --seed 0

writes targets/CORE/cost.toml; `--group transformer` measures the operators of that group alone and adds them to it.
A fifth of the kernels is held out; their error is stored with the fit.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy.optimize import nnls

from tapc.base.files import scratch_folder
from tapc.cost.model import Coefficients, load_coefficients
from tapc.cost.sample import random_program
from tapc.device import device_for
from tapc.firmware import build_firmware
from tapc.firmware.toolchain import compiler_version
from tapc.hardware.board import load_board
from tapc.hardware.target import Target, load_target
from tapc.ir.sampling import groups
from tapc.kernels.spec import Features, KernelSpec
from tapc.lower import Lowered
from tapc.lower.plan import plan
from tapc.lower.steps import steps_of

BATCH = 60
SMALL_BATCHES = (6, 12, 20, 30)
GROUP_BATCH = 18
MEMSET = 162


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


def measure(target: Target, board_name: str, count: int, seed: int, *, group: str = "network") -> Batch:
    """Build one image of `count` random kernels and run it."""
    board = load_board(board_name)
    program = random_program(count, target.requantize, target.isa, seed, group=group)
    steps = steps_of(program)
    network = Lowered(program, steps, plan(program, steps, rounds=0), program)
    library = network.library()
    with scratch_folder() as folder:
        (folder / "lib").mkdir()
        library.write(folder / "lib")
        images = build_firmware(folder / "lib", board, target, folder, work=folder / "work")
        zeros = np.zeros((1, sum(program.tensors[name].bytes for name in program.inputs)), np.int8)
        run = device_for(target).load(images).run(zeros)
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
    """Non-negative least squares of the relative error."""
    return solve_rest(rows, values, {})


def _error(rows: list[Features], values: list[float], coefficients: dict[str, float]) -> float:
    predicted = [sum(n * coefficients.get(k, 0.0) for k, n in row.items()) for row in rows]
    return float(np.mean([abs(p - v) / v for p, v in zip(predicted, values, strict=True)]))


def fit(target: Target, board_name: str, kernels: int, seed: int) -> Coefficients:
    """Measure random kernels and fit the core's coefficients."""
    batches = [
        measure(target, board_name, BATCH, seed * 1000 + i)
        for i in track(range(-(-kernels // BATCH)), f"measuring kernels on {target.name}")
    ]
    batches += [measure(target, board_name, count, seed * 1000 + 900 + count) for count in SMALL_BATCHES]
    samples = [m for batch in batches for m in batch.kernels]
    held, kept = samples[::5], [m for i, m in enumerate(samples) if i % 5]

    def table(part: list[Measurement], code: bool) -> tuple[list[Features], list[float]]:
        features = [m.spec.code_features() if code else m.spec.instruction_features() for m in part]
        return features, [float(m.code if code else m.instructions) for m in part]

    instructions, code = solve(*table(kept, False)), solve(*table(kept, True))
    errors = [_error(*table(held, c), coefficients) for c, coefficients in ((False, instructions), (True, code))]
    table_of_calls = np.array([[batch.steps, batch.arguments] for batch in batches], float)
    (step_bytes, argument_bytes), _ = nnls(table_of_calls, np.array([batch.calls for batch in batches], float))
    return Coefficients(
        schema_version=1,
        core=target.name,
        compiler=compiler_version(),
        instructions=instructions,
        code=code,
        runtime_bytes=float(np.median([batch.runtime for batch in batches])),
        step_bytes=round(float(step_bytes), 2),
        argument_bytes=round(float(argument_bytes), 2),
        stack_bytes=max(batch.stack for batch in batches),
        data_bytes=max(batch.data for batch in batches),
        kernels=len(samples),
        instruction_error=round(errors[0], 4),
        code_error=round(errors[1], 4),
    )


def with_group(coefficients: Coefficients, target: Target, board_name: str, seed: int, group: str) -> Coefficients:
    """Measure the operators of a group and set the costs of their parts; those of other groups stay."""
    batches = [
        measure(target, board_name, GROUP_BATCH, seed * 1000 + i, group=group)
        for i in track(range(4), f"measuring {group} on {target.name}")
    ]
    kernels = [m for batch in batches for m in batch.kernels]
    held = set().union(*(_parts_of(target, seed + i) for i in range(4))) if group != "network" else set()
    instructions = solve_rest(
        [m.spec.instruction_features() for m in kernels],
        [float(m.instructions) for m in kernels],
        {key: value for key, value in coefficients.instructions.items() if key in held},
    )
    code = solve_rest(
        [m.spec.code_features() for m in kernels],
        [float(m.code) for m in kernels],
        {key: value for key, value in coefficients.code.items() if key in held},
    )
    return coefficients.model_copy(
        update={
            "instructions": coefficients.instructions | instructions,
            "code": coefficients.code | code,
            "stack_bytes": max(coefficients.stack_bytes, *(batch.stack for batch in batches)),
        }
    )


def solve_rest(rows: list[Features], values: list[float], known: dict[str, float]) -> dict[str, float]:
    """Solve for what is not known yet: what the known parts cost is taken off first."""
    rest = [{key: count for key, count in row.items() if key not in known} for row in rows]
    if not any(rest):
        return {}
    spent = [sum(count * known.get(key, 0.0) for key, count in row.items()) for row in rows]
    # An error is one of the whole kernel.
    keys = sorted({key for row in rest for key in row})
    matrix = np.array([[row.get(key, 0.0) for key in keys] for row in rest])
    scale = 1 / np.maximum(np.array(values), 1.0)
    solution, _ = nnls(matrix * scale[:, None], (np.array(values) - np.array(spent)) * scale)
    return {key: round(float(value), 4) for key, value in zip(keys, solution, strict=True)}


def _parts_of(target: Target, seed: int) -> set[str]:
    """Return the parts that kernels of the network group have, of instructions and of code."""
    specs = [step.spec for step in steps_of(random_program(300, target.requantize, target.isa, seed))]
    return {key for spec in specs for key in (*spec.instruction_features(), *spec.code_features())}


def to_toml(result: Coefficients) -> str:
    """Return the coefficients as TOML: scalars first, then the two tables."""
    values = result.model_dump()
    tables = {name: values.pop(name) for name in ("instructions", "code")}
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
    parser.add_argument("--kernels", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group", help="measure these operators alone, and keep all other coefficients")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    output = options.output or Path("targets") / options.core / "cost.toml"
    target = load_target(options.core)
    kept = load_coefficients(output) if options.group else None
    result = kept or fit(target, options.board, options.kernels, options.seed)
    for group in [options.group] if options.group else [name for name in groups() if name != "network"]:
        result = with_group(result, target, options.board, options.seed, group)
    output.write_text(to_toml(result), encoding="utf-8")
    print(f"{output}: {result.instruction_error:.2%} of instructions, {result.code_error:.2%} of code (held out)")


if __name__ == "__main__":
    main()
