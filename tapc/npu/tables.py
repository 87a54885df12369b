"""What each layer costs at each width on an NPU: vela is asked about the network with all layers at one width."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from tapc.hardware.npu import Npu
from tapc.ir.lowering import QdqGraph
from tapc.ir.program import Program
from tapc.ir.tflite import TfliteNetwork, tflite_of
from tapc.lower.from_onnx import program_from_onnx
from tapc.npu.vela import Compiled, compile_file


@dataclass(frozen=True)
class Tables:
    """Costs by layer and width.

    Attributes
    ----------
    flash, cycles : dict of str to dict of int to int
        Layer -> weight bits -> bytes of coded weights; cycles by vela's performance model.
    fixed_flash, fixed_cycles : int
        What does not depend on the widths: the rest of the file, and operators without weights.
    sram : int
        Bytes that activations take.
    """

    flash: dict[str, dict[int, int]]
    cycles: dict[str, dict[int, int]]
    fixed_flash: int
    fixed_cycles: int
    sram: int


def network_of(model: onnx.ModelProto, name: str) -> tuple[Program, TfliteNetwork]:
    """Return a QDQ network in TFLite's integers, and its file.

    Raises
    ------
    UnsupportedError
        It has activations of 4 bits, or operators that TFLite does not have.
    """
    # The instruction set chooses kernels, and no integers.
    program = program_from_onnx(model, name, "tflite", "scalar")
    return program, tflite_of(program, QdqGraph(model), f"tapc, {name}")


def by_owner(network: TfliteNetwork, figures: Mapping[int, int]) -> dict[str, int]:
    """Add up the figures of a file's operators by the program's operators that they are of."""
    found = dict.fromkeys(network.owners, 0)
    for number, figure in figures.items():
        found[network.owners[number]] += figure
    return found


def tables_of(
    name: str,
    layers: Sequence[str],
    widths: Sequence[int],
    quantized: Callable[[int], onnx.ModelProto],
    npu: Npu,
    advance: Callable[[int, int], None] | None = None,
) -> Tables:
    """Ask vela.

    Parameters
    ----------
    name : str
        The network's.
    layers : sequence of str
        Those with weights.
    widths : sequence of int
    quantized : callable
        Width -> the network with all weights at it.
    npu : Npu
    advance : callable, optional
        Told (done, total).
    """
    flash: dict[str, dict[int, int]] = {layer: {} for layer in layers}
    cycles: dict[str, dict[int, int]] = {layer: {} for layer in layers}
    rest, others, sram = [], [], 0
    for done, width in enumerate(sorted(widths), 1):
        _, network = network_of(quantized(width), name)
        made: Compiled = compile_file(network.blob, npu)
        weights, taken = by_owner(network, made.weights_of), by_owner(network, made.cycles_of)
        for layer in layers:
            flash[layer][width], cycles[layer][width] = weights[layer], taken[layer]
        rest.append(len(made.blob) - sum(weights[layer] for layer in layers))
        others.append(made.cycles - sum(taken[layer] for layer in layers))
        sram = max(sram, made.sram)
        if advance is not None:
            advance(done, len(widths))
    return Tables(flash, cycles, max(rest), max(others), sram)
