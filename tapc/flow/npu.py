"""A network on an NPU: vela compiles it, and what the NPU would run is proved."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tapc.base.arithmetic import Ints
from tapc.base.errors import BudgetError, MismatchError, UsageError
from tapc.base.options import Options, Source
from tapc.base.output import check_replaceable, replaced_folder
from tapc.base.progress import Stages
from tapc.data.metrics import measure
from tapc.flow.balancing import balance
from tapc.flow.fidelity import check_on, source_outputs
from tapc.flow.inputs import load_data, with_units
from tapc.flow.npu_bits import NpuDecision, decide_for_npu
from tapc.flow.npu_image import missing, run_whole
from tapc.flow.rerun import open_build
from tapc.flow.tflite import FILE
from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.graph.network import CODED_BITS
from tapc.hardware.board import Board, boards_with_npu
from tapc.hardware.npu import Npu
from tapc.ir.program import Program
from tapc.ir.tflite import TfliteNetwork
from tapc.lower.codes import apart, input_codes, random_codes, values
from tapc.lower.names import default_prefix
from tapc.npu import micro
from tapc.npu.library import files_of
from tapc.npu.optimized import Optimized, read
from tapc.npu.proof import NpuProof, prove
from tapc.npu.tables import by_owner, network_of
from tapc.npu.vela import MODE, SYSTEM, VERSION, Compiled, compile_file, config_of
from tapc.quantize import calibrate, check_rounding
from tapc.quantize.keep import keep

FOLDER, LIBRARY, CONFIG, FIGURES = "npu", "lib", "vela.ini", "npu.json"
_SAMPLES = 100
_IMAGE_SAMPLES = 3
_PROVED = (
    "the commands were executed by tapc's own model of the Ethos-U55, and every output of {samples} samples equals the "
    "reference executor{micro}; no silicon and no model of Arm's stood behind the reading of the commands"
)
_WHOLE = (
    "; the whole image, with the driver of lib/ ({writes} register writes), gave the same for {samples} of them in "
    "Unicorn, on a Cortex-M33 with that model behind the NPU's registers"
)
_NOTHING = "nothing was executed: tapc's executor knows the commands of the Ethos-U55 alone"


@dataclass(frozen=True)
class NpuLayer:
    """An operator on the NPU.

    Attributes
    ----------
    name, op : str
    w_bits : int or None
    weight_bytes : int
        Coded.
    cycles : int
        Vela's estimate.
    compared : int
        Codes that were compared with the reference executor; 0 where vela computes it together with another one.
    """

    name: str
    op: str
    w_bits: int | None
    weight_bytes: int
    cycles: int
    compared: int


@dataclass(frozen=True)
class OnNpu:
    """A network on an NPU.

    Attributes
    ----------
    model, board, accelerator : str
    folder : Path
        Holds the optimized file, vela's configuration and these figures.
    file : str
        The optimized TFLite file.
    file_bytes : int
        Of it: what the flash holds.
    cycles : int
        Of an inference, by vela's performance model.
    milliseconds : float
        At the NPU's clock.
    sram, flash, weight_bytes : int
        Bytes: activations, constants and commands, coded weights.
    samples : int
    exact : bool or None
        No code of an output or a layer differs from the reference executor's; None where nothing was executed.
    tflite_micro : int or None
        Output codes that TFLite-Micro gave alike; None where it was not asked.
    proof : str
        What was proved, in words.
    send : str
        Command that sends the file to the board; empty where there is none.
    layers : tuple of NpuLayer
    average_bits : float or None
        Of the weights; None where a build has them.
    predicted_bytes, predicted_cycles : int or None
        When the widths were chosen.
    metric : str
        What the samples measure; "none" where they measure nothing.
    scores : dict of str to dict of str to float
        "float" and "npu" -> figures of the metric.
    image_samples : int
        Of which a whole image with the driver gave the outputs in Unicorn.
    """

    model: str
    board: str
    accelerator: str
    folder: Path
    file: str
    file_bytes: int
    cycles: int
    milliseconds: float
    sram: int
    flash: int
    weight_bytes: int
    samples: int
    exact: bool | None
    tflite_micro: int | None
    proof: str
    send: str
    layers: tuple[NpuLayer, ...]
    average_bits: float | None = None
    predicted_bytes: int | None = None
    predicted_cycles: int | None = None
    metric: str = "none"
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    image_samples: int = 0


def npu_of(board: Board) -> Npu:
    """Return a board's NPU; UsageError where it has none."""
    if board.npu is None:
        others = ", ".join(boards_with_npu())
        raise UsageError(f"board {board.name} has no NPU: its file has no [npu]; boards with one: {others}")
    return board.npu


@dataclass(frozen=True, eq=False)
class _Made:
    """What was made of a network and proved: the file, vela's, the proof, and how many codes TFLite-Micro gave."""

    program: Program
    network: TfliteNetwork
    compiled: Compiled
    optimized: Optimized
    codes: Ints
    proof: NpuProof | None = None
    micro: int | None = None


def _make(program: Program, network: TfliteNetwork, codes: Ints, board: Board, stages: Stages) -> _Made:
    npu = npu_of(board)
    with stages.stage("vela"):
        compiled = compile_file(network.blob, npu)
        optimized = read(compiled.blob)
    if compiled.sram > npu.arena_bytes:
        over = compiled.sram - npu.arena_bytes
        raise BudgetError(
            f"{program.name} takes {compiled.sram:,} bytes of SRAM on {board.name}, {over:,} more than its NPU may "
            f"use ({npu.arena_bytes:,}); {compiled.sram:,} is the least that vela {VERSION} found"
        )
    if not npu.executed:
        return _Made(program, network, compiled, optimized, codes)
    with stages.stage("execute"):
        proof = prove(program, network, compiled, optimized, npu.outputs_at_once, codes)
    if not proof.exact:
        wrong = [layer.name for layer in proof.layers if layer.different] or ["the outputs"]
        raise MismatchError(f"the NPU's commands compute something else than the reference executor: {wrong[0]}")
    if not micro.installed():
        return _Made(program, network, compiled, optimized, codes, proof)
    with stages.stage("TFLite-Micro"):
        expected = micro.outputs(network.blob, apart(program, program.inputs, codes), len(program.outputs))
    if np.any(expected != proof.codes):
        raise MismatchError("TFLite-Micro gives other outputs than the NPU's commands")
    return _Made(program, network, compiled, optimized, codes, proof, int(expected.size))


def _result(made: _Made, board: Board, place: Path) -> OnNpu:
    npu, compiled, proof = npu_of(board), made.compiled, made.proof
    name, file = made.program.name, f"{made.program.name}_vela.tflite"
    compared = {layer.name: layer.elements for layer in proof.layers} if proof is not None else {}
    weights, cycles = (by_owner(made.network, own) for own in (compiled.weights_of, compiled.cycles_of))
    layers = tuple(
        NpuLayer(op.name, type(op).__name__.lower(), op.weight_bits, weights.get(op.name, 0), cycles.get(op.name, 0),
                 compared.get(op.name, 0))
        for op in made.program.ops
    )  # fmt: skip
    samples = 0 if proof is None else proof.samples
    said = _NOTHING
    if proof is not None:
        said = _PROVED.format(samples=samples, micro=" and TFLite-Micro" if made.micro is not None else "")
    return OnNpu(
        name, board.name, npu.accelerator, place, file, len(compiled.blob), compiled.cycles,
        1e3 * compiled.cycles / npu.clock_hz, compiled.sram, compiled.flash, compiled.weight_bytes, samples,
        None if proof is None else proof.exact, made.micro, said, npu.deliver.replace("FILE", str(place / file)),
        layers,
    )  # fmt: skip


def _write(made: _Made, result: OnNpu, board: Board, models: Mapping[str, onnx.ModelProto], stages: Stages) -> OnNpu:
    """Write the folder; what the executor knows also gets a C library, which a whole image proves."""
    npu = npu_of(board)
    with replaced_folder(result.folder) as folder:
        (folder / result.file).write_bytes(made.compiled.blob)
        (folder / CONFIG).write_text(_configuration(npu), encoding="utf-8")
        for name, model in models.items():
            onnx.save(model, folder / name)
        if models:
            (folder / FILE).write_bytes(made.network.blob)
        if npu.executed:
            prefix = default_prefix(made.program.name)
            (folder / LIBRARY).mkdir()
            for name, text in files_of(made.optimized, npu, made.program.name, prefix).items():
                (folder / LIBRARY / name).write_text(text, encoding="utf-8", newline="\n")
            result = _whole(made, result, npu, folder / LIBRARY, prefix, stages)
        (folder / FIGURES).write_text(json.dumps(figures(result), indent=1) + "\n", encoding="utf-8")
    return result


def _whole(made: _Made, result: OnNpu, npu: Npu, library: Path, prefix: str, stages: Stages) -> OnNpu:
    assert made.proof is not None
    if lacking := missing():
        return replace(result, proof=f"{result.proof}; no image was run: {lacking} is not installed")
    with stages.stage("whole image"):
        program, count = made.program, min(_IMAGE_SAMPLES, made.proof.samples)
        parts = zip(program.inputs, apart(program, program.inputs, made.codes[:count]), strict=True)
        given = {name: part.reshape(count, -1).astype(np.int8) for name, part in parts}
        names, codes = program.outputs, made.proof.codes[:count]
        ends = np.cumsum([int(np.prod(program.tensors[name].shape)) for name in names])[:-1]
        own = dict(zip(names, np.split(codes, ends, axis=1), strict=True))
        expected = np.concatenate([own[place.name] for place in made.optimized.outputs], axis=1)
        writes = run_whole(library, made.optimized, npu, prefix, given, expected)
    proof = result.proof + _WHOLE.format(writes=writes, samples=count)
    return replace(result, proof=proof, image_samples=count)


def compile_for_npu(
    build: Path, board: Board, data: str | None = None, samples: int = _SAMPLES, seed: int = 0,
    out: Path | None = None, stages: Stages | None = None,
) -> OnNpu:  # fmt: skip
    """Compile a build's network for a board's NPU and prove it.

    Parameters
    ----------
    build : Path
        A finished build, for whatever board.
    board : Board
        One with an NPU.
    data : str, optional
        Samples; random input codes where None or "random".
    samples : int
    seed : int
    out : Path, optional
        By default BUILD/npu/BOARD.
    stages : Stages, optional

    Raises
    ------
    UnsupportedError
        The network has activations of 4 bits, or operators that TFLite or the NPU does not take.
    BudgetError
        The activations exceed the NPU's memory.
    MismatchError
        The commands compute something else.
    """
    npu_of(board)
    stages, found = stages or Stages(), open_build(build)
    with stages.stage("lower"):
        program, network = network_of(found.model, found.name)
    if data in (None, "random"):
        codes = random_codes(program, samples, seed)
    else:
        codes = input_codes(program, found.samples(Path(str(data)), samples, "test", seed).x)
    made = _make(program, network, codes, board, stages)
    result = _result(made, board, out or build / FOLDER / board.name)
    return _write(made, result, board, {}, stages)


def compile_network_for_npu(
    network: Any, board: Board, data: Any = None, source: Source | None = None, options: Options | None = None,
    widths: tuple[int, ...] = CODED_BITS, out: Path | None = None, stages: Stages | None = None,
) -> OnNpu:  # fmt: skip
    """Choose widths for a board's NPU, quantize a network with them, compile and prove it.

    Parameters
    ----------
    network : str or Path
        Zoo name, ``file.py:callable``, ONNX or TFLite file; a quantized one is kept, integer for integer.
    board : Board
        One with an NPU.
    data : str, Path or arrays, optional
        As for `tapc.compile`.
    source : Source, optional
        How the network and raw values are read.
    options : Options, optional
        Budgets, rounding, samples and seed.
    widths : tuple of int
        On offer, of 2 to 8 bits.
    out : Path, optional
        By default build/NAME-BOARD-npu.
    stages : Stages, optional

    Raises
    ------
    TapcError
        As `compile_for_npu`, and as a compilation.
    """
    npu, stages, options, source = npu_of(board), stages or Stages(), options or Options(), source or Source()
    check_rounding(options.rounding)
    if out is not None:
        check_replaceable(out.absolute())
    with stages.stage("import"):
        model = load(network, weights=source.weights, input_shape=source.input_shape, seed=options.seed,
                     keep=options.keep is not False)  # fmt: skip
        model = with_units(model, source.pixel_scale, source.mean, source.std)
    with stages.stage("data"):
        samples = load_data(model, data, options)
        model = check_on(model, samples.calibration.x)
    decision: NpuDecision | None = None
    if model.given is not None:
        quantized = keep(model, analyse(model.onnx, model.name), model.given, samples.calibration.x)
    else:
        if options.equalize:
            with stages.stage("equalize"):
                model = balance(model, samples.calibration.x, widths)
        with stages.stage("calibrate"):
            calibration = calibrate(model, samples.calibration.x, seed=options.seed,
                                    pictures=samples.calibration.pictures)  # fmt: skip
        x = samples.calibration.x
        model, decision = decide_for_npu(model, calibration, x, npu, widths, options, stages)
        quantized = decision.quantized
    with stages.stage("lower"):
        program, written = network_of(quantized.onnx, model.name)
    made = _make(program, written, input_codes(program, samples.test.x), board, stages)
    result = _result(made, board, out or Path("build") / f"{model.name}-{board.name}-npu")
    if decision is not None:
        average = decision.allocation.used["target_bits"].used
        chosen = decision.allocation.bits.weights
        result = replace(
            result, average_bits=average, predicted_bytes=decision.flash, predicted_cycles=decision.cycles,
            layers=tuple(replace(layer, w_bits=chosen.get(layer.name, layer.w_bits)) for layer in result.layers),
        )  # fmt: skip
    if made.proof is not None:
        codes = made.proof.codes.astype(np.int64)
        shapes = [program.tensors[name].shape for name in program.outputs]
        found = values(program, codes.reshape(-1, *shapes[0]) if len(shapes) == 1 else codes)
        scores = {"float": source_outputs(model, samples.test.x), "npu": found}
        measured = {who: dict(measure(samples.metric, y, samples.test).values) for who, y in scores.items()}
        result = replace(result, metric=samples.metric.name, scores=measured)
    return _write(made, result, board, {"model.onnx": quantized.onnx, "float.onnx": model.onnx}, stages)


def figures(result: OnNpu) -> dict[str, object]:
    """Return the figures for JSON."""
    origins = {"cycles": f"estimated(vela {VERSION})", "sram": f"vela {VERSION}", "flash": f"vela {VERSION}"}
    return asdict(result) | {"folder": str(result.folder), "provenance": origins}


def _configuration(npu: Npu) -> str:
    options = f"--accelerator-config {npu.accelerator} --system-config {SYSTEM} --memory-mode {MODE}"
    return f"; vela model.tflite --config {CONFIG} {options}\n{config_of(npu)}"
