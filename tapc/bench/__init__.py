"""Benchmarks: kernels alone, whole calls, counted in the simulator."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tapc import cycles
from tapc.base.arithmetic import arithmetic_of
from tapc.base.options import Options
from tapc.base.progress import Advance
from tapc.bench.layers import LAYERS, SOURCE, Layer, Peer
from tapc.device import DeviceRun
from tapc.flow.algorithms import forms_of
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.ir.program import Op, Program, Tensor
from tapc.kernels.conv import ConvSpec
from tapc.kernels.pooled import PooledSpec
from tapc.kernels.schedule import SPELLED, Algorithm, Schedule, transformed
from tapc.lower import Lowered
from tapc.lower.plan import plan
from tapc.lower.steps import steps_of
from tapc.operators.add import Add
from tapc.operators.weighted import Conv, MaxPool
from tapc.tuning.measure import simulate

__all__ = ["LAYERS", "SOURCE", "KernelFigure", "Layer", "Peer", "bench_kernels"]

Measured = Algorithm | Literal["built", "nested"]
"""How layers are computed: built, as builds have them without transforms; direct, by the kernels' own schedules;
nested, directly with two weights in a half-word."""

# Not round decimals: those make exact ties in additions, for which a slower kernel is needed.
_SCALES = {"x": 0.051377, "r": 0.043219, "y": 0.07131}


@dataclass(frozen=True)
class KernelFigure:
    """What one kernel needs for one layer.

    Attributes
    ----------
    layer : str
    w_bits, a_bits : int
    operations : int
        Multiply-accumulates, or elements of an addition.
    instructions : int
        Of the whole call, exact.
    cycles : float or None
        Estimated, with constants read once from the board's flash; None where no model is at hand.
    code_bytes : int
    schedule : str
        Rows x pixels x words of a convolution, "single" where they are loaded one by one; "nested", or a transform.
    peer : Peer or None
        The best published kernel for the same layer and bits on such a core.
    """

    layer: str
    w_bits: int
    a_bits: int
    operations: int
    instructions: int
    cycles: float | None
    code_bytes: int
    schedule: str
    peer: Peer | None

    @property
    def per_operation(self) -> float:
        """Instructions per MAC or element."""
        return self.instructions / self.operations


def bench_kernels(
    board: Board,
    target: Target,
    *,
    layers: Sequence[Layer] = LAYERS,
    w_bits: Sequence[int] = (8, 4, 2),
    a_bits: int = 8,
    algorithm: Measured = "built",
    seed: int = 0,
    advance: Advance = lambda done, total: None,
) -> list[KernelFigure]:
    """Measure layers with random weights on zero inputs.

    Parameters
    ----------
    board : Board
        Its clock and flash bandwidth enter the cycles; kernels run with the simulated machine's memory.
    target : Target
    layers : sequence of Layer
    w_bits : sequence of int
        Weight bits; an addition is measured once.
    a_bits : {4, 8}
        Bits of the input; outputs have 8.
    algorithm : {"built", "direct", "nested", "f2", "f4", "f2r", "f4r"}
        Of the layers that it can compute. "built": the direct schedule that a build with the default options has.
    seed : int
        Of the weights.
    advance : callable
        Told (done, total) layers.

    Raises
    ------
    UsageError
        The target has no simulator.
    """
    figures: list[KernelFigure] = []
    for done, layer in enumerate(layers):
        advance(done, len(layers))
        figures += _measure(board, target, layer, tuple(w_bits), a_bits, algorithm, seed)
    advance(len(layers), len(layers))
    return figures


def _program(target: Target, layer: Layer, w_bits: tuple[int, ...], a_bits: int, seed: int) -> Program:
    def tensor(name: str, kind: str, channels: int, bits: int) -> Tensor:
        zero = 0 if bits == 4 else -4
        return Tensor(name, (layer.height, layer.width, channels), bits, _SCALES[kind], zero)

    x = tensor("x", "x", layer.inputs, a_bits)
    tensors, ops = {"x": x}, list[Op]()
    if layer.kind == "add":
        tensors |= {t.name: t for t in (tensor("r", "r", layer.outputs, a_bits), tensor("y", "y", layer.outputs, 8))}
        ops = [Add("add", ("x", "r"), "y", -128, 127)]
    for bits in w_bits if layer.kind == "conv" else ():
        y = tensor(f"y{bits}", "y", layer.outputs, 8)
        tensors[y.name] = y
        half = 1 << (bits - 1)
        shape = (layer.outputs, layer.rows, layer.kernel, layer.inputs // layer.groups)
        # Each width has a generator: a figure must not depend on which others are measured.
        # No layer that is quantized here has -128.
        weights = np.random.default_rng((seed, bits)).integers(max(-half, -127), half, shape).astype(np.int8)
        bias, ratios = np.zeros(layer.outputs, np.int32), np.full(layer.outputs, 1e-3, np.float32)
        pads = (layer.rows // 2, layer.kernel // 2) * 2
        op = Conv(f"w{bits}", ("x",), y.name, weights, bits, bias, ratios, (1, 1), pads, layer.groups, -128, 127)
        if layer.pool > 1:
            window, sides = (layer.pool, layer.pool), (layer.height // layer.pool, layer.width // layer.pool)
            op = replace(op, pool=MaxPool("pool", y, window, window, -128, 127))
            tensors[y.name] = replace(y, shape=(*sides, layer.outputs))
        ops.append(op)
    program = Program("bench", target.requantize, tensors, tuple(ops), ("x",), (ops[-1].output,), target.isa)
    return program.with_ops(tuple(_eased(op, program) for op in ops))


def _eased(op: Op, program: Program) -> Op:
    """Return a layer with weight scales that are as easy as a compilation makes them."""
    if not isinstance(op, Conv):
        return op
    x, y, own = program.tensors["x"], program.tensors[op.output], arithmetic_of(program.mode)
    scales = op.easier_scales(program, np.full(len(op.bias), op.ratios[0] * y.scale / x.scale, np.float32))
    return op if scales is None else replace(op, ratios=own.ratios((x.scale, scales), y.scale))


def _schedules(program: Program, target: Target, algorithm: Measured) -> dict[str, Schedule]:
    """Return the schedules that are not the default."""
    if algorithm == "direct":
        return {}
    if algorithm == "built":
        forms = forms_of(target, Options())
        usual = {step.op.name: forms.default(step, program) for step in steps_of(program)}
        return {name: schedule for name, schedule in usual.items() if schedule is not None}
    if algorithm != "nested":
        return {op.name: transformed(algorithm, single=target.dual_issue) for op in program.ops}
    direct = {step.op.name: step.spec for step in steps_of(program)}
    own = {name: spec.form for name, spec in direct.items() if isinstance(spec, ConvSpec | PooledSpec)}
    found = {name: form.nested(SPELLED, single=target.dual_issue) for name, form in own.items()}
    return {name: schedule for name, schedule in found.items() if schedule is not None}


def _measure(
    board: Board,
    target: Target,
    layer: Layer,
    w_bits: tuple[int, ...],
    a_bits: int,
    algorithm: Measured,
    seed: int,
) -> list[KernelFigure]:
    program = _program(target, layer, w_bits, a_bits, seed)
    steps = steps_of(program, _schedules(program, target, algorithm))
    network = Lowered(program, steps, plan(program, steps, rounds=0), program)
    library = network.library()

    def estimate(run: DeviceRun) -> cycles.Estimate | None:
        return cycles.estimate(run.image, run.blocks, target.name) if cycles.available(target.name) else None

    done = simulate(library, target, program.tensors["x"].bytes, estimate)
    names, counts = network.functions, done.run.instructions_per_step
    estimated = [None] * len(steps) if done.extra is None else cycles.step_cycles(done.extra, network, counts, board)
    figures = []
    for step, bits, count, own in zip(steps, w_bits, counts, estimated, strict=False):
        schedule = ""
        if isinstance(step.spec, ConvSpec | PooledSpec):
            s = step.spec.form.schedule
            schedule = f"{s.rows}x{s.pixels}x{s.unroll}" + " single" * s.single if s.way == "direct" else s.way
        bits = bits if layer.kind == "conv" else 8
        figures.append(
            KernelFigure(layer.name, bits, a_bits, layer.operations, count, own, done.code_bytes(names[step.spec]),
                         schedule, layer.peer(target.name, bits, a_bits))
        )  # fmt: skip
    return figures
