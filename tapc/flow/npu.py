"""A network on an NPU: vela compiles it, or parts of it, and what the NPU would run is proved."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tapc.base.arithmetic import Ints
from tapc.base.options import Options, Source
from tapc.base.output import check_replaceable
from tapc.base.progress import Stages
from tapc.data.metrics import measure
from tapc.flow.balancing import balance
from tapc.flow.fidelity import check_on, source_outputs
from tapc.flow.inputs import load_data, with_units
from tapc.flow.npu_bits import NpuDecision, decide_for_npu
from tapc.flow.npu_divided import ProvedDivided, divided_result, placed_on, prove_parts, write_divided
from tapc.flow.npu_result import OnNpu
from tapc.flow.npu_whole import Models, ProvedWhole, npu_of, prove_whole, whole_result, write_whole
from tapc.flow.rerun import open_build
from tapc.frontend import load
from tapc.graph.analysis import analyse
from tapc.graph.network import CODED_BITS
from tapc.hardware.board import Board
from tapc.ir.program import Program
from tapc.lower.codes import input_codes, random_codes, values
from tapc.npu.parts import Divided, NpuPart
from tapc.npu.tables import check_stateless
from tapc.quantize import calibrate, check_rounding
from tapc.quantize.keep import keep

FOLDER = "npu"
_SAMPLES = 100
Proved = ProvedWhole | ProvedDivided


def _program(made: NpuPart | Divided) -> Program:
    return made.source if isinstance(made, Divided) else made.program


def _proved(made: NpuPart | Divided, codes: Ints, board: Board, stages: Stages) -> Proved:
    if isinstance(made, Divided):
        return prove_parts(made, codes, board, stages)
    return prove_whole(made, codes, board, stages)


def _result(proved: Proved, board: Board, place: Path) -> OnNpu:
    if isinstance(proved, ProvedDivided):
        return divided_result(proved, board, place)
    return whole_result(proved, board, place)


def _write(proved: Proved, result: OnNpu, board: Board, models: Models, stages: Stages) -> OnNpu:
    if isinstance(proved, ProvedDivided):
        return write_divided(proved, result, board, models, stages)
    return write_whole(proved, result, board, models, stages)


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
        The NPU takes none of the operators.
    BudgetError
        The activations exceed the NPU's memory.
    MismatchError
        The commands compute something else.
    """
    npu_of(board)
    stages, found = stages or Stages(), open_build(build)
    check_stateless(found.model)
    with stages.stage("vela"):
        placement = placed_on(board, found.model, found.name)
    program = _program(placement)
    if data in (None, "random"):
        codes = random_codes(program, samples, seed)
    else:
        codes = input_codes(program, found.samples(Path(str(data)), samples, "test", seed).x)
    proved = _proved(placement, codes, board, stages)
    result = _result(proved, board, out or build / FOLDER / board.name)
    return _write(proved, result, board, {}, stages)


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
    npu_of(board)
    stages, source = stages or Stages(), source or Source()
    options = options or Options(rounding="rate")
    check_rounding(options.rounding)
    if out is not None:
        check_replaceable(out.absolute())
    with stages.stage("import"):
        model = load(network, weights=source.weights, input_shape=source.input_shape, seed=options.seed,
                     keep=options.keep is not False, state=source.state, constant=source.constant)  # fmt: skip
        check_stateless(model.onnx)
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
        model, decision = decide_for_npu(model, calibration, x, board, widths, options, stages)
        quantized = decision.quantized
    if decision is not None:
        placement = decision.placement
    else:
        with stages.stage("vela"):
            placement = placed_on(board, quantized.onnx, model.name)
    program = _program(placement)
    proved = _proved(placement, input_codes(program, samples.test.x), board, stages)
    result = _result(proved, board, out or Path("build") / f"{model.name}-{board.name}-npu")
    if decision is not None:
        average = decision.allocation.used["target_bits"].used
        chosen = decision.allocation.bits.weights
        result = replace(
            result, average_bits=average, predicted_bytes=decision.flash, predicted_cycles=decision.cycles,
            layers=tuple(replace(layer, w_bits=chosen.get(layer.name, layer.w_bits)) for layer in result.layers),
        )  # fmt: skip
    if proved.proof is not None:
        codes = proved.proof.codes.astype(np.int64)
        shapes = [program.tensors[name].shape for name in program.outputs]
        found = values(program, codes.reshape(-1, *shapes[0]) if len(shapes) == 1 else codes)
        scores = {"float": source_outputs(model, samples.test.x), "npu": found}
        measured = {who: dict(measure(samples.metric, y, samples.test).values) for who, y in scores.items()}
        result = replace(result, metric=samples.metric.name, scores=measured)
    return _write(proved, result, board, {"model.onnx": quantized.onnx, "float.onnx": model.onnx}, stages)
