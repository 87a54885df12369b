"""A network that is quantized already: built as it is, without calibration and without a choice of bits."""

from dataclasses import replace
from pathlib import Path

from tapc.allocate import Allocation
from tapc.base.arithmetic import Mode
from tapc.base.errors import BudgetError, UsageError
from tapc.base.options import Options
from tapc.base.progress import Stages
from tapc.cost.model import load_coefficients
from tapc.flow.attempt import Attempt, beyond, in_fast_ram, listed, realize, use_of
from tapc.flow.decide import Decision
from tapc.flow.inputs import Data
from tapc.flow.patches import with_patches
from tapc.flow.streaming import step_of
from tapc.frontend import FloatModel
from tapc.graph.analysis import Graph, analyse
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.lower import Lowered, lower
from tapc.lower.patches import summaries
from tapc.quantize.keep import given_bits, keep, real_tensors
from tapc.quantize.streaming import quantized_step

_FEW = 32
"""Calibration samples that a comparison with the source takes: nothing is calibrated."""


def arithmetic_for(model: FloatModel, target: Target, options: Options) -> Target:
    """Return a core with the arithmetic that a network is to be computed in.

    That which was asked for, else that of the source's own runtime where it is kept, else the core's.
    """
    own: Mode = model.given.mode if model.given is not None else ""
    return replace(target, requantize=options.arithmetic or own or target.requantize)


def kept_options(model: FloatModel, options: Options) -> Options:
    """Return the options for a network that is kept as it is.

    Raises
    ------
    UsageError
        One that only a choice of bits could follow, or a float network that is to be kept.
    """
    if model.given is None:
        if options.keep:
            raise UsageError(f"{model.name} is a float network: its layers hold no integers to keep; leave out --keep")
        return options
    usual = Options()
    for name in ("target_bits", "bops", "overrides", "wbits", "abits", "granularity"):
        if getattr(options, name) != getattr(usual, name):
            raise UsageError(
                f"{model.name} is quantized already ({model.given.kind}) and is kept as it is: "
                f"--{name.replace('_', '-')} needs --requantize"
            )
    return replace(options, equalize=False, calibration=min(options.calibration, _FEW))


def kept(
    model: FloatModel, samples: Data, board: Board, target: Target, folder: Path, options: Options, stages: Stages
) -> tuple[Board, Attempt, tuple[str, ...]]:
    """Build a quantized network as it is; the activations in external RAM where they fit nowhere else.

    Returns
    -------
    Board
        As it is used.
    Attempt
    tuple of str
        Warnings.

    Raises
    ------
    BudgetError
        It does not fit: there is nothing to choose.
    """
    assert model.given is not None
    network = analyse(model.onnx, model.name)
    with stages.stage("quantize"):
        quantized = keep(model, network, model.given, samples.calibration.x)
    bits = given_bits(network, model.given)
    decision = Decision({}, Allocation(bits, 0.0, 0.0, 0.0, {}, "uniform"))
    with stages.stage("lower"):
        step = step_of(model, options)
        built = quantized if step is None else quantized_step(quantized, step, model.given)
        network_in_c = lower(built.onnx, model.name, target.requantize, target.isa, seed=options.seed)
    network_in_c = with_patches(network_in_c, board, target, options)
    silicon = _roomy(board, target, network_in_c, options)
    attempt = realize(decision, model, quantized, samples.test, silicon, target, folder, options, stages)
    silicon, attempt = in_fast_ram(silicon, attempt)
    over = beyond(use_of(attempt, board, target, options), silicon, options)
    if over:
        patches = "; ".join(map(str, summaries(attempt.lowered.program)))
        how = f", computed in patches: {patches}" if patches else ""
        raise BudgetError(
            f"{model.name}, kept as it is ({model.given.kind}), is too large: {listed(over, options)} too many{how}; "
            "with --requantize tapc may choose fewer bits"
        )
    return silicon, attempt, (*_idle(model.name, options), *_left_open(real_tensors(Graph(model.onnx), model.given)))


def _idle(name: str, options: Options) -> tuple[str, ...]:
    """Say which options only tell how bits and codes are chosen."""
    usual = Options()
    told = [field for field in ("proxy", "allocator", "rounding") if getattr(options, field) != getattr(usual, field)]
    told += ["pin"] if options.pin_first or options.pin_last else []
    if not told:
        return ()
    shown = ", ".join(f"--{field}" for field in told)
    return (f"{name} is quantized already and is kept as it is: without --requantize these have no effect: {shown}",)


def _left_open(tensors: tuple[str, ...]) -> tuple[str, ...]:
    if not tensors:
        return ()
    named = ", ".join(map(repr, tensors[:3])) + (" ..." if len(tensors) > 3 else "")
    return (
        f"the source leaves {len(tensors)} tensor(s) as real values ({named}): their ranges were measured on the "
        "calibration samples",
    )


def _roomy(board: Board, target: Target, lowered: Lowered, options: Options) -> Board:
    """Return the board with its arena where the activations fit."""
    outside = None if options.no_external or options.ram is not None else board.external_ram
    besides = load_coefficients(target.cost).besides_arena
    fits = lowered.plan.size + besides <= board.ram_limit(besides)
    return board if fits or outside is None else board.with_arena(outside)
