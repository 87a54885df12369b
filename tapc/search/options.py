"""What a search may be told."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tapc.flow.losses.draw import BUDGETS
from tapc.flow.losses.ranking import RankName
from tapc.flow.losses.table import RoundingName
from tapc.proxy.contract import Target

Accuracy = Literal["loss", "top1"]
Combine = Literal["min", "mean", "trimmed"]
Cost = Literal["instructions", "cycles", "flash", "ram", "bops"]
COSTS: tuple[Cost, ...] = ("instructions", "cycles", "flash", "ram", "bops")


class SearchOptions(BaseModel):
    """What a search may be told; every field has the command line's default.

    Attributes
    ----------
    generations : int
        T_max: generations after the initial one.
    population : int
        N: size of the population, and candidates per generation.
    alpha : float
        Weight of the rank correlation in the fitness; 1 - alpha weighs the accuracy (Eq. 6).
    rank : {"spearman", "kendall"}
        The rank correlation of predicted and measured losses.
    accuracy : {"loss", "top1"}
        What the bits that scores lead to are judged by at each budget: the least loss measured over theirs, or the
        network's own metric.
    combine : {"min", "mean", "trimmed"}
        How rho and accuracy of several networks become one; trimmed leaves out the highest and the lowest.
    rounding : {"nearest", "gptq"}
        Whose measured losses count; gptq is what `tapc compile` deploys.
    finalists : int
        Of so many of the fittest the network that is held out decides.
    beta : float
        Weight of the measured cost in the fitness; 0 is Eq. 6 as printed.
    cost : str
        Which measurement beta weighs.
    controller : {"tap", "eq7", "dpo", "ucb", "uniform"}
        Who chooses the operators.
    allocator : {"ilp", "proxy"}
        Who turns scores into bits.
    inputs : {"statistics", "metadata"}
        Which columns programs see.
    wbits, abits : tuple of int
        Bits on offer.
    target_bits : float or None
        Largest average weight bits.
    flash, ram : int or None
        Budgets in bytes; the board's where None.
    latency : float or None
        Budget in instructions per inference.
    bops : int or None
    configurations : int
        That are drawn and measured of a network without a loss table.
    calibration, test : int
        Samples to calibrate on, and others that such configurations are measured on.
    seed : int
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generations: int = Field(default=5, ge=0)
    population: int = Field(default=8, ge=1)
    alpha: float = Field(default=0.5, ge=0, le=1)
    rank: RankName = "spearman"
    accuracy: Accuracy = "loss"
    combine: Combine = "min"
    rounding: RoundingName = "gptq"
    finalists: int = Field(default=5, ge=1)
    beta: float = Field(default=0.05, ge=0)
    cost: Cost = "instructions"
    controller: Literal["tap", "eq7", "dpo", "ucb", "uniform"] = "tap"
    allocator: Literal["ilp", "proxy"] = "ilp"
    inputs: Literal["statistics", "metadata"] = "statistics"
    wbits: tuple[int, ...] = (2, 4, 8)
    abits: tuple[int, ...] = (8,)
    target_bits: float | None = 3.0
    flash: int | None = None
    ram: int | None = None
    latency: float | None = None
    bops: int | None = None
    configurations: int = Field(default=200, ge=60)
    calibration: int = Field(default=256, ge=16)
    test: int = Field(default=500, ge=1)
    seed: int = Field(default=0, ge=0)
    device: str | None = None

    @property
    def targets(self) -> tuple[Target, ...]:
        """What a program's own allocate has to reach: the budgets of the fitness, and the search's own average."""
        averages = dict.fromkeys((*BUDGETS, *(() if self.target_bits is None else (self.target_bits,))))
        return tuple(Target(average, tuple(sorted(self.wbits))) for average in averages)

    @property
    def measures(self) -> bool:
        """Whether the device's measurements enter the fitness or a budget; BOPs are counted."""
        return (self.beta > 0 and self.cost != "bops") or self.budgeted

    @property
    def budgeted(self) -> bool:
        """Whether any budget is set that is checked against a measurement."""
        return any(value is not None for value in (self.flash, self.ram, self.latency))

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return self.model_dump(mode="json")
