"""Tuning: schedules of convolutions, measured instruction by instruction in the simulator.

A schedule never changes a result, so it is chosen after everything else. Measurements are cached by content: the
kernel's specification, the code that generates it, the compiler and its flags.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import tapc.base.arithmetic
import tapc.kernels
from tapc.base.cache import Store, cache_folder, digest, tree_digest
from tapc.base.errors import UsageError
from tapc.base.progress import Advance
from tapc.device import obstacle
from tapc.firmware.toolchain import compiler_version
from tapc.hardware.target import Target
from tapc.ir.program import Op, Program, Tensor
from tapc.kernels.conv import ConvSpec
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import Schedule, Tuning
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
    jobs : int
        Images that are compiled and simulated at the same time.
    store : Store, optional
        Measurements; by default tapc's cache folder.
    advance : callable
        Told (done, total) variants.

    Raises
    ------
    UsageError
        No device runs the target.
    """
    reason = obstacle(target)
    if reason is not None:
        raise UsageError(f"--tune measures in QEMU, and {reason}")
    store = store or Store(cache_folder() / "kernels")
    layers: dict[Tunable, list[Op]] = {}
    for step in lowered.steps:
        if isinstance(step.spec, ConvSpec | PooledSpec):
            layers.setdefault(step.spec, []).append(step.op)
    variants = [_Variant(ops[0], spec) for default, ops in layers.items() for spec in _specs(default, limit)]
    base = digest(
        [tree_digest(Path(path).parent, "*.py") for path in (tapc.kernels.__file__, tapc.base.arithmetic.__file__)],
        [target.name, *target.cflags, *target.optimization, compiler_version(target.compiler)],
    )
    keys = {v.spec: digest(base, repr(v.spec)) for v in variants}
    known: dict[Tunable, int] = {}
    for v in variants:
        record = store.get(keys[v.spec])
        if isinstance(record, dict) and isinstance(record.get("instructions"), int):
            known[v.spec] = record["instructions"]
    cached = len(known)
    missing = [v for v in variants if v.spec not in known]
    advance(cached, len(variants))
    with ThreadPoolExecutor(jobs) as pool:
        pending: list[tuple[list[_Variant], Future[list[int]]]] = []
        for batch in _batches(missing):
            # TVM prints the kernels here, one batch after the other; compiler and simulator run beside it.
            library, x_bytes = _library(lowered.program, batch)
            pending.append((batch, pool.submit(_run, library, target, x_bytes)))
        for batch, future in pending:
            for v, count in zip(batch, future.result(), strict=True):
                known[v.spec] = count
                store.put(keys[v.spec], {"instructions": count, "spec": repr(v.spec)})
            advance(len(known), len(variants))
    schedules: dict[str, Schedule] = {}
    before = after = 0
    for default, ops in layers.items():
        best = min(_specs(default, limit), key=lambda spec: (known[spec], spec.tuned is not None))
        before += known[default] * len(ops)
        after += known[best] * len(ops)
        if best.tuned is not None:
            schedules |= {op.name: best.tuned for op in ops}
    return Tuning(schedules, len(missing), cached, before, after)


def _specs(default: Tunable, limit: int) -> list[Tunable]:
    """Return the default and its variants that need no more memory."""
    own = default.form.schedule
    variants = [default.with_schedule(s) for s in default.form.candidates() if s != own]
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


def _library(program: Program, batch: Sequence[_Variant]) -> tuple[Library, int]:
    """Generate one library that runs every variant once."""
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
    library = Lowered(variants, steps, plan(variants, steps, rounds=0), variants).library()
    return library, tensors[source].bytes


def _run(library: Library, target: Target, x_bytes: int) -> list[int]:
    return list(simulate(library, target, x_bytes).run.instructions_per_step)
