"""From a network, its sensitivities and a cost model to an allocation problem."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from tapc.allocate.overrides import Overrides, ResolvedOverrides, resolve_overrides
from tapc.allocate.problem import (
    HIGH_BITS,
    AllocationProblem,
    Budgets,
    Choice,
    GroupChoices,
    LayerChoices,
    RamModel,
)
from tapc.base.errors import DataError, UsageError
from tapc.graph.network import ACTIVATION_BITS, WEIGHT_BITS, Layer, Network

PINNED_BITS = 8


class CostModel(Protocol):
    """What a layer costs by an algorithm, at given bits of weights, input activations and output activations."""

    def algorithms(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int) -> tuple[str, ...]:
        """Return the ways to compute the layer; "" is the one that it has unless another is chosen."""

    def code(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> tuple[str, int]:
        """Return the kernel that the layer runs, by a key that equal kernels share, and the bytes of its code."""

    def flash_bytes(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> int:
        """Return the bytes of the layer's constants in flash."""

    def latency(self, layer: Layer, w_bits: int, a_bits: int, out_bits: int, algorithm: str = "") -> float:
        """Return the layer's latency in the model's unit."""


@dataclass(frozen=True)
class AllocationOptions:
    """What the user asked for.

    Attributes
    ----------
    wbits, abits : tuple of int
        Widths on offer for weights (2, 4, 8) and activations (4, 8). One width each means uniform.
    flash, ram, latency, bops, target_bits
        Budgets, see `Budgets`.
    pin_first, pin_last : bool
        Keep the first, last layer's weights and input activations at 8 bits, whatever is on offer.
    overrides : Overrides
        Manual choices; they win over everything else.
    """

    wbits: tuple[int, ...] = WEIGHT_BITS
    abits: tuple[int, ...] = (HIGH_BITS,)
    flash: int | None = None
    ram: int | None = None
    latency: float | None = None
    bops: int | None = None
    target_bits: float | None = None
    pin_first: bool = False
    pin_last: bool = False
    overrides: Overrides = field(default_factory=Overrides)


def build_problem(
    network: Network,
    sensitivity: Mapping[str, float],
    distortion: Mapping[str, Mapping[tuple[int, int], float]],
    cost: CostModel,
    options: AllocationOptions,
    *,
    ram: RamModel | None = None,
    fixed_flash: int = 0,
    fixed_latency: float = 0.0,
    latency_unit: str = "instructions",
    regions: Mapping[str, str] | None = None,
) -> AllocationProblem:
    """State the allocation problem of a network.

    Groups that hold the network's input or output have 8 bits, and those that were given 16 beforehand have these. A
    layer's cost is asked for with its output at 8 bits, unless the output's group can only have others.

    Parameters
    ----------
    network : Network
    sensitivity : mapping of str to float
        Layer name -> weight of its distortion; finite, not negative.
    distortion : mapping of str to mapping of (int, int) to float
        Layer name -> (weight bits, input activation bits) -> error; finite, not negative.
    cost : CostModel
    options : AllocationOptions
    ram, fixed_flash, fixed_latency, latency_unit, regions
        See `AllocationProblem`.

    Raises
    ------
    UsageError
        Widths that tapc does not have, a budget that is not positive, or overrides that do not fit the network.
    DataError
        A sensitivity or distortion that is missing, negative or not finite; names the layer.
    """
    _check_options(options)
    fixed = resolve_overrides(options.overrides, network)
    pinned = _pinned(network, options)
    groups = tuple(
        GroupChoices(group.interface, _group_bits(network, i, pinned, fixed, options))
        for i, group in enumerate(network.groups)
    )
    layers = []
    kernels: dict[str, int] = {}
    users: dict[str, set[str]] = defaultdict(set)
    for layer in network.layers:
        weight_bits, fixed_by = _weight_bits(layer, pinned, fixed, options)
        out_bits = max(groups[layer.output_group].allowed)
        choices = []
        for a in groups[layer.input_group].allowed:
            for w in weight_bits:
                loss = _loss(layer, sensitivity, distortion, w, a)
                # Algorithms lose nothing: where nothing bounds the latency, there is no reason to choose among them.
                for algorithm in ("",) if options.latency is None else cost.algorithms(layer, w, a, out_bits):
                    way = (layer, w, a, out_bits, algorithm)
                    kernel, size = cost.code(*way)
                    kernels[kernel] = size
                    users[kernel].add(layer.name)
                    bops = layer.macs * w * a
                    choices.append(
                        Choice(w, a, loss, cost.flash_bytes(*way), cost.latency(*way), bops, kernel, algorithm)
                    )
        layers.append(LayerChoices(layer.name, layer.input_group, layer.parameters, tuple(choices), fixed_by))
    shared = {kernel: size for kernel, size in kernels.items() if len(users[kernel]) > 1}
    layers = [replace(layer, choices=tuple(_own(c, kernels, shared) for c in layer.choices)) for layer in layers]
    budgets = Budgets(options.flash, options.ram, options.latency, options.bops, options.target_bits)
    return AllocationProblem(
        tuple(layers), groups, budgets, fixed_flash, fixed_latency, ram, latency_unit, dict(regions or {}), shared
    )


def _own(choice: Choice, kernels: Mapping[str, int], shared: Mapping[str, int]) -> Choice:
    """Charge a choice with its kernel's code where no other layer can use it."""
    if choice.kernel in shared:
        return choice
    return replace(choice, flash_bytes=choice.flash_bytes + kernels[choice.kernel], kernel="")


def _check_options(options: AllocationOptions) -> None:
    for option, given, known in (("wbits", options.wbits, WEIGHT_BITS), ("abits", options.abits, ACTIVATION_BITS)):
        unknown = sorted(set(given) - set(known))
        if unknown or not given:
            raise UsageError(
                f"--{option} {','.join(map(str, given))}: not possible; give some of {','.join(map(str, known))}"
            )
    for name in ("flash", "ram", "latency", "bops", "target_bits"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"--{name.replace('_', '-')} {value}: a budget must be a positive number")


def _pinned(network: Network, options: AllocationOptions) -> tuple[Layer, ...]:
    first = network.layers[:1] if options.pin_first else ()
    last = network.layers[-1:] if options.pin_last else ()
    return (*first, *last)


def _weight_bits(
    layer: Layer, pinned: tuple[Layer, ...], fixed: ResolvedOverrides, options: AllocationOptions
) -> tuple[tuple[int, ...], str]:
    if layer.name in fixed.weights:
        return (fixed.weights[layer.name],), "override"
    if layer in pinned:
        return (PINNED_BITS,), "pinned"
    return tuple(sorted(set(options.wbits))), ""


def _group_bits(
    network: Network, index: int, pinned: tuple[Layer, ...], fixed: ResolvedOverrides, options: AllocationOptions
) -> tuple[int, ...]:
    if network.groups[index].interface:
        return (network.groups[index].bits,)
    if index in fixed.groups:
        return (fixed.groups[index],)
    if any(layer.input_group == index for layer in pinned):
        return (PINNED_BITS,)
    return tuple(sorted(set(options.abits)))


def _loss(
    layer: Layer,
    sensitivity: Mapping[str, float],
    distortion: Mapping[str, Mapping[tuple[int, int], float]],
    w_bits: int,
    a_bits: int,
) -> float:
    where = f"layer {layer.name!r}"
    factors = {
        "sensitivity": sensitivity.get(layer.name),
        f"distortion at w{w_bits}a{a_bits}": distortion.get(layer.name, {}).get((w_bits, a_bits)),
    }
    product = 1.0
    for what, value in factors.items():
        if value is None:
            raise DataError(f"{where}: its {what} is missing")
        if not math.isfinite(value) or value < 0:
            raise DataError(f"{where}: its {what} is {value}; it must be a finite number that is not negative")
        product *= value
    return product
