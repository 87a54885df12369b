"""A network of which an NPU computes parts and its CPU the rest: proved, and written."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from tapc.base.arithmetic import Ints
from tapc.base.errors import MismatchError
from tapc.base.options import Options
from tapc.base.output import replaced_folder
from tapc.base.progress import Stages
from tapc.flow.latency import Meter, meter
from tapc.flow.npu_image import run_divided
from tapc.flow.npu_result import NpuLayer, OnNpu, figures
from tapc.flow.npu_whole import (
    FIGURES,
    IMAGE_SAMPLES,
    LIBRARY,
    Models,
    check_exact,
    check_room,
    npu_of,
    said,
    with_image,
    without_image,
    write_sources,
)
from tapc.flow.tflite import FILE
from tapc.hardware.board import Board
from tapc.hardware.target import Target, load_target
from tapc.ir.program import Step
from tapc.lower import Lowered, scheduled
from tapc.lower.codes import apart
from tapc.lower.facts import Facts
from tapc.lower.fuse import fuse
from tapc.lower.place import own_bytes
from tapc.lower.prune import prune
from tapc.npu import micro
from tapc.npu.divided_proof import prove_divided
from tapc.npu.library import divided_files
from tapc.npu.parts import Divided, NpuPart, placed
from tapc.npu.proof import NpuProof
from tapc.npu.segment import SegmentSpec
from tapc.npu.tables import Costs, by_owner

PARTS = "parts"
_KERNELS = "; the CPU's kernels were run in the image, compiled for a core without Helium"
_NO_KERNELS = "; of the CPU's kernels nothing was run"
_PARTS_FILE = "; TFLite-Micro was given the parts alone: it has not all of the network's operators"
_VELAS_FILE = "; {file} is vela's own file of the whole network, of which nothing was executed: TFLite-Micro runs it"


@dataclass(frozen=True, eq=False)
class ProvedDivided:
    """A network between NPU and CPU, and what was proved."""

    made: Divided
    lowered: Lowered
    codes: Ints
    proof: NpuProof
    micro: int | None


def lowered_of(made: Divided, seed: int = 0) -> Lowered:
    """Choose kernels for the CPU's operators, and plan one arena for all."""
    return scheduled(fuse(prune(made.program)), None, source=made.program, seed=seed)


def prove_parts(made: Divided, codes: Ints, board: Board, stages: Stages) -> ProvedDivided:
    """Run samples in the executor, in the reference executor, and in TFLite-Micro where it is installed.

    Raises
    ------
    BudgetError, MismatchError
    """
    npu, lowered = npu_of(board), lowered_of(made)
    check_room(made.source.name, lowered.plan.size, board, "the planner")
    ask, whole = micro.installed(), made.file
    with stages.stage("execute"):
        proof, otherwise = prove_divided(made, npu.outputs_at_once, codes, ask_micro=ask and whole is None)
    check_exact(proof)
    if ask and whole is not None:
        with stages.stage("TFLite-Micro"):
            source = made.source
            found = micro.outputs(whole.blob, apart(source, source.inputs, codes), len(source.outputs))
        otherwise = int(np.count_nonzero(found != proof.codes))
    if otherwise:
        raise MismatchError("TFLite-Micro gives other outputs than the NPU's commands")
    return ProvedDivided(made, lowered, codes, proof, proof.outputs if ask else None)


@dataclass(frozen=True)
class DividedCosts:
    """What a network between NPU and CPU takes.

    Attributes
    ----------
    flash : dict of str to int
        Operator -> bytes of coded weights, or of the CPU's constants.
    npu, cpu : dict of str to int
        Operator -> cycles, of the machine that computes it.
    total_flash : int
        Commands and constants of all parts, and constants of the CPU's kernels; not their code.
    total_npu, total_cpu : int
        Cycles; the CPU's with what it copies for the NPU.
    sram : int
        The arena.
    """

    flash: Mapping[str, int]
    npu: Mapping[str, int]
    cpu: Mapping[str, int]
    total_flash: int
    total_npu: int
    total_cpu: int
    sram: int


def costs_of(made: Divided, lowered: Lowered, board: Board, target: Target) -> DividedCosts:
    """Predict what a network takes: vela's estimates for the NPU, the core's cost model for the CPU."""
    flash, npu, cpu = Counter[str](), Counter[str](), Counter[str]()
    for part in made.parts:
        flash.update(by_owner(part.network, part.compiled.weights_of))
        npu.update(by_owner(part.network, part.compiled.cycles_of))
    own, copied = meter(board, target, Options()), 0
    sizes = own_bytes(lowered.steps)
    for step, size in zip(lowered.steps, sizes, strict=True):
        if isinstance(step.spec, SegmentSpec):
            copied += _cycles(own, replace(step, constants={}))
        else:
            cpu[step.op.name] += _cycles(own, step)
            flash[step.op.name] += size
    total = sum(part.compiled.cycles for part in made.parts)
    return DividedCosts(flash, npu, cpu, sum(sizes), total, cpu.total() + copied, lowered.plan.size)


def placed_on(board: Board, model: onnx.ModelProto, name: str) -> NpuPart | Divided:
    """Compile a QDQ network for a board's NPU, and for its CPU what the NPU does not take; see `placed`."""
    return placed(model, name, npu_of(board), load_target(board.core).isa)


def layer_costs(made: NpuPart | Divided, board: Board) -> Costs:
    """Tell what a compiled network takes, layer by layer; cycles of the CPU are counted as the NPU's."""
    npu, target = npu_of(board), load_target(board.core)
    if isinstance(made, NpuPart):
        weights, cycles = (by_owner(made.network, own) for own in (made.compiled.weights_of, made.compiled.cycles_of))
        return Costs(weights, cycles, len(made.compiled.blob), made.compiled.cycles, made.compiled.sram)
    costs, faster = costs_of(made, lowered_of(made), board, target), npu.clock_hz / board.clocks.cpu_hz
    names = {*costs.flash, *costs.npu, *costs.cpu, *(op.name for op in made.source.ops)}
    both = {name: costs.npu.get(name, 0) + round(faster * costs.cpu.get(name, 0)) for name in names}
    total = costs.total_npu + round(faster * costs.total_cpu)
    flash = {name: costs.flash.get(name, 0) for name in names}
    return Costs(flash, both, costs.total_flash, total, costs.sram, frozenset(made.reasons))


def _cycles(own: Meter, step: Step) -> int:
    return round(own.cycles(step))


def divided_result(proved: ProvedDivided, board: Board, place: Path) -> OnNpu:
    """Return the figures."""
    npu, made, proof = npu_of(board), proved.made, proved.proof
    costs = costs_of(made, proved.lowered, board, load_target(board.core))
    compared = {layer.name: layer.elements for layer in proof.layers}
    layers = tuple(
        NpuLayer(
            op.name, type(op).__name__.lower(), op.weight_bits, costs.flash.get(op.name, 0),
            (costs.cpu if op.name in made.reasons else costs.npu).get(op.name, 0), compared[op.name],
            "cpu" if op.name in made.reasons else "npu", made.reasons.get(op.name, ""),
        )
        for op in made.source.ops
    )  # fmt: skip
    words = said(proof, micro=proved.micro is not None)
    if proved.micro is not None and made.file is None:
        words += _PARTS_FILE
    blob = made.compiled.blob if made.compiled is not None else b""
    file = f"{made.source.name}_vela.tflite" if blob else ""
    if file:
        words += _VELAS_FILE.format(file=file)
    on_cpu = 1e3 * costs.total_cpu / board.clocks.cpu_hz
    return OnNpu(
        made.source.name, board.name, npu.accelerator, place, file, len(blob), costs.total_npu,
        1e3 * costs.total_npu / npu.clock_hz + on_cpu, costs.sram, costs.total_flash,
        sum(part.compiled.weight_bytes for part in made.parts), proof.samples, proof.exact, proved.micro, words, "",
        layers, parts=len(made.parts), cpu_cycles=costs.total_cpu, cpu_milliseconds=on_cpu,
    )  # fmt: skip


def write_divided(proved: ProvedDivided, result: OnNpu, board: Board, models: Models, stages: Stages) -> OnNpu:
    """Write the folder: the C library, which a whole image proves, and vela's files of the parts."""
    npu, made, target = npu_of(board), proved.made, load_target(board.core)
    with replaced_folder(result.folder) as folder:
        write_sources(folder, npu, models)
        (folder / PARTS).mkdir()
        for number, part in enumerate(made.parts):
            (folder / PARTS / f"{number:03}_vela.tflite").write_bytes(part.compiled.blob)
        if made.file is not None and made.compiled is not None:
            (folder / result.file).write_bytes(made.compiled.blob)
            if models:
                (folder / FILE).write_bytes(made.file.blob)
        library = folder / LIBRARY
        library.mkdir()
        accuracy = (f"{result.samples} samples: every output of every part on the NPU equals the reference executor's",)
        facts = Facts(core=target.name, board=board.name, flags=target.cflags, accuracy=accuracy,
                      arithmetic=made.source.mode)  # fmt: skip
        with stages.stage("library"):
            for name, text in divided_files(proved.lowered, npu, facts).items():
                (library / name).write_text(text, encoding="utf-8", newline="\n")
        result = _image(proved, result, board, library, stages)
        (folder / FIGURES).write_text(json.dumps(figures(result), indent=1) + "\n", encoding="utf-8")
    return result


def _image(proved: ProvedDivided, result: OnNpu, board: Board, library: Path, stages: Stages) -> OnNpu:
    if found := without_image(result):
        return replace(found, proof=found.proof + _NO_KERNELS)
    count = min(IMAGE_SAMPLES, proved.proof.samples)
    with stages.stage("whole image"):
        verification, writes = run_divided(library, proved.lowered, npu_of(board), proved.codes[:count])
    if not verification.exact:
        raise MismatchError(f"the whole image differs from the reference executor: {verification.mismatch}")
    result = with_image(result, writes, count)
    compared = dict(_compared(proved.lowered, count))
    layers = tuple(
        replace(layer, compared=compared.get(layer.name, 0)) if layer.where == "cpu" else layer
        for layer in result.layers
    )
    return replace(result, layers=layers, proof=result.proof + _KERNELS)


def _compared(lowered: Lowered, samples: int) -> Iterator[tuple[str, int]]:
    """Yield operators of the CPU and how many codes of theirs were compared."""
    for step in lowered.steps:
        yield step.op.name, samples * int(np.prod(lowered.program.tensors[step.output].shape))
