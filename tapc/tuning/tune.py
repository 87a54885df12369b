"""Tuning: schedules of convolutions, measured in the simulator: instructions, or estimated cycles of what ran.

A schedule never changes a result, so it is chosen after everything else. Measurements are cached by content: the
kernel's specification, the code that generates it, the compiler and its flags.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import tapc.base.arithmetic
import tapc.kernels
from tapc import cycles
from tapc.base.cache import Store, cache_folder, digest, tree_digest
from tapc.base.errors import UsageError
from tapc.base.progress import Advance
from tapc.device import DeviceRun, obstacle
from tapc.firmware.toolchain import compiler_version
from tapc.hardware.target import Target
from tapc.ir.program import Op, Program, Tensor
from tapc.kernels.conv import ConvSpec
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import Schedule, TuneFor, Tuning
from tapc.lower import Library, Lowered
from tapc.lower.plan import plan
from tapc.lower.steps import steps_of
from tapc.tuning.measure import simulate

Tunable = ConvSpec | PooledSpec

BATCH = 24  # variants of one image
BATCH_BYTES = 1 << 20  # of their weights


@dataclass(frozen=True, eq=False)
class _Variant:
    """A convolution with a schedule in place of its own."""

    op: Op
    spec: Tunable


def tune(
    lowered: Lowered,
    target: Target,
    limit: int,
    *,
    by: TuneFor = "instructions",
    jobs: int = 2,
    store: Store | None = None,
    advance: Advance = lambda done, total: None,
) -> Tuning:
    """Measure up to `limit` schedules of each kernel and choose the fastest.

    No schedule that needs more scratch memory or more words of weights than the default is tried.

    Parameters
    ----------
    lowered : Lowered
        With default schedules.
    target : Target
    limit : int
        Schedules per kernel, the default not counted.
    by : {"instructions", "cycles"}
        What is to be least.
    jobs : int
        Images that are compiled and simulated at the same time.
    store : Store, optional
        Measurements; by default tapc's cache folder.
    advance : callable
        Told (done, total) variants.

    Raises
    ------
    UsageError
        No device runs the target, or no model of the core tells its cycles.
    """
    reason = obstacle(target)
    if reason is not None:
        raise UsageError(f"--tune measures in QEMU, and {reason}")
    if by == "cycles" and not cycles.available(target.name):
        raise UsageError(f"--tune-for cycles: there are no cycles to tune for: {cycles.source(target.name)}")
    store = store or Store(cache_folder() / "kernels")
    layers: dict[Tunable, list[Op]] = {}
    for step in lowered.steps:
        if isinstance(step.spec, ConvSpec | PooledSpec):
            layers.setdefault(step.spec, []).append(step.op)
    single = target.dual_issue
    variants = [_Variant(ops[0], spec) for default, ops in layers.items() for spec in _specs(default, limit, single)]
    sources = [tapc.kernels.__file__, tapc.base.arithmetic.__file__]
    if by == "cycles":
        sources.append(cycles.__file__)
    base = digest(
        [tree_digest(Path(path).parent, "*.py") for path in sources],
        [target.name, *target.cflags, *target.optimization, compiler_version(target.compiler)],
    )
    keys = {v.spec: digest(base, repr(v.spec)) for v in variants}
    known: dict[Tunable, int] = {}
    for v in variants:
        record = store.get(keys[v.spec])
        if isinstance(record, dict) and isinstance(record.get(by), int):
            known[v.spec] = record[by]
    cached = len(known)
    missing = [v for v in variants if v.spec not in known]
    advance(cached, len(variants))
    with ThreadPoolExecutor(jobs) as pool:
        pending: list[tuple[list[_Variant], Future[list[int]]]] = []
        for batch in _batches(missing):
            # TVM prints the kernels here, one batch after the other; compiler and simulator run beside it.
            network, x_bytes = _network(lowered.program, batch)
            pending.append((batch, pool.submit(_run, network, network.library(), target, x_bytes, by)))
        for batch, future in pending:
            for v, count in zip(batch, future.result(), strict=True):
                known[v.spec] = count
                store.put(keys[v.spec], {by: count, "spec": repr(v.spec)})
            advance(len(known), len(variants))
    schedules: dict[str, Schedule] = {}
    before = after = 0
    for default, ops in layers.items():
        best = min(_specs(default, limit, single), key=lambda spec: (known[spec], spec.tuned is not None))
        before += known[default] * len(ops)
        after += known[best] * len(ops)
        if best.tuned is not None:
            schedules |= {op.name: best.tuned for op in ops}
    return Tuning(schedules, len(missing), cached, before, after, by)


def _specs(default: Tunable, limit: int, single: bool) -> list[Tunable]:
    """Return the default and its variants that need no more memory; `single`: their words may be loaded one by one."""
    own = default.form.schedule
    offered = [
        replace(s, single=ahead)
        for s in default.form.candidates()
        for ahead in ((True, False) if single and (s.nested or (s.rows, s.pixels) == (2, 2)) else (False,))
    ]
    variants = [default.with_schedule(s) for s in offered if s != own]
    fitting = [
        v for v in variants if v.scratch_bytes <= default.scratch_bytes and v.weight_words <= default.weight_words
    ]
    return [default, *fitting[:limit]]


def _batches(variants: Iterable[_Variant]) -> Iterable[list[_Variant]]:
    batch: list[_Variant] = []
    for v in variants:
        size = sum(4 * w.spec.weight_words for w in [*batch, v])
        if batch and (len(batch) == BATCH or size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(v)
    if batch:
        yield batch


def _network(program: Program, batch: Sequence[_Variant]) -> tuple[Lowered, int]:
    """Return a network that runs every variant once, and the bytes of its input."""
    tensors: dict[str, Tensor] = {}
    ops: list[Op] = []
    for i, v in enumerate(batch):
        output = replace(program.tensors[v.op.output], name=f"variant{i}")
        tensors |= {name: program.tensors[name] for name in v.op.inputs} | {output.name: output}
        ops.append(replace(v.op, name=output.name, output=output.name))
    source = batch[0].op.inputs[0]
    variants = Program("variants", program.mode, tensors, tuple(ops), (source,), (ops[-1].output,), program.isa)
    schedules = {op.name: v.spec.form.schedule for op, v in zip(ops, batch, strict=True)}
    steps = steps_of(variants, schedules)
    return Lowered(variants, steps, plan(variants, steps, rounds=0), variants), tensors[source].bytes


def _run(network: Lowered, library: Library, target: Target, x_bytes: int, by: TuneFor) -> list[int]:
    """Return what each step takes."""

    def estimate(run: DeviceRun) -> cycles.Estimate:
        return cycles.estimate(run.image, run.blocks, target.name)

    done = simulate(library, target, x_bytes, estimate if by == "cycles" else None)
    counts = done.run.instructions_per_step
    if by == "instructions":
        return list(counts)
    rates = (done.extra.per_instruction(network.functions[step.spec]) for step in network.steps)
    return [round(rate * count) for rate, count in zip(rates, counts, strict=True)]
