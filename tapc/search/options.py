"""What a search may be told."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tapc.proxy.contract import Target

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
    calibration, holdout : int
        Samples of the training set to calibrate on, and others of it to measure accuracy on.
    test : int
        Samples of the test set that the winner is measured on, once, at the end.
    seed : int
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generations: int = Field(default=5, ge=0)
    population: int = Field(default=8, ge=1)
    alpha: float = Field(default=0.1, ge=0, le=1)
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
    calibration: int = Field(default=256, ge=16)
    holdout: int = Field(default=1000, ge=1)
    test: int = Field(default=500, ge=1)
    seed: int = Field(default=0, ge=0)
    device: str | None = None

    @property
    def target(self) -> Target | None:
        """What a program's own allocate has to reach; None without an average."""
        return None if self.target_bits is None else Target(self.target_bits, tuple(sorted(self.wbits)))

    @property
    def measures(self) -> bool:
        """Whether the device's measurements enter the fitness or a budget."""
        return self.beta > 0 or self.budgeted

    @property
    def budgeted(self) -> bool:
        """Whether any budget is set that is checked against a measurement."""
        return any(value is not None for value in (self.flash, self.ram, self.latency))

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return self.model_dump(mode="json")
