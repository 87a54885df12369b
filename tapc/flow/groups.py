"""Channel granularity: layers become parts by how much their output channels lose, and each part gets its own bits.

The float network is rewritten before anything is quantized: the channels of a layer are sorted, the order goes through
the network to whatever reads them, and up to three convolutions over runs of them stand in place of one. All that comes
later, the choice of bits, rounding, kernels and proofs, sees ordinary layers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tapc.allocate import Allocation, AllocationError, AllocationProblem
from tapc.allocate.groups import ChannelLosses, Parts, group_sizes, shared_sizes
from tapc.allocate.overrides import load_overrides, resolve_overrides
from tapc.base.errors import UnsupportedError, UsageError
from tapc.base.options import Options
from tapc.flow.decide import Decision, Evidence, Known, decide, widest
from tapc.flow.fidelity import transformed
from tapc.graph.analysis import Graph, analyse
from tapc.graph.network import Bits, Network
from tapc.graph.order import Order, reordered, ties
from tapc.graph.parts import part_name
from tapc.graph.split import divided, divisible
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.proxy import ProgramProxy, get_proxy
from tapc.quantize import calibrate
from tapc.quantize.problem import Doubles
from tapc.quantize.shares import channel_shares

BLOCK = 4
"""Channels that kernels compute together; parts have multiples of them."""
_BLOCKS = (1, 4)
"""How many times that many are tried: of larger parts there are fewer."""
_STEPS = 64
"""Places for a border between parts, at most; layers of many channels have larger blocks."""
_CALL_BYTES = 48
"""What a kernel call takes in flash beside weights and code."""


@dataclass(frozen=True, eq=False)
class Grouped:
    """A network whose layers may be in parts.

    Attributes
    ----------
    evidence : Evidence
        Of the rewritten network; that of the layers where parts do not pay.
    groups : dict of str to tuple of (int, int)
        Layer in parts -> weight bits and output channels of each, as they were chosen together.
    warnings : tuple of str
        Why nothing is in parts.
    """

    evidence: Evidence
    groups: dict[str, Parts] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def in_groups(evidence: Evidence, board: Board, target: Target, options: Options) -> Grouped:
    """Divide the layers of a network where the network loses less with it, under the budgets of the options.

    Parameters
    ----------
    evidence : Evidence
        Of the network as it is.
    board, target, options
        As for `decide`.

    Raises
    ------
    UsageError
        One width on offer, or a proxy's own ``allocate``.
    UnsupportedError
        No layer can be divided: the order of all channels is fixed.
    """
    if len(options.wbits) < 2:
        raise UsageError("--granularity channel gives channels different weight bits: offer several, as --wbits 2,4,8")
    if options.allocator == "proxy":
        raise UsageError("--granularity channel chooses groups itself: leave out --allocator proxy")
    graph = Graph(evidence.model.onnx)
    fixed = _fixed(evidence, options)
    sizes = {layer.name: layer.weight_shape[0] for layer in evidence.network.layers}
    free = {name for name in divisible(graph) if sizes[name] >= 2 * BLOCK and name not in fixed}
    if not free:
        raise UnsupportedError(
            f"--granularity channel: no layer of {evidence.network.name} can be divided. A layer can where it has at "
            f"least {2 * BLOCK} output channels in an order of its own: not depthwise or grouped, no output of the "
            "network, read through activations, poolings and additions by other layers alone, not pinned or overridden"
        )
    try:
        whole = decide(evidence, board, target, options)
    except AllocationError:
        return Grouped(evidence)  # told where the bits are chosen; external RAM may hold what does not fit
    if whole.problem is None or widest(whole.problem, whole.allocation):
        note = "every layer has the most bits on offer within the budgets: channel groups have nothing to add"
        return Grouped(evidence, {}, (note,))
    losses = _losses(evidence, whole.problem, graph, free)
    found = _best(evidence, losses, whole.allocation, board, target, options)
    if found is None:
        return Grouped(evidence, {}, ("within these budgets no channel groups lose less than whole layers",))
    before, after = evidence.together(whole.allocation.bits), found.evidence.together(found.bits)
    if after >= before:
        note = f"channel groups do not pay here: the network loses {after:.4g} with them, {before:.4g} without"
        return Grouped(evidence, {}, (note,))
    return Grouped(found.evidence, found.groups)


def _fixed(evidence: Evidence, options: Options) -> set[str]:
    """Return the layers whose bits the user has chosen."""
    layers = evidence.network.layers
    named = {layer.name for layer in layers[: int(options.pin_first)]}
    named |= {layer.name for layer in layers[len(layers) - int(options.pin_last) :]}
    if options.overrides is not None:
        named |= set(resolve_overrides(load_overrides(options.overrides), evidence.network).weights)
    return named


def _losses(evidence: Evidence, problem: AllocationProblem, graph: Graph, free: set[str]) -> dict[str, ChannelLosses]:
    """Return what every channel of every layer loses at every width: its share of what the layer loses."""
    shares = _own_shares(evidence) or channel_shares(
        graph, evidence.network, evidence.x, evidence.channel_errors, evidence.options.seed
    )
    found = {}
    for layer, choices in zip(evidence.network.layers, problem.layers, strict=True):
        widest_input = max(choice.a_bits for choice in choices.choices)
        whole = {choice.w_bits: choice.loss for choice in choices.choices if choice.a_bits == widest_input}
        count = layer.weight_shape[0]
        own = shares.get(layer.name, {})
        even = np.full(count, 1 / count)
        channels = {bits: loss * own.get(bits, even) for bits, loss in whole.items()}
        block = max(BLOCK, -(-count // (_STEPS * BLOCK)) * BLOCK) if layer.name in free else 0
        found[layer.name] = ChannelLosses(channels, layer.parameters // count, block)
    return found


def _own_shares(evidence: Evidence) -> dict[str, dict[int, Doubles]]:
    """Return the channels' shares by the proxy's own scores of them, the same at all widths; nothing without any."""
    proxy, table = get_proxy(evidence.options.proxy), evidence.context.statistics
    if not isinstance(proxy, ProgramProxy) or not proxy.program.scores_channels or table is None:
        return {}
    rows = table()
    scores = proxy.score_channels(rows) or []
    found = {}
    for row, own in zip(rows, scores, strict=True):
        values = np.array(own, np.float64)
        share = values / values.sum() if values.any() else np.full(len(values), 1 / len(values))
        found[str(row["name"])] = dict.fromkeys(evidence.options.wbits, share)
    return found


def _orders(graph: Graph, losses: Mapping[str, ChannelLosses]) -> dict[str, Order]:
    """Return the order of the channels of every layer that may be divided: what loses most with few bits is first.

    Layers whose outputs meet in an addition have one order, by the sum of what they lose.
    """
    tensors = {str(node.name): str(node.output[0]) for node in graph.nodes}
    orders: dict[str, Order] = {}
    for tie in ties(graph):
        own = [name for name in losses if losses[name].block and tensors[name] in tie.tensors]
        if own:
            order = np.argsort(-sum(losses[name].losses[min(losses[name].losses)] for name in own), kind="stable")
            orders |= dict.fromkeys(own, order)
    return orders


def _in_order(layer: ChannelLosses, order: Order | None) -> ChannelLosses:
    if order is None:
        return layer
    return replace(layer, losses={bits: own[order] for bits, own in layer.losses.items()})


def _average(evidence: Evidence, allocation: Allocation) -> float:
    """Return how many weight bits there may be: the target's, else what whole layers take and what flash is left."""
    used = allocation.used["target_bits"]
    if used.limit is not None:
        return float(used.limit)
    total = sum(layer.parameters for layer in evidence.network.layers)
    flash = allocation.used["flash"]
    left = 0.0 if flash.limit is None or allocation.used["latency"].limit is not None else flash.limit - flash.used
    return float(used.used) + 8 * max(0.0, left) / max(total, 1)


def _code_bits(evidence: Evidence, board: Board, target: Target, options: Options) -> dict[str, float]:
    """Return what a further kernel for a part of each layer takes in bits, where flash is short."""
    if options.target_bits is not None and options.flash is None:
        return {}
    cost, least = evidence.cost(board, target, options), min(options.wbits)
    return {layer.name: 8.0 * cost.code(layer, least, 8, 8)[1] for layer in evidence.network.layers}


def divisions(
    network: Network, losses: Mapping[str, ChannelLosses], average: float, code: Mapping[str, float]
) -> Iterator[tuple[dict[str, Parts], bool]]:
    """Yield small parts, large ones, and where code counts the same ones for layers of one shape.

    With each goes whether neighbours of the same width become one part: halves stay, so that all run the same kernel.
    """
    call = 8.0 * _CALL_BYTES
    for factor in _BLOCKS:
        blocks = {name: replace(own, block=own.block * factor) for name, own in losses.items()}
        yield group_sizes(blocks, average, {name: call + code.get(name, 0.0) for name in losses}), True
    if code:
        kinds = {layer.name: (layer.op, layer.weight_shape, layer.macs) for layer in network.layers}
        yield shared_sizes(losses, kinds, average, call, code), True
        members = Counter(kinds.values())
        yield {name: _halves(own, members[kinds[name]]) for name, own in losses.items()}, False


def _halves(layer: ChannelLosses, members: int) -> Parts:
    """Return two equal parts where other layers have the shape, too."""
    low, high = min(layer.losses), max(layer.losses)
    if members < 2 or not layer.block or layer.channels % (2 * BLOCK):
        return ((low, layer.channels),)
    return (high, layer.channels // 2), (low, layer.channels // 2)


@dataclass(frozen=True, eq=False)
class _Division:
    """A network in parts: its evidence, its layers that are, and bits that fit the budgets."""

    evidence: Evidence
    groups: dict[str, Parts]
    bits: Bits


def _best(
    evidence: Evidence,
    losses: Mapping[str, ChannelLosses],
    whole: Allocation,
    board: Board,
    target: Target,
    options: Options,
) -> _Division | None:
    """Return the division with which the whole network loses least, measured as rivals are."""
    orders = _orders(Graph(evidence.model.onnx), losses)
    ordered = {name: _in_order(own, orders.get(name)) for name, own in losses.items()}
    average, code = _average(evidence, whole), _code_bits(evidence, board, target, options)
    found: list[_Division] = []
    tried: list[dict[str, tuple[int, ...]]] = []
    for parts, joining in divisions(evidence.network, ordered, average, code):
        sizes = {name: tuple(size for _, size in own) for name, own in parts.items()}
        if sizes not in tried:
            tried.append(sizes)
            found += _divided(evidence, sizes, ordered, orders, board, target, options, joining=joining)
    return min(found, key=lambda division: division.evidence.together(division.bits), default=None)


def _divided(
    evidence: Evidence,
    sizes: Mapping[str, tuple[int, ...]],
    ordered: Mapping[str, ChannelLosses],
    orders: Mapping[str, Order],
    board: Board,
    target: Target,
    options: Options,
    *,
    joining: bool,
) -> list[_Division]:
    """Rewrite the network, let the allocator choose the parts' bits, and join neighbours that have the same."""
    first = rewritten = _rewritten(evidence, sizes, ordered, orders)
    try:
        decision = decide(first, board, target, options)
    except AllocationError:
        return []
    groups = _groups(sizes, decision, joining=joining)
    if any(len(groups[name]) < len(own) for name, own in sizes.items()):
        sizes = {name: tuple(size for _, size in own) for name, own in groups.items()}
        rewritten = _rewritten(evidence, sizes, ordered, orders)
    weights = {
        name if len(own) == 1 else part_name(name, index): bits
        for name, own in groups.items()
        for index, (bits, _) in enumerate(own)
    }
    bits = Bits(weights, _activations(rewritten.network, first.network, decision.allocation.bits))
    groups = {name: own for name, own in groups.items() if len(own) > 1}
    if all(len({width for width, _ in own}) == 1 for own in groups.values()):
        return []  # of one width each: whole layers do as well
    return [_Division(rewritten, groups, bits)]


def _groups(sizes: Mapping[str, tuple[int, ...]], decision: Decision, *, joining: bool) -> dict[str, Parts]:
    """Return each layer's parts with the bits that they got; neighbours of the same width as one where they join."""
    weights = decision.allocation.bits.weights
    found: dict[str, Parts] = {}
    for name, own in sizes.items():
        runs: list[tuple[int, int]] = []
        for index, size in enumerate(own):
            bits = weights[name if len(own) == 1 else part_name(name, index)]
            if joining and runs and runs[-1][0] == bits:
                runs[-1] = bits, runs[-1][1] + size
            else:
                runs.append((bits, size))
        found[name] = tuple(runs)
    return found


def _rewritten(
    evidence: Evidence,
    sizes: Mapping[str, tuple[int, ...]],
    ordered: Mapping[str, ChannelLosses],
    orders: Mapping[str, Order],
) -> Evidence:
    """Return the evidence of the network with sorted channels and layers in parts; it computes the same.

    A part's losses, and its score, are those of its channels.
    """
    graph = Graph(evidence.model.onnx)
    tied = {tensor: tie for tie in ties(graph) for tensor in tie.tensors}
    tensors = {str(node.name): str(node.output[0]) for node in graph.nodes}
    moved = {tied[tensors[name]]: orders[name] for name, own in sizes.items() if len(own) > 1}
    changed = divided(reordered(evidence.model.onnx, moved), sizes)
    model = transformed(evidence.model, changed, "channel groups", evidence.x)
    given = evidence.calibration
    calibration = calibrate(model, evidence.x, seed=evidence.options.seed, pictures=given.pictures)
    scores: dict[str, float] = {}
    losses: dict[str, dict[int, float]] = {}
    for name, own in sizes.items():
        for index, (first, size) in enumerate(zip(np.cumsum([0, *own]), own, strict=False)):
            part = name if len(own) == 1 else part_name(name, index)
            losses[part] = {
                bits: float(each[first : first + size].sum()) for bits, each in ordered[name].losses.items()
            }
            lowest = min(losses[part])
            whole = float(ordered[name].losses[lowest].sum())
            share = losses[part][lowest] / whole if whole > 0 else size / sum(own)
            scores[part] = evidence.scores[name] * share
    return replace(
        evidence, model=model, network=analyse(changed, evidence.network.name), calibration=calibration,
        known=Known(scores, losses), _costs={}, _together={},
    )  # fmt: skip


def _activations(network: Network, other: Network, bits: Bits) -> dict[int, int]:
    """Return the activation bits of one network's groups, given those of another with the same tensors beside parts."""
    width = {tensor: bits.activations[i] for i, group in enumerate(other.groups) for tensor in group.tensors}
    return {
        i: next(width[tensor] for tensor in group.tensors if tensor in width) for i, group in enumerate(network.groups)
    }
