"""A network that an NPU computes as a whole: proved, and written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from tapc.base.arithmetic import Ints
from tapc.base.errors import BudgetError, MismatchError, UsageError
from tapc.base.output import replaced_folder
from tapc.base.progress import Stages
from tapc.flow.npu_image import missing, run_whole
from tapc.flow.npu_result import NpuLayer, OnNpu, figures
from tapc.flow.tflite import FILE
from tapc.hardware.board import Board, boards_with_npu
from tapc.hardware.npu import Npu
from tapc.lower.codes import apart
from tapc.lower.names import default_prefix
from tapc.npu import micro
from tapc.npu.library import files_of
from tapc.npu.parts import NpuPart
from tapc.npu.proof import NpuProof, prove
from tapc.npu.tables import by_owner
from tapc.npu.vela import MODE, SYSTEM, VERSION, config_of

LIBRARY, CONFIG, FIGURES = "lib", "vela.ini", "npu.json"
IMAGE_SAMPLES = 3
Models = Mapping[str, onnx.ModelProto]
_PROVED = (
    "the commands were executed by tapc's own model of the Ethos-U55, and every output of {samples} samples equals the "
    "reference executor{micro}; no silicon and no model of Arm's stood behind the reading of the commands"
)
_WHOLE = (
    "; the whole image, with the driver of lib/ ({writes} register writes), gave the same for {samples} of them in "
    "Unicorn, on a Cortex-M33 with that model behind the NPU's registers"
)
_NOTHING = "nothing was executed: tapc's executor knows the commands of the Ethos-U55 alone"


def npu_of(board: Board) -> Npu:
    """Return a board's NPU; UsageError where it has none."""
    if board.npu is None:
        others = ", ".join(boards_with_npu())
        raise UsageError(f"board {board.name} has no NPU: its file has no [npu]; boards with one: {others}")
    return board.npu


@dataclass(frozen=True, eq=False)
class ProvedWhole:
    """A network on the NPU, and what was proved: codes of samples, and how many codes TFLite-Micro gave alike."""

    made: NpuPart
    codes: Ints
    proof: NpuProof | None = None
    micro: int | None = None


def check_room(name: str, taken: int, board: Board, least: str) -> None:
    """Raise BudgetError where activations take more than the NPU may use; `least` says what found that size."""
    npu = npu_of(board)
    if taken > npu.arena_bytes:
        raise BudgetError(
            f"{name} takes {taken:,} bytes of SRAM on {board.name}, {taken - npu.arena_bytes:,} more than its NPU may "
            f"use ({npu.arena_bytes:,}); {taken:,} is the least that {least} found"
        )


def prove_whole(made: NpuPart, codes: Ints, board: Board, stages: Stages) -> ProvedWhole:
    """Run samples in the executor, in the reference executor, and in TFLite-Micro where it is installed.

    Raises
    ------
    BudgetError, MismatchError
    """
    npu, program = npu_of(board), made.program
    check_room(program.name, made.compiled.sram, board, f"vela {VERSION}")
    if not npu.executed:
        return ProvedWhole(made, codes)
    with stages.stage("execute"):
        proof = prove(program, made.network, made.compiled, made.optimized, npu.outputs_at_once, codes)
    check_exact(proof)
    if not micro.installed():
        return ProvedWhole(made, codes, proof)
    with stages.stage("TFLite-Micro"):
        expected = micro.outputs(made.network.blob, apart(program, program.inputs, codes), len(program.outputs))
    if np.any(expected != proof.codes):
        raise MismatchError("TFLite-Micro gives other outputs than the NPU's commands")
    return ProvedWhole(made, codes, proof, int(expected.size))


def check_exact(proof: NpuProof) -> None:
    """Raise MismatchError where something differs."""
    if not proof.exact:
        wrong = [layer.name for layer in proof.layers if layer.different] or ["the outputs"]
        raise MismatchError(f"the NPU's commands compute something else than the reference executor: {wrong[0]}")


def said(proof: NpuProof | None, *, micro: bool) -> str:
    """Return in words what running the commands proved."""
    if proof is None:
        return _NOTHING
    return _PROVED.format(samples=proof.samples, micro=" and TFLite-Micro" if micro else "")


def whole_result(proved: ProvedWhole, board: Board, place: Path) -> OnNpu:
    """Return the figures."""
    npu, made, proof = npu_of(board), proved.made, proved.proof
    compiled = made.compiled
    name, file = made.program.name, f"{made.program.name}_vela.tflite"
    compared = {layer.name: layer.elements for layer in proof.layers} if proof is not None else {}
    weights, cycles = (by_owner(made.network, own) for own in (compiled.weights_of, compiled.cycles_of))
    layers = tuple(
        NpuLayer(op.name, type(op).__name__.lower(), op.weight_bits, weights.get(op.name, 0), cycles.get(op.name, 0),
                 compared.get(op.name, 0))
        for op in made.program.ops
    )  # fmt: skip
    samples = 0 if proof is None else proof.samples
    words = said(proof, micro=proved.micro is not None)
    return OnNpu(
        name, board.name, npu.accelerator, place, file, len(compiled.blob), compiled.cycles,
        1e3 * compiled.cycles / npu.clock_hz, compiled.sram, compiled.flash, compiled.weight_bytes, samples,
        None if proof is None else proof.exact, proved.micro, words, npu.deliver.replace("FILE", str(place / file)),
        layers,
    )  # fmt: skip


def write_whole(proved: ProvedWhole, result: OnNpu, board: Board, models: Models, stages: Stages) -> OnNpu:
    """Write the folder; what the executor knows also gets a C library, which a whole image proves."""
    npu, made = npu_of(board), proved.made
    with replaced_folder(result.folder) as folder:
        (folder / result.file).write_bytes(made.compiled.blob)
        write_sources(folder, npu, models)
        if models:
            (folder / FILE).write_bytes(made.network.blob)
        if npu.executed:
            prefix = default_prefix(made.program.name)
            (folder / LIBRARY).mkdir()
            for name, text in files_of(made.optimized, npu, made.program.name, prefix).items():
                (folder / LIBRARY / name).write_text(text, encoding="utf-8", newline="\n")
            result = _image(proved, result, npu, folder / LIBRARY, prefix, stages)
        (folder / FIGURES).write_text(json.dumps(figures(result), indent=1) + "\n", encoding="utf-8")
    return result


def write_sources(folder: Path, npu: Npu, models: Models) -> None:
    """Write vela's configuration, and the networks."""
    (folder / CONFIG).write_text(_configuration(npu), encoding="utf-8")
    for name, model in models.items():
        onnx.save(model, folder / name)


def without_image(result: OnNpu) -> OnNpu | None:
    """Return the figures where no image can be run; None where one can."""
    lacking = missing()
    return replace(result, proof=f"{result.proof}; no image was run: {lacking} is not installed") if lacking else None


def with_image(result: OnNpu, writes: int, samples: int) -> OnNpu:
    """Return the figures with what an image proved."""
    proof = result.proof + _WHOLE.format(writes=writes, samples=samples)
    return replace(result, proof=proof, image_samples=samples)


def _image(proved: ProvedWhole, result: OnNpu, npu: Npu, library: Path, prefix: str, stages: Stages) -> OnNpu:
    assert proved.proof is not None
    if found := without_image(result):
        return found
    made = proved.made
    with stages.stage("whole image"):
        program, count = made.program, min(IMAGE_SAMPLES, proved.proof.samples)
        parts = zip(program.inputs, apart(program, program.inputs, proved.codes[:count]), strict=True)
        given = {name: part.reshape(count, -1).astype(np.int8) for name, part in parts}
        names, codes = program.outputs, proved.proof.codes[:count]
        ends = np.cumsum([int(np.prod(program.tensors[name].shape)) for name in names])[:-1]
        own = dict(zip(names, np.split(codes, ends, axis=1), strict=True))
        expected = np.concatenate([own[place.name] for place in made.optimized.outputs], axis=1)
        writes = run_whole(library, made.optimized, npu, prefix, given, expected)
    return with_image(result, writes, count)


def _configuration(npu: Npu) -> str:
    options = f"--accelerator-config {npu.accelerator} --system-config {SYSTEM} --memory-mode {MODE}"
    return f"; vela model.tflite --config {CONFIG} {options}\n{config_of(npu)}"
