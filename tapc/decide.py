"""Which bits: sensitivities from a proxy, measured distortions, the core's costs, the board's budgets."""

from dataclasses import dataclass

from tapc.allocate import (
    Allocation,
    AllocationOptions,
    Overrides,
    build_problem,
    load_overrides,
    solve,
)
from tapc.board import Board
from tapc.cost.layers import NetworkCost
from tapc.cost.model import CostModel, load_coefficients
from tapc.frontend import FloatModel
from tapc.lower.from_onnx import program_from_onnx
from tapc.network import Network
from tapc.options import Options
from tapc.proxy import get_proxy
from tapc.quantize import Calibration, layer_distortion, quantize, uniform_bits
from tapc.quantize.runtime import Float
from tapc.quantize.sensitivity import proxy_context
from tapc.target import Target


@dataclass(frozen=True)
class Decision:
    """The chosen bits and the sensitivities that led to them."""

    sensitivity: dict[str, float]
    allocation: Allocation


def decide(
    model: FloatModel,
    network: Network,
    calibration: Calibration,
    x: Float,
    board: Board,
    target: Target,
    options: Options,
) -> Decision:
    """Score the layers and choose the bits under the board's and the user's budgets.

    Parameters
    ----------
    model : FloatModel
    network : Network
    calibration : Calibration
    x : float32 (N, *input_shape[1:])
        Calibration samples.
    board : Board
    target : Target
    options : Options

    Raises
    ------
    AllocationError
        No bits fit: names the budgets and the smallest that work.
    """
    # Only its shapes, scales and dead channels matter: it is re-labelled with the bits in question. More bits leave
    # more channels alive, so the most on offer predict enough.
    widest = uniform_bits(network, max(options.wbits), max(options.abits))
    template = quantize(model, network, widest, calibration, x=x[:1], bias_correction=False)
    program = program_from_onnx(template.onnx, model.name, target.requantize, target.isa)
    cost = NetworkCost(program, network, CostModel(load_coefficients(target.cost)))
    distortion = layer_distortion(model, network, calibration, x)
    context = proxy_context(model, network, calibration, x, distortion, min(options.wbits))
    sensitivity = get_proxy(options.proxy).score(context)
    fixed_flash, fixed_latency = cost.fixed()
    problem = build_problem(
        network,
        sensitivity,
        distortion,
        cost,
        AllocationOptions(
            wbits=options.wbits,
            abits=options.abits,
            flash=board.flash.size if options.flash is None else min(options.flash, board.flash.size),
            ram=board.working_ram if options.ram is None else min(options.ram, board.working_ram),
            latency=options.latency,
            bops=options.bops,
            target_bits=options.target_bits,
            pin_first=options.pin_first,
            pin_last=options.pin_last,
            overrides=Overrides() if options.overrides is None else load_overrides(options.overrides),
        ),
        ram=cost.ram,
        fixed_flash=fixed_flash,
        fixed_latency=fixed_latency,
        regions={"flash": board.flash.name, "ram": board.arena_region.name},
    )
    return Decision(sensitivity, solve(problem))
