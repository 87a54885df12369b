"""Which widths for an NPU: 2 to 8 bits, as its weight coder makes each of them fewer bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tapc.allocate import (
    Allocation,
    AllocationProblem,
    Budgets,
    Choice,
    GroupChoices,
    LayerChoices,
    solve,
)
from tapc.base.errors import BudgetError, UsageError
from tapc.base.options import Options
from tapc.base.progress import Stages
from tapc.flow.balancing import suited
from tapc.flow.decide import MEASURED, Evidence
from tapc.flow.npu_divided import layer_costs, placed_on
from tapc.flow.npu_whole import npu_of
from tapc.flow.rivals import best_together
from tapc.frontend import FloatModel
from tapc.graph.analysis import analyse
from tapc.graph.network import Network
from tapc.hardware.board import Board
from tapc.hardware.npu import Npu
from tapc.npu.parts import Divided, NpuPart, kernel_bits
from tapc.npu.tables import Costs, Tables, tables_of
from tapc.quantize import Calibration, QuantizedModel, quantize, uniform_bits
from tapc.quantize.alone import Losses, measured_losses
from tapc.quantize.rate import entropy
from tapc.quantize.rounding import Given
from tapc.quantize.runtime import Float
from tapc.quantize.together import rounded_quickly
from tapc.quantize.weights import QuantizedWeights

_ATTEMPTS = 4
_CORRECTIONS = 2
"""How often weights are rounded again where the file is not as long as predicted."""
_NEAR = 0.003
"""Of the predicted bytes, within which a file is as long."""
_MOST = 1.1
"""By which a layer's rate may change at once."""


@dataclass(frozen=True, eq=False)
class NpuDecision:
    """Chosen widths, and what they were predicted to take.

    Attributes
    ----------
    allocation : Allocation
    quantized : QuantizedModel
    tables : Tables
    placement : NpuPart or Divided
        The quantized network, compiled.
    """

    allocation: Allocation
    quantized: QuantizedModel
    tables: Tables
    placement: NpuPart | Divided

    @property
    def flash(self) -> int:
        """Predicted bytes of the optimized file."""
        bits = self.allocation.bits.weights
        return self.tables.fixed_flash + sum(self.tables.flash[layer][width] for layer, width in bits.items())

    @property
    def cycles(self) -> int:
        """Predicted cycles."""
        bits = self.allocation.bits.weights
        return self.tables.fixed_cycles + sum(self.tables.cycles[layer][width] for layer, width in bits.items())


def problem_of(
    network: Network, tables: Tables, losses: Losses, npu: Npu, options: Options, cycles: float | None
) -> AllocationProblem:
    """State the problem: flash and cycles by layer and width, and measured losses.

    Parameters
    ----------
    network : Network
    tables : Tables
    losses : dict of str to dict of int to float
        Layer -> weight bits -> loss.
    npu : Npu
    options : Options
        Budgets of flash and average bits.
    cycles : float or None
        Budget.
    """
    groups = tuple(GroupChoices(group.interface, (8,)) for group in network.groups)
    layers = tuple(
        LayerChoices(
            layer.name, layer.input_group, layer.parameters,
            tuple(
                Choice(width, 8, losses[layer.name][width], tables.flash[layer.name][width],
                       tables.cycles[layer.name][width], layer.macs * width * 8)
                for width in sorted(tables.flash[layer.name])
            ),
        )
        for layer in network.layers
    )  # fmt: skip
    budgets = Budgets(flash=options.flash, latency=cycles, target_bits=options.target_bits)
    return AllocationProblem(
        layers, groups, budgets, tables.fixed_flash, tables.fixed_cycles, None, "cycles",
        {"flash": f"the {'constants and commands' if tables.cpu else 'file'} for {npu.accelerator}"},
    )  # fmt: skip


def decide_for_npu(
    model: FloatModel, calibration: Calibration, x: Float, board: Board, widths: tuple[int, ...], options: Options,
    stages: Stages,
) -> tuple[FloatModel, NpuDecision]:  # fmt: skip
    """Choose widths and quantize.

    Parameters
    ----------
    model : FloatModel
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    board : Board
        One with an NPU.
    widths : tuple of int
        On offer, of 2 to 8 bits.
    options : Options
        Budgets, rounding and seed.
    stages : Stages

    Returns
    -------
    FloatModel
        Equalized for the widths, where it was for others.
    NpuDecision

    Raises
    ------
    AllocationError
        No widths fit.
    BudgetError
        They fit by prediction, and not as coded.
    """
    if options.proxy != MEASURED or options.allocator != "ilp":
        raise UsageError("widths for an NPU are chosen by measured losses: leave out --proxy and --allocator")
    npu = npu_of(board)
    cycles = None if options.latency is None else npu_cycles(options, npu)
    if cycles is None and options.flash is None and options.target_bits is None:
        widths = (max(widths),)  # nothing asks for fewer
    network = analyse(model.onnx, model.name)
    names = [layer.name for layer in network.layers]

    asked = tuple(sorted({*widths, *(kernel_bits(width) for width in widths)}))  # the latter for layers of the CPU
    rounded: dict[str, dict[int, QuantizedWeights]] = {name: {} for name in names}
    with stages.stage("losses"):
        losses = measured_losses(
            model, network, x, asked, options.rounding, lambda name, found: rounded[name].update({found.bits: found})
        )

    def at(width: int, cpu: frozenset[str]) -> Costs:
        bits = uniform_bits(network, width, 8)
        bits = replace(bits, weights={**bits.weights, **dict.fromkeys(cpu, kernel_bits(width))})
        made = rounded_quickly(model, network, bits, calibration, x[:1], Given(rounded))
        return layer_costs(placed_on(board, made, model.name), board)

    with stages.stage("vela, each width") as advance:
        tables = tables_of(names, widths, at, advance)
    evidence = Evidence(model, network, calibration, x, options)
    problem = problem_of(network, tables, losses, npu, options, cycles)
    budget, flash, over = options.flash, options.flash, 0
    for _ in range(_ATTEMPTS):
        with stages.stage("allocate"):
            bounded = replace(problem, budgets=replace(problem.budgets, flash=flash))
            try:
                allocation = solve(bounded)
            except BudgetError:
                if over <= 0:
                    raise
                break  # by prediction, no widths are left that take as little
            widest = all(allocation.bits.weights[name] == max(tables.flash[name]) for name in names)
            if len(widths) > 1 and not widest:
                allocation = best_together(bounded, allocation, evidence.together)
        decision, suitable, file = _coded(evidence, allocation, tables, rounded, board, budget, stages)
        over = 0 if budget is None else file - budget
        if over <= 0:
            return suitable, decision
        # Rounded otherwise than for the tables, weights may take a few more bytes: the next choice must be smaller.
        flash = decision.flash - over
    raise BudgetError(
        f"widths fit --flash by prediction, and not as coded: {options.flash:,} bytes are {over:,} too few; the "
        f"smallest budget that works is {(options.flash or 0) + over:,} bytes (--flash)"
    )


def _coded(
    evidence: Evidence, allocation: Allocation, tables: Tables, rounded: Mapping[str, Mapping[int, QuantizedWeights]],
    board: Board, budget: int | None, stages: Stages,
) -> tuple[NpuDecision, FloatModel, int]:  # fmt: skip
    """Quantize at the rates of the tables until the file is as long as predicted; return its bytes, too."""
    bits, options, x = allocation.bits, evidence.options, evidence.x
    with stages.stage("quantize"):
        model, calibration = suited(evidence.model, evidence.calibration, x, bits, options.seed)
    # Kernels of the CPU read packed weights, of which no code is shorter.
    rates = {
        name: float(width) if name in tables.cpu else entropy(rounded[name][width].values, width)
        for name, width in bits.weights.items()
    }
    for correction in range(_CORRECTIONS + 1):
        with stages.stage("quantize") as advance:
            quantized = quantize(model, evidence.network, bits, calibration, x=x, rounding=options.rounding,
                                 rates=rates, seed=options.seed, advance=advance)  # fmt: skip
        with stages.stage("vela"):
            placement = placed_on(board, quantized.onnx, model.name)
        decision, costs = NpuDecision(allocation, quantized, tables, placement), layer_costs(placement, board)
        file = costs.total_flash
        near = abs(file - decision.flash) <= _NEAR * decision.flash and (budget is None or file <= budget)
        if near or options.rounding != "rate" or correction == _CORRECTIONS:
            break
        # The coder is near the entropy, and not at it.
        npu = [name for name in rates if name not in tables.cpu]
        coded = sum(costs.flash[name] for name in npu)
        wanted = coded + decision.flash - file
        for name in npu:
            rates[name] *= float(np.clip(wanted / max(1, coded), 1 / _MOST, _MOST))
    return decision, model, file


def npu_cycles(options: Options, npu: Npu) -> float:
    """Return a budget of time in cycles of the NPU.

    Raises
    ------
    UsageError
        It is one in instructions.
    """
    assert options.latency is not None
    unit, amount = options.latency.unit, options.latency.amount
    if unit == "ms":
        return amount * 1e-3 * npu.clock_hz
    if unit == "cycles":
        return amount
    raise UsageError("an NPU runs no instructions: give --latency in ms or cycles, such as 5ms or 1.2Mcycles")
