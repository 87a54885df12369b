"""Which bits: scores from a proxy, measured distortions, the core's costs, the board's budgets."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

from tapc.allocate import (
    Allocation,
    AllocationOptions,
    AllocationProblem,
    Overrides,
    build_problem,
    load_overrides,
    solve,
)
from tapc.base.errors import DataError, UsageError
from tapc.base.options import Options
from tapc.cost.layers import NetworkCost
from tapc.flow.algorithms import forms_of
from tapc.flow.balancing import suited
from tapc.flow.latency import meter
from tapc.flow.patches import most_extra, ram_limit
from tapc.flow.rivals import best_together
from tapc.frontend import FloatModel
from tapc.graph.interface import input_ports
from tapc.graph.network import ACTIVATION_BITS, WEIGHT_BITS, WIDE_BITS, Bits, Network
from tapc.graph.streaming import streaming, time_axis
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.kernels.spec import KernelSpec
from tapc.lower.from_onnx import program_from_onnx
from tapc.proxy import ProgramProxy, ProxyContext, get_proxy
from tapc.proxy.columns import Table
from tapc.proxy.contract import Target as BitsTarget
from tapc.quantize import Calibration, HasGraph, layer_distortion, quantize, uniform_bits
from tapc.quantize.alone import Losses, measured_losses
from tapc.quantize.problem import Doubles
from tapc.quantize.runtime import Float
from tapc.quantize.sensitivity import proxy_context
from tapc.quantize.shares import Errors
from tapc.quantize.streaming import quantized_step
from tapc.quantize.together import joint_loss

MEASURED = "error"
"""The proxy that is a measurement: its losses are measured at every width, with the rounding that will be used."""
Distortion = Mapping[str, Mapping[tuple[int, int], float]]


@dataclass(frozen=True)
class Decision:
    """The chosen bits and the scores that led to them.

    Attributes
    ----------
    sensitivity : dict of str to float
        Empty where there was nothing to choose.
    allocation : Allocation
    specs : frozenset of KernelSpec
        Kernels that the network is predicted to have; rounded, it may have a few others.
    problem : AllocationProblem or None
        That was solved; None where there was nothing to choose.
    """

    sensitivity: dict[str, float]
    allocation: Allocation
    specs: frozenset[KernelSpec] = frozenset()
    problem: AllocationProblem | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Known:
    """Scores and losses of layers that need not be measured again: parts of layers have shares of these."""

    scores: dict[str, float]
    losses: Losses


@dataclass(frozen=True, eq=False)
class Evidence:
    """What bits are chosen by; measured when first asked for, once for all budgets and boards.

    Attributes
    ----------
    model : FloatModel
    network : Network
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    options : Options
        Proxy, widths on offer, rounding and seed; its budgets play no part.
    known : Known, optional
        In place of what would be measured.
    """

    model: FloatModel
    network: Network
    calibration: Calibration
    x: Float
    options: Options
    known: Known | None = None
    _costs: dict[tuple[object, ...], NetworkCost] = field(default_factory=dict, repr=False)
    _together: dict[tuple[object, ...], float] = field(default_factory=dict, repr=False)

    @cached_property
    def distortion(self) -> Distortion:
        """Each layer's own error at each pair of bits."""
        return layer_distortion(self.model, self.network, self.calibration, self.x)

    @cached_property
    def context(self) -> ProxyContext:
        """What the proxy sees."""
        lowest, seed = min(self.options.wbits), self.options.seed
        return proxy_context(self.model, self.network, self.calibration, self.x, self.distortion, lowest, seed)

    @cached_property
    def scores(self) -> dict[str, float]:
        """The proxy's score of every layer."""
        if self.known is not None:
            return self.known.scores
        return get_proxy(self.options.proxy).score(self.context)

    @cached_property
    def _measured(self) -> tuple[Losses, dict[str, dict[int, Doubles]]]:
        errors: dict[str, dict[int, Doubles]] = {}

        def told(layer: str, bits: int, own: Doubles) -> None:
            errors.setdefault(layer, {})[bits] = own

        options = self.options
        return measured_losses(
            self.model, self.network, self.x, options.wbits, options.rounding, errors=told
        ), errors  # fmt: skip

    @property
    def losses(self) -> Losses:
        """Measured loss of every layer alone at every width on offer."""
        return self._measured[0] if self.known is None else self.known.losses

    @property
    def channel_errors(self) -> Errors:
        """Mean squared error of every output channel of every layer alone at every width on offer."""
        return self._measured[1]

    def together(self, bits: Bits) -> float:
        """Return the measured loss of the network with all layers at their bits, equalized for these."""
        key = (*sorted(bits.weights.items()), *sorted(bits.activations.items()))
        if key not in self._together:
            model, calibration = suited(self.model, self.calibration, self.x, bits, self.options.seed)
            self._together[key] = joint_loss(model, self.network, bits, calibration, self.x, self.options.rounding)
        return self._together[key]

    def cost(self, board: Board, target: Target, options: Options) -> NetworkCost:
        """Return what the network costs on a board with any bits; options say which are on offer."""
        bounded = options.latency is not None, options.latency_unit
        key = board.name, max(options.wbits), max(options.abits), options.optimize, bounded
        if key not in self._costs:
            self._costs[key] = network_cost(self.model, self.network, self.calibration, self.x, board, target, options)
        return self._costs[key]

    def least_ram(self, board: Board, target: Target, options: Options) -> int:
        """Peak RAM in bytes when every activation that may has the fewest bits on offer."""
        cost = self.cost(board, target, options)
        problem = bit_problem(self.network, self.distortion, cost, board, options)
        assert problem.ram is not None
        return problem.ram({index: min(group.allowed) for index, group in enumerate(problem.groups)}).bytes


def decide(evidence: Evidence, board: Board, target: Target, options: Options) -> Decision:
    """Choose the bits under the board's and the user's budgets.

    Parameters
    ----------
    evidence : Evidence
    board : Board
    target : Target
    options : Options
        Those of the evidence, but for budgets and activation bits.

    Raises
    ------
    AllocationError
        No bits fit: names the budgets and the smallest that work.
    """
    cost = evidence.cost(board, target, options)
    if _settled(options):
        nothing = {
            layer.name: dict.fromkeys(product(WEIGHT_BITS, (*ACTIVATION_BITS, WIDE_BITS)), 0.0)
            for layer in evidence.network.layers
        }
        allocation = solve(bit_problem(evidence.network, nothing, cost, board, options))
        _, steps = cost.steps(allocation.bits)
        return Decision({}, allocation, frozenset(step.spec for step in steps))
    scores, overrides = evidence.scores, None
    if options.allocator == "proxy":
        proxy, statistics = get_proxy(options.proxy), evidence.context.statistics
        if not isinstance(proxy, ProgramProxy) or statistics is None:
            raise UsageError(f"--allocator proxy needs a proxy file with its own allocate; {options.proxy!r} has none")
        overrides = own_bits(proxy, scores, statistics(), options)
    problem = bit_problem(evidence.network, evidence.distortion, cost, board, options, overrides)
    problem = with_scores(problem, {layer: score**options.score_exponent for layer, score in scores.items()})
    allocation = solve(problem)
    if options.proxy == MEASURED and options.allocator == "ilp" and not widest(problem, allocation):
        problem = with_losses(problem, evidence.losses)
        allocation = best_together(problem, solve(problem), evidence.together)
    _, steps = cost.steps(allocation.bits)
    specs = frozenset(step.spec for step in steps)
    return Decision(scores, allocation, specs, problem)


def _settled(options: Options) -> bool:
    """Whether one width is on offer for all weights and one for all activations, so that nothing needs to be ranked."""
    return len(options.wbits) == 1 == len(options.abits) and options.proxy == MEASURED and options.allocator == "ilp"


def widest(problem: AllocationProblem, allocation: Allocation) -> bool:
    """Whether everything has the most bits that it may have, so that no measurement could choose better ones."""
    bits = allocation.bits
    return all(
        bits.weights[layer.name] == max(choice.w_bits for choice in layer.choices) for layer in problem.layers
    ) and all(bits.activations[index] == max(group.allowed) for index, group in enumerate(problem.groups))


def own_bits(proxy: ProgramProxy, scores: Mapping[str, float], table: Table, options: Options) -> Overrides:
    """Return the weight bits of a program's own ``allocate`` as overrides.

    Raises
    ------
    UsageError
        No average is given that it could aim at.
    DataError
        The program breaks the contract.
    """
    if options.target_bits is None:
        raise UsageError("--allocator proxy needs --target-bits: the average that the proxy's allocate aims at")
    names = [str(row["name"]) for row in table]
    target = BitsTarget(options.target_bits, tuple(sorted(options.wbits)))
    bits = proxy.allocate([scores[name] for name in names], table, target)
    return Overrides(weights=dict(zip(names, bits, strict=True)))


def network_cost(
    model: HasGraph,
    network: Network,
    calibration: Calibration,
    x: Float,
    board: Board,
    target: Target,
    options: Options,
) -> NetworkCost:
    """Return what the network costs on a board with any bits; arguments as for `Evidence` and `decide`."""
    # Only its shapes, scales and dead channels matter: it is re-labelled with the bits in question. More bits leave
    # more channels alive, so the most on offer predict enough.
    widest = uniform_bits(network, max(options.wbits), max(options.abits))
    template = quantize(model, network, widest, calibration, x=x[:1], bias_correction=False)
    if options.stream is not None:
        step = streaming(model.onnx, time_axis(input_ports(model.onnx), options.stream))
        template = quantized_step(template, step, None)
    program = program_from_onnx(template.onnx, network.name, target.requantize, target.isa)
    own = meter(board, target, options)
    return NetworkCost(program, network, own.cost, forms_of(target, options), own.of)


def bit_problem(
    network: Network,
    distortion: Distortion,
    cost: NetworkCost,
    board: Board,
    options: Options,
    overrides: Overrides | None = None,
) -> AllocationProblem:
    """State the allocation problem for a proxy that scores every layer 1; see `with_scores`.

    A layer's loss at given bits is its score times its distortion relative to that at the lowest weight bits and
    8-bit activations, so that the score is the loss there.

    Parameters
    ----------
    network : Network
    distortion : mapping
        From `layer_distortion`.
    cost : NetworkCost
    board, options
        As for `decide`.
    overrides : Overrides, optional
        In place of those that the options name.
    """
    fixed_flash, fixed_latency = cost.fixed()
    capacity, limit = board.flash_bytes(not options.no_external), ram_limit(board, options, cost.besides_arena)
    if overrides is None:
        overrides = Overrides() if options.overrides is None else load_overrides(options.overrides)
    return build_problem(
        network,
        {layer.name: 1.0 for layer in network.layers},
        relative_distortion(distortion, min(options.wbits)),
        cost,
        AllocationOptions(
            wbits=options.wbits,
            abits=options.abits,
            flash=capacity if options.flash is None else min(options.flash, capacity),
            ram=limit,
            latency=None if options.latency is None else options.latency.amount,
            bops=options.bops,
            target_bits=options.target_bits,
            pin_first=options.pin_first,
            pin_last=options.pin_last,
            overrides=overrides,
        ),
        ram=lambda groups: cost.ram(groups, None if options.no_patches else limit, most_extra(board, options)),
        fixed_flash=fixed_flash,
        fixed_latency=fixed_latency,
        latency_unit=options.latency_unit,
        regions={"flash": flash_regions(board, options), "ram": f"region {board.arena_region.name}"},
    )


def flash_regions(board: Board, options: Options) -> str:
    """Say in which regions flash is counted."""
    outside = board.external_flash
    if outside is None:
        return f"region {board.flash.name}"
    how = f"without {outside.name}" if options.no_external else f"and region {outside.name}"
    return f"region {board.flash.name} {how}"


def relative_distortion(distortion: Distortion, low_bits: int) -> dict[str, dict[tuple[int, int], float]]:
    """Return each layer's distortions over the one at the lowest weight bits and 8-bit activations.

    A layer that the lowest bits do not distort has zeros: nothing can be learned of it from its score.
    """
    result: dict[str, dict[tuple[int, int], float]] = {}
    for layer, pairs in distortion.items():
        lowest = pairs[low_bits, 8]
        result[layer] = {pair: value / lowest if lowest > 0 else 0.0 for pair, value in pairs.items()}
    return result


def with_losses(problem: AllocationProblem, losses: Mapping[str, Mapping[int, float]]) -> AllocationProblem:
    """Return a problem whose losses are measured ones.

    What 4-bit activations add is known relative to the loss at the lowest weight bits only, and is added in proportion.

    Parameters
    ----------
    problem : AllocationProblem
        Its losses are relative to those at the lowest weight bits and 8-bit activations.
    losses : mapping of str to mapping of int to float
        Layer -> weight bits -> loss with 8-bit activations. A width without one is a layer's only choice (an override
        or a pin), whose loss decides nothing.
    """
    layers = []
    for layer in problem.layers:
        own = losses[layer.name]
        lowest = own[min(own)]
        plain = {choice.w_bits: choice.loss for choice in layer.choices if choice.a_bits == 8}
        choices = []
        for choice in layer.choices:
            wide = plain.get(choice.w_bits, 0.0)
            extra = max(0.0, choice.loss - wide) * lowest if choice.a_bits < 8 else 0.0
            choices.append(replace(choice, loss=own.get(choice.w_bits, 0.0) + extra))
        layers.append(replace(layer, choices=tuple(choices)))
    return replace(problem, layers=tuple(layers))


def with_scores(problem: AllocationProblem, scores: Mapping[str, float]) -> AllocationProblem:
    """Return a problem whose losses are multiplied with the scores of their layers.

    Raises
    ------
    DataError
        A layer without a score.
    """
    missing = [layer.name for layer in problem.layers if layer.name not in scores]
    if missing:
        raise DataError(f"layer {missing[0]!r} has no score")
    layers = (
        replace(layer, choices=tuple(replace(c, loss=c.loss * scores[layer.name]) for c in layer.choices))
        for layer in problem.layers
    )
    return replace(problem, layers=tuple(layers))
