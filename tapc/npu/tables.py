"""What each layer costs at each width on an NPU: vela is asked about the network with all layers at one width."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from tapc.base.errors import UnsupportedError
from tapc.graph.state import states
from tapc.ir.lowering import QdqGraph
from tapc.ir.program import Program
from tapc.ir.tflite import TfliteNetwork, tflite_of
from tapc.lower.from_onnx import program_from_onnx
from tapc.npu.parts import kernel_bits


@dataclass(frozen=True)
class Tables:
    """Costs by layer and width.

    Attributes
    ----------
    flash, cycles : dict of str to dict of int to int
        Layer -> weight bits -> bytes of coded weights, and of the commands that these take; cycles by vela's
        performance model.
    fixed_flash, fixed_cycles : int
        What does not depend on the widths: the rest of the file, and operators without weights.
    sram : int
        Bytes that activations take.
    cpu : frozenset of str
        Layers that the NPU does not compute.
    """

    flash: dict[str, dict[int, int]]
    cycles: dict[str, dict[int, int]]
    fixed_flash: int
    fixed_cycles: int
    sram: int
    cpu: frozenset[str] = frozenset()


def check_stateless(model: onnx.ModelProto) -> None:
    """Refuse a network that keeps something between calls; UnsupportedError names it."""
    if kept := states(model):
        raise UnsupportedError(
            f"the network keeps {kept[0].input!r} between calls: files for TFLite and for NPUs are of networks without "
            "states; the C library has them"
        )


def network_of(model: onnx.ModelProto, name: str) -> tuple[Program, TfliteNetwork]:
    """Return a QDQ network in TFLite's integers, and its file; of a detector its maps.

    Raises
    ------
    UnsupportedError
        It has activations of 4 bits, or operators that TFLite does not have.
    """
    check_stateless(model)
    # The instruction set chooses kernels, and no integers.
    program = program_from_onnx(model, name, "tflite", "scalar", detections=False)
    return program, tflite_of(program, QdqGraph(model), f"tapc, {name}")


def by_owner(network: TfliteNetwork, figures: Mapping[int, int]) -> dict[str, int]:
    """Add up the figures of a file's operators by the program's operators that they are of."""
    found = dict.fromkeys(network.owners, 0)
    for number, figure in figures.items():
        found[network.owners[number]] += figure
    return found


@dataclass(frozen=True)
class Costs:
    """What a network takes with certain widths.

    Attributes
    ----------
    flash, cycles : dict of str to int
        Operator -> bytes of its weights; cycles.
    total_flash, total_cycles : int
    sram : int
    cpu : frozenset of str
        Operators that the NPU does not compute.
    """

    flash: Mapping[str, int]
    cycles: Mapping[str, int]
    total_flash: int
    total_cycles: int
    sram: int
    cpu: frozenset[str] = frozenset()


def tables_of(
    layers: Sequence[str],
    widths: Sequence[int],
    costs: Callable[[int, frozenset[str]], Costs],
    advance: Callable[[int, int], None] | None = None,
) -> Tables:
    """Ask vela, and for layers of the CPU its cost model.

    Parameters
    ----------
    layers : sequence of str
        Those with weights.
    widths : sequence of int
    costs : callable
        Width, layers of the CPU -> what the network takes with all weights at the width, but those of the CPU at the
        next one that its kernels read.
    advance : callable, optional
        Told (done, total).
    """
    flash: dict[str, dict[int, int]] = {layer: {} for layer in layers}
    cycles: dict[str, dict[int, int]] = {layer: {} for layer in layers}
    rest: dict[int, int] = {}
    others, sram, cpu = [], 0, frozenset[str]()
    for done, width in enumerate(sorted(widths), 1):
        made = costs(width, cpu)
        if fresh := (made.cpu & set(layers)) - cpu:
            cpu |= fresh
            if kernel_bits(width) != width:
                made = costs(width, cpu)
        for layer in layers:
            own = kernel_bits(width) if layer in cpu else width
            flash[layer][own], cycles[layer][own] = made.flash[layer], made.cycles[layer]
        rest[width] = made.total_flash - sum(made.flash[layer] for layer in layers)
        others.append(made.total_cycles - sum(made.cycles[layer] for layer in layers))
        sram = max(sram, made.sram)
        if advance is not None:
            advance(done, len(widths))
    # More bytes of weights take more commands, those of the largest layers.
    fixed, npu = min(rest.values()), [layer for layer in layers if layer not in cpu]
    for width, whole in rest.items():
        coded = max(1, sum(flash[layer][width] for layer in npu))
        for layer in npu:
            flash[layer][width] += round((whole - fixed) * flash[layer][width] / coded)
    return Tables(flash, cycles, fixed, max(others), sram, cpu)
