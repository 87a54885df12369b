"""Fit the cost model of a core on the kernels that tapc emits, measured in QEMU.

    python -m tapc.tuning.fit cortex-m7 --board stm32h7 --kernels 400 --seed 0

writes targets/CORE/cost.toml; `--group transformer` measures the operators of that group alone and adds them to it,
`--kind depthwise` kernels of that kind of all groups, and sets the parts that no others have.
The errors that are stored with the fit are those of kernels that were held out: every kernel once, by fifths.
"""

import argparse
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.optimize import lsq_linear, nnls

from tapc.base.arithmetic import arithmetics
from tapc.base.files import scratch_folder
from tapc.cost.model import Coefficients, load_coefficients, weigh
from tapc.cost.sample import random_steps
from tapc.device import device_for
from tapc.firmware import build_firmware
from tapc.firmware.toolchain import RegionOverflowError, compiler_version
from tapc.hardware.board import load_board
from tapc.hardware.target import Target, load_target
from tapc.kernels.layout import RELATIVE, is_own
from tapc.kernels.spec import Features, KernelSpec
from tapc.lower import Lowered
from tapc.lower.plan import plan
from tapc.tuning.images import FLOOR, SMALL_BATCHES, Image, images_of, kind_of
from tapc.tuning.measure import code_bytes

FOLDS = 5
MEMSET = 162
RIDGE = 1e-3
JUMP = 56  # bytes of a function that only calls another, at most
JUMP_SHARE = 3  # of the bytes of another of the same parts, at most a third
BRANCH = 4  # bytes of one that is nothing but a jump


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


def measure(target: Target, board_name: str, image: Image, kinds: Collection[str] = ()) -> Batch:
    """Build one image of random kernels, of some kinds or of all, and run it.

    What they read are random codes, or zeros unless they are `given`: functions that give an input are no part of the
    runtime.
    """
    board = load_board(board_name)
    program, steps = image.draw(target)
    if kinds:
        steps = tuple(step for step in steps if _is_of(step.spec, target, kinds))
        program = program.with_ops(tuple(step.op for step in steps))
        program = replace(program, outputs=(program.ops[-1].output,))
    network = Lowered(program, steps, plan(program, steps, rounds=0), program)
    library = network.library()
    with scratch_folder() as folder:
        (folder / "lib").mkdir()
        library.write(folder / "lib")
        try:
            images = build_firmware(folder / "lib", board, target, folder, work=folder / "work")
        except RegionOverflowError:
            # What the counts do not depend on.
            board = device_for(target).roomy_board()
            images = build_firmware(folder / "lib", board, target, folder, work=folder / "work")
        rng, tensors = np.random.default_rng(image.seed), [program.tensors[name] for name in program.inputs]
        codes = [rng.integers(-128, 128, t.bytes) * (not t.tokens) for t in tensors]
        run = device_for(target).load(images).run(np.concatenate(codes)[None].astype(np.int8))
    symbols = images.memory.symbols
    names = {kind_name: kind for kind_name, kind in library.functions.items()}
    by_spec = dict(zip({s.spec: None for s in steps}, names, strict=True))
    measured: dict[KernelSpec, Measurement] = {}
    for step, instructions in zip(steps, run.instructions_per_step, strict=True):
        measured[step.spec] = Measurement(step.spec, instructions, code_bytes(symbols, by_spec[step.spec]))
    kernel_bytes = sum(code_bytes(symbols, name) for name in names)
    calls = symbols[network.names.symbol("run")]
    # Whether a kernel's loop becomes a call of memset is the compiler's choice: always count it.
    runtime = images.memory.flash - kernel_bytes - library.weight_bytes - calls + (0 if "memset" in symbols else MEMSET)
    arguments = sum(step.arguments for step in steps)
    data = images.memory.data + images.memory.bss
    return Batch(tuple(measured.values()), runtime, calls, len(steps), arguments, run.stack_high_water, data)


def _stacks(batches: Sequence[Batch]) -> dict[str, int]:
    """Return the deepest stacks: of images with convolutions by transforms, and of others."""
    deep = [any(m.spec.transformed for m in batch.kernels) for batch in batches]
    own = {name: [b.stack for b, has in zip(batches, deep, strict=True) if has == transforms]
           for name, transforms in (("stack_bytes", False), ("transform_stack_bytes", True))}  # fmt: skip
    return {name: max(stacks, default=0) for name, stacks in own.items()}


def solve(rows: list[Features], values: list[float]) -> dict[str, float]:
    """Least squares of the relative error; only what another arithmetic costs beside the core's own may be negative."""
    return solve_rest(rows, values, {})


def _table(part: Sequence[Measurement], *, code: bool) -> tuple[list[Features], list[float]]:
    features = [m.spec.code_features() if code else m.spec.instruction_features() for m in part]
    return features, [float(m.code if code else m.instructions) for m in part]


def _is_of(spec: KernelSpec, target: Target, kinds: Collection[str]) -> bool:
    return kind_of(spec, target.requantize).partition("_")[0] in kinds


def measure_all(
    target: Target,
    board_name: str,
    kernels: int,
    seed: int,
    group: str | None = None,
    floor: int = FLOOR,
    kinds: Collection[str] = (),
) -> tuple[Batch, ...]:
    """Measure random kernels of all groups and arithmetics, the last images reading zeros, or those of one group."""
    images: Sequence[Image] = images_of(target, kernels, seed, group, floor)
    if kinds:
        images = [i for i in images if any(_is_of(step.spec, target, kinds) for step in i.draw(target)[1])]
    shown = track(images, f"measuring kernels on {target.name}")
    return tuple(measure(target, board_name, image, kinds) for image in shown)


def fit(target: Target, batches: Sequence[Batch]) -> Coefficients:
    """Fit the core's coefficients to what `measure_all` gave."""
    table_of_calls = np.array([[batch.steps, batch.arguments] for batch in batches], float)
    (step_bytes, argument_bytes), _ = nnls(table_of_calls, np.array([batch.calls for batch in batches], float))
    besides = {
        "runtime_bytes": float(np.median([batch.runtime for batch in batches[-len(SMALL_BATCHES) :]])),
        "step_bytes": round(float(step_bytes), 2),
        "argument_bytes": round(float(argument_bytes), 2),
        **_stacks(batches),
        "data_bytes": max(batch.data for batch in batches),
    }
    # Each kernel once: what is held out must be no stranger's twin.
    kernels = {m.spec: m for batch in batches for m in batch.kernels}
    return fitted(target, tuple(kernels.values()), besides)


def fitted(target: Target, samples: Sequence[Measurement], besides: Mapping[str, float]) -> Coefficients:
    """Fit coefficients to measured kernels.

    Parameters
    ----------
    target : Target
    samples : sequence of Measurement
    besides : mapping
        What is no kernel: see `Coefficients`.
    """
    tables = [_table(part, code=code) for part, code in ((samples, False), (_of_own_code(samples), True))]
    own = [{key: 0.0 for row in rows for key in row if is_own(key, target.requantize)} for rows, _ in tables]
    instructions, code = (known | solve_rest(*table, known) for table, known in zip(tables, own, strict=True))
    kinds = [kind_of(m.spec, target.requantize) for m in samples]
    errors = held_out_errors(*tables[0], own[0], kinds)
    sized = [kind_of(m.spec, target.requantize) for m in _of_own_code(samples)]
    return Coefficients.model_validate(
        {
            "schema_version": 1,
            "core": target.name,
            "compiler": compiler_version(target.compiler),
            "instructions": instructions,
            "code": code,
            "kernels": len(samples),
            "instruction_error": round(float(errors.mean()), 4),
            "code_error": round(float(held_out_errors(*tables[1], own[1], sized).mean()), 4),
            **_per_kind(errors, kinds),
            **besides,
        }
    )


def held_out_errors(
    rows: Sequence[Features], values: Sequence[float], known: dict[str, float], kinds: Sequence[str], seed: int = 0
) -> NDArray[np.float64]:
    """Return the relative error of each kernel, as a fit to four fifths predicts it that it is not in.

    Every kind is dealt evenly to the five fifths, so that its error is that of all of its kernels.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    dealt = sorted(order, key=lambda i: kinds[i])  # stable: those of a kind stay in random order
    errors = np.zeros(len(rows))
    for fold in range(FOLDS):
        kept = [i for place, i in enumerate(dealt) if place % FOLDS != fold]
        found = known | solve_rest([rows[i] for i in kept], [values[i] for i in kept], known)
        for i in dealt[fold::FOLDS]:
            errors[i] = abs(weigh(rows[i], found, set()) / values[i] - 1)
    return errors


def _per_kind(errors: NDArray[np.float64], kinds: Sequence[str]) -> dict[str, dict[str, float]]:
    counts = Counter(kinds)
    means = {kind: float(errors[[kind == other for other in kinds]].mean()) for kind in sorted(counts)}
    return {
        "held_out": {kind: round(mean, 3) for kind, mean in means.items()},
        "held_out_kernels": {kind: counts[kind] for kind in means},
    }


def _of_own_code(samples: Sequence[Measurement]) -> Sequence[Measurement]:
    """Leave out functions that the compiler found to equal another and made a jump to it."""
    bytes_per_part: dict[frozenset[str], list[float]] = {}

    def part_bytes(m: Measurement) -> tuple[frozenset[str], float]:
        parts = {key: count for key, count in m.spec.code_features().items() if count}
        return frozenset(parts), m.code / sum(parts.values())

    for m in samples:
        parts, one = part_bytes(m)
        bytes_per_part.setdefault(parts, []).append(one)

    def jumps(m: Measurement) -> bool:
        parts, one = part_bytes(m)
        return m.code <= BRANCH or (m.code <= JUMP and JUMP_SHARE * one < float(np.median(bytes_per_part[parts])))

    return [m for m in samples if not jumps(m)]


def with_group(
    coefficients: Coefficients, target: Target, batches: Sequence[Batch], seed: int, own: Collection[str] = ()
) -> Coefficients:
    """Set the costs of the parts of a group's operators to what their images tell; those of the network's stay.

    Or those of the parts of some kinds of kernels, of which others have none.
    """
    kernels = tuple({m.spec: m for batch in batches for m in batch.kernels}.values())
    kinds = [kind_of(m.spec, target.requantize) for m in kernels]
    held = _parts_of_network(target, seed, own)
    rows, values = _table(kernels, code=False)
    known = {key: value for key, value in coefficients.instructions.items() if key in held}
    known |= {key: 0.0 for row in rows for key in row if is_own(key, target.requantize)}
    sized = _table(_of_own_code(kernels), code=True)
    known_code = {key: value for key, value in coefficients.code.items() if key in held}
    known_code |= {key: 0.0 for row in sized[0] for key in row if is_own(key, target.requantize)}
    errors = _per_kind(held_out_errors(rows, values, known, kinds), kinds)
    counts, means = (getattr(coefficients, n) | errors[n] for n in ("held_out_kernels", "held_out"))
    total = sum(counts.values())
    overall = {"kernels": total, "instruction_error": sum(means[kind] * counts[kind] for kind in counts) / total}
    return coefficients.model_copy(
        update={
            **({name: round(value, 4) for name, value in overall.items()} if own else {}),
            "instructions": coefficients.instructions | known | solve_rest(rows, values, known),
            "code": coefficients.code | known_code | solve_rest(*sized, known_code),
            **{name: max(getattr(coefficients, name), own) for name, own in _stacks(batches).items()},
            "held_out": coefficients.held_out | errors["held_out"],
            "held_out_kernels": coefficients.held_out_kernels | errors["held_out_kernels"],
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


def _parts_of_network(target: Target, seed: int, without: Collection[str] = ()) -> set[str]:
    """Return the parts that kernels of the network group have, of instructions and of code, in all arithmetics.

    Those of some kinds do not count.
    """
    drawn = (random_steps(300, arithmetic.name, target.isa, seed)[1] for arithmetic in arithmetics())
    specs = {step.spec for steps in drawn for step in steps if not _is_of(step.spec, target, without)}
    return {key for spec in specs for key in (*spec.instruction_features(), *spec.code_features())}


def to_toml(result: Coefficients) -> str:
    """Return the coefficients as TOML: scalars first, then the two tables."""
    values = result.model_dump()
    tables = {name: values.pop(name) for name in ("held_out", "held_out_kernels", "instructions", "code")}
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
    parser.add_argument("--floor", type=int, default=FLOOR, help="kernels of each kind and arithmetic, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group", help="measure these operators alone, and keep all other coefficients")
    parser.add_argument("--kind", action="append", default=[], help="measure such kernels alone, likewise; repeatable")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    output = options.output or Path("targets") / options.core / "cost.toml"
    target = load_target(options.core)
    kept, kinds = load_coefficients(output) if options.group or options.kind else None, options.kind
    batches = measure_all(target, options.board, options.kernels, options.seed, options.group, options.floor, kinds)
    result = with_group(kept, target, batches, options.seed, kinds) if kept else fit(target, batches)
    output.write_text(to_toml(result), encoding="utf-8")
    print(f"{output}: {result.instruction_error:.2%} of instructions, {result.code_error:.2%} of code (held out)")


if __name__ == "__main__":
    main()
