"""The allocation problem and its answer, as plain frozen data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tapc.base.errors import BudgetError
from tapc.graph.network import Bits

Constraint = Literal["flash", "ram", "latency", "bops", "target_bits"]
CONSTRAINTS: tuple[Constraint, ...] = ("flash", "ram", "target_bits", "latency", "bops")
"""Every constraint, in the order in which they are reported."""

Status = Literal["optimal", "time_limit", "uniform", "together"]

LOW_BITS, HIGH_BITS, WIDE_BITS = 4, 8, 16
"""The two widths that an activation group can take."""


@dataclass(frozen=True)
class Choice:
    """A bit pair that a layer may take, and what it costs.

    Attributes
    ----------
    w_bits, a_bits : int
        Weight bits (2, 4, 8) and input activation bits (4, 8).
    loss : float
        Sensitivity x distortion; finite, not negative.
    flash_bytes : int
        Bytes of the layer's constants in flash.
    latency : float
        In the cost model's unit.
    bops : int
        MACs x w_bits x a_bits.
    kernel : str
        Key into the problem's `kernels` when the layer's code may be shared with other layers; empty when its code
        is part of `flash_bytes`.
    algorithm : str
        How the layer is computed; empty for the way that it has unless another is chosen.
    """

    w_bits: int
    a_bits: int
    loss: float
    flash_bytes: int
    latency: float
    bops: int
    kernel: str = ""
    algorithm: str = ""


@dataclass(frozen=True)
class LayerChoices:
    """A layer and the bit pairs that remain for it.

    Attributes
    ----------
    name : str
    input_group : int
        Index of the activation group that the layer reads; `Choice.a_bits` is that group's width.
    parameters : int
        Number of weights, biases excluded; the weight of the layer in the average weight bits.
    choices : tuple of Choice
        At least one, with distinct (w_bits, a_bits, algorithm).
    fixed_by : str
        Why its weight bits are fixed ("pinned", "override"); empty when the allocator decides.
    """

    name: str
    input_group: int
    parameters: int
    choices: tuple[Choice, ...]
    fixed_by: str = ""


@dataclass(frozen=True)
class GroupChoices:
    """An activation group: whether it is the network's interface, and the widths that it may take."""

    interface: bool
    allowed: tuple[int, ...]


@dataclass(frozen=True)
class Budgets:
    """Upper limits; None means unlimited.

    Attributes
    ----------
    flash, ram : int or None
        Bytes.
    latency : float or None
        In the cost model's unit.
    bops : int or None
        Bit operations per inference.
    target_bits : float or None
        Average weight bits over all parameters, first and last layer included.
    """

    flash: int | None = None
    ram: int | None = None
    latency: float | None = None
    bops: int | None = None
    target_bits: float | None = None


@dataclass(frozen=True)
class RamUse:
    """Peak RAM in bytes of one assignment of activation bits, and the layers alive at the peak.

    `how` says what is computed in bands for that; empty where nothing is.
    """

    bytes: int
    limiting: tuple[str, ...] = ()
    how: str = ""


RamModel = Callable[[dict[int, int]], RamUse]
"""Group index -> 4 or 8, for every group, to the peak RAM. Must not fall when a width grows."""


@dataclass(frozen=True)
class AllocationProblem:
    """Everything that `solve` needs.

    Attributes
    ----------
    layers : tuple of LayerChoices
        In execution order.
    groups : tuple of GroupChoices
        Indexed by `LayerChoices.input_group`.
    budgets : Budgets
    fixed_flash : int
        Bytes of flash that do not depend on the bits (code, tables, biases when not counted per layer).
    fixed_latency : float
        Latency that does not depend on the bits, in the cost model's unit.
    ram : callable or None
        Group bits -> RamUse; needed for a RAM budget, and for RAM to be reported.
    latency_unit : str
        Unit of latencies in messages.
    regions : mapping of str to str
        Constraint -> what it stands for, "region flash", named in messages.
    kernels : mapping of str to int
        Kernel -> bytes of code, in flash once however many of the chosen pairs name it.

    Raises
    ------
    ValueError
        A layer without choices, a choice whose activation bits its group does not allow, or a RAM budget
        without `ram`.
    """

    layers: tuple[LayerChoices, ...]
    groups: tuple[GroupChoices, ...]
    budgets: Budgets = Budgets()
    fixed_flash: int = 0
    fixed_latency: float = 0.0
    ram: RamModel | None = None
    latency_unit: str = "instructions"
    regions: Mapping[str, str] = field(default_factory=dict)
    kernels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.budgets.ram is not None and self.ram is None:
            raise ValueError("a RAM budget needs a RAM model")
        for i, group in enumerate(self.groups):
            if not group.allowed or not (set(group.allowed) <= {LOW_BITS, HIGH_BITS} or group.allowed == (WIDE_BITS,)):
                raise ValueError(
                    f"group {i}: allowed bits {group.allowed} must be some of {LOW_BITS}, {HIGH_BITS}, or {WIDE_BITS}"
                )
        for layer in self.layers:
            offered = {choice.a_bits for choice in layer.choices}
            if offered != set(self.groups[layer.input_group].allowed):
                raise ValueError(
                    f"layer {layer.name!r} offers activation bits {sorted(offered)}, its input group allows "
                    f"{self.groups[layer.input_group].allowed}"
                )


@dataclass(frozen=True)
class Use:
    """How much of a constrained quantity an allocation uses; limit None means unlimited."""

    used: float
    limit: float | None


@dataclass(frozen=True)
class Allocation:
    """The chosen bits and how good they are.

    Attributes
    ----------
    bits : Bits
        Every layer's weight bits, every group's activation bits.
    objective : float
        Sum of sensitivity x distortion.
    bound : float
        No feasible allocation has a smaller objective than this.
    gap : float
        (objective - bound) / objective; 0 when proved optimal.
    used : dict of str to Use
        "flash" and "ram" in bytes, "latency" in the cost model's unit, "bops", "target_bits" (average weight
        bits). "ram" is absent without a RAM model.
    status : {"optimal", "time_limit", "uniform", "together"}
        "uniform": nothing was left to decide. "together": bits of a larger objective, preferred to those of the least
        because the whole network loses less with them; see `tapc.flow.rivals`.
    """

    bits: Bits
    objective: float
    bound: float
    gap: float
    used: dict[str, Use]
    status: Status


@dataclass(frozen=True)
class Violation:
    """A budget that cannot be met.

    Attributes
    ----------
    constraint : str
    limit : float
        The budget that was asked for.
    smallest : float
        The smallest budget that works while the other constraints stay (rounded up where it is not whole).
    layers : tuple of str
        Descriptions of the layers responsible, the largest first.
    how : str
        What is computed in bands in the smallest budget that works.
    """

    constraint: Constraint
    limit: float
    smallest: float
    layers: tuple[str, ...]
    how: str = ""


class AllocationError(BudgetError):
    """No allocation meets every budget.

    Attributes
    ----------
    violations : tuple of Violation
        Relaxing the first one suffices when `alternatives`; otherwise all of them have to be relaxed.
    alternatives : bool
    problem : AllocationProblem
    """

    def __init__(
        self, message: str, violations: tuple[Violation, ...], alternatives: bool, problem: "AllocationProblem"
    ) -> None:
        super().__init__(message)
        self.problem = problem
        self.violations = violations
        self.alternatives = alternatives
