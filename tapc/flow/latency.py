"""What an inference takes, predicted and measured, in the unit of its budget."""

from dataclasses import dataclass

from tapc import cycles
from tapc.base.errors import UsageError
from tapc.base.latency import Unit
from tapc.base.options import Options
from tapc.cost.calibrated import load_calibration
from tapc.cost.calibration import Factors
from tapc.cost.model import CostModel, load_coefficients
from tapc.cost.rates import Rates, load_rates
from tapc.hardware.board import Board
from tapc.hardware.target import Target
from tapc.ir.program import Step
from tapc.lower.place import constant_bytes
from tapc.report import Measured


@dataclass(frozen=True)
class Meter:
    """Predicts what a step takes.

    Attributes
    ----------
    unit : {"instructions", "cycles", "ms"}
    cost : CostModel
    bandwidth : float
        Bytes of constants that are read from flash in a cycle.
    hz : float
        The core's clock.
    rates : Rates or None
        Cycles per instruction of the core; None counts one for each.
    factors : Factors or None
        What measurements of the board put in their place.
    """

    unit: Unit
    cost: CostModel
    bandwidth: float
    hz: float
    rates: Rates | None = None
    factors: Factors | None = None

    def cycles(self, step: Step) -> float:
        """Predict the cycles of a step whose constants are in internal flash."""
        instructions, stalls = self.cost.instructions(step.spec), constant_bytes(step) / self.bandwidth
        if self.factors is not None:
            return self.factors.cycles(step.op.kind(step.spec), instructions, stalls)
        rate = 1.0 if self.rates is None else self.rates.of(step.spec, self.cost.products_share(step.spec))
        return instructions * rate + stalls

    def of(self, step: Step) -> float:
        """Predict a step in the meter's unit; instructions and cycles are whole."""
        if self.unit == "instructions":
            return float(self.cost.instructions(step.spec))
        return self.cycles(step) / self.hz * 1e3 if self.unit == "ms" else float(round(self.cycles(step)))


def meter(board: Board, target: Target, options: Options) -> Meter:
    """Return what predicts steps in the unit of the latency's budget; instructions where there is none.

    Raises
    ------
    UsageError
        The budget is one of time, and nothing tells the core's cycles.
    """
    unit = options.latency_unit
    coefficients = load_coefficients(target.cost)
    calibrated, _ = load_calibration(board.name, coefficients)
    rates = load_rates(target.rates)
    if unit != "instructions" and calibrated is None and rates is None:
        raise UsageError(
            f"--latency {options.latency}: nothing tells the cycles of {target.name} ({cycles.source(target.name)}); "
            "give it in instructions (9Minstructions), or measure builds on the board (tapc measure, then tapc boards "
            "calibrate)"
        )
    hz = board.clocks.cpu_hz if calibrated is None else calibrated.hz
    factors = None if calibrated is None else calibrated.fit.factors
    return Meter(unit, CostModel(coefficients), board.flash.bandwidth.at(board.clocks.cpu_hz), hz, rates, factors)


def taken(measured: Measured | None, board: Board, unit: Unit) -> float:
    """Return what an inference took, on the board or by the model of its core; 0 where nothing tells."""
    if measured is None:
        return 0.0
    if unit == "instructions":
        return float(measured.run.instructions or 0)
    timing = measured.run.timing
    if timing is not None:
        return timing.milliseconds if unit == "ms" else timing.median
    estimated = measured.cycles or 0.0
    return estimated / board.clocks.cpu_hz * 1e3 if unit == "ms" else estimated
