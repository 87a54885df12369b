"""Assemble the report from what the stages returned."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapc.allocate import Allocation
from tapc.board import Board
from tapc.cost.model import CostModel
from tapc.data import Samples
from tapc.device import DeviceRun
from tapc.device.verify import Verification
from tapc.firmware import FirmwareImages
from tapc.frontend import FloatModel
from tapc.kernels.conv import ConvSpec
from tapc.kernels.depthwise import DepthwiseSpec
from tapc.lower import Lowered
from tapc.lower.program import Conv, Op
from tapc.network import Network
from tapc.quantize import top1
from tapc.report.schema import Accuracy, AllocationReport, LayerReport, Memory, Quantity, Report


def make_report(
    *,
    version: str,
    model: FloatModel,
    board: Board,
    network: Network,
    lowered: Lowered,
    allocation: Allocation,
    sensitivity: dict[str, float],
    proxy: str,
    cost: CostModel,
    images: FirmwareImages,
    run: DeviceRun | None,
    verification: Verification | None,
    test: Samples,
    float_logits: NDArray[np.float32] | None,
    onnx_logits: NDArray[np.float32] | None,
    data: str,
    pixel_scale: float,
    limits: tuple[int | None, int | None],
    seed: int,
    warnings: tuple[str, ...],
    seconds: dict[str, float],
) -> Report:
    """Build the report; see `Report` for the figures and `pipeline.compile` for the arguments."""
    layers = layer_reports(lowered, cost, run, verification)
    weighted = {layer.name: layer.parameters for layer in network.layers}
    parameters = sum(weighted.values())
    average = sum(count * allocation.bits.weights[name] for name, count in weighted.items()) / max(parameters, 1)
    provenance = {
        "predicted": cost.provenance,
        "flash": "measured: bytes of firmware.bin, read from the ELF",
        "arena": "measured: symbol model_arena in the ELF; predicted by the planner",
        "allocation": "model",
        "macs, bops": "model: padding included",
    }
    if run is not None:
        provenance |= {
            "instructions": "instructions(qemu): exact, first sample",
            "stack": "measured(qemu): high-water mark of a filled stack, start-up and main included",
            "device": "outputs of the firmware in QEMU",
            "onnx": "model.onnx in onnxruntime on the same samples",
            "float": "canonical float ONNX in onnxruntime on the same samples",
        }
    return Report(
        tapc=version,
        model=model.name,
        source=model.provenance,
        source_error=model.source_error,
        board=board.name,
        core=board.core,
        data=data,
        pixel_scale=pixel_scale,
        seed=seed,
        exact=None if verification is None else verification.exact,
        exact_samples=0 if verification is None else verification.samples,
        layers=layers,
        memory=memory(lowered, cost, images, run, board, limits),
        accuracy=accuracy(lowered, run, verification, test, float_logits, onnx_logits),
        allocation=AllocationReport(
            proxy=proxy,
            status=allocation.status,
            objective=allocation.objective,
            bound=allocation.bound,
            gap=allocation.gap,
            sensitivity=sensitivity,
            used={k: {"used": u.used, "limit": u.limit} for k, u in allocation.used.items()},
        ),
        instructions=None if run is None else run.instructions,
        predicted_instructions=cost.total_instructions(lowered.steps),
        macs=sum(layer.macs for layer in layers),
        bops=sum(layer.bops for layer in layers),
        average_weight_bits=average,
        provenance=provenance,
        warnings=warnings,
        seconds=dict(seconds),
    )


def _kind(op: Op, lowered: Lowered) -> str:
    if not isinstance(op, Conv):
        return type(op).__name__.lower()
    spec = next(step.spec for step in lowered.steps if step.op is op)
    if isinstance(spec, DepthwiseSpec):
        return "depthwise"
    assert isinstance(spec, ConvSpec)
    return ("dense" if spec.y.pixels == 1 else "conv") + ("+add" if op.residual is not None else "")


def layer_reports(
    lowered: Lowered, cost: CostModel, run: DeviceRun | None, verification: Verification | None
) -> tuple[LayerReport, ...]:
    """Report every operator that runs, in order."""
    program, reports = lowered.program, []
    for op in program.ops:
        own = [i for i, step in enumerate(lowered.steps) if step.op is op]
        if not own:
            continue
        x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
        macs = program.macs(op)
        w_bits = op.w_bits if isinstance(op, Conv) else None
        reports.append(
            LayerReport(
                name=op.name,
                op=_kind(op, lowered),
                w_bits=w_bits,
                a_bits=x.bits,
                out_bits=y.bits,
                macs=macs,
                bops=macs * (w_bits or 0) * x.bits,
                flash_bytes=sum(cost.constant_bytes(lowered.steps[i]) for i in own),
                arena_bytes=y.bytes + max(lowered.steps[i].spec.scratch_bytes for i in own),
                predicted_instructions=sum(cost.instructions(lowered.steps[i].spec) for i in own),
                instructions=None if run is None else sum(run.instructions_per_step[i] for i in own),
                exact=None if verification is None else verification.layers[op.name],
            )
        )
    return tuple(reports)


def memory(
    lowered: Lowered,
    cost: CostModel,
    images: FirmwareImages,
    run: DeviceRun | None,
    board: Board,
    limits: tuple[int | None, int | None],
) -> Memory:
    """Put predictions, measurements and limits side by side."""
    c, use = cost.coefficients, images.memory
    static = use.data + use.bss
    stack = None if run is None else run.stack_high_water
    return Memory(
        flash=Quantity(predicted=cost.flash(lowered.steps), measured=use.flash, limit=limits[0] or board.flash.size),
        arena=Quantity(predicted=lowered.plan.size, measured=use.arena, limit=board.arena_region.size),
        stack=Quantity(predicted=c.stack_bytes, measured=stack, limit=use.stack_reserved),
        ram=Quantity(
            predicted=lowered.plan.size + c.stack_bytes + c.data_bytes,
            measured=None if stack is None else use.arena + static + stack,
            limit=limits[1] or board.working_ram,
        ),
    )


def _percent(logits: NDArray[Any] | None, y: NDArray[np.int64] | None) -> float | None:
    return None if logits is None or y is None else 100.0 * top1(logits, y)


def accuracy(
    lowered: Lowered,
    run: DeviceRun | None,
    verification: Verification | None,
    test: Samples,
    float_logits: NDArray[np.float32] | None,
    onnx_logits: NDArray[np.float32] | None,
) -> Accuracy:
    """Compare float, ONNX and device on the samples that the device ran."""
    if run is None or verification is None or onnx_logits is None:
        return Accuracy(float=None, onnx=None, device=None, samples=0, onnx_agreement=None, onnx_max_step=None)
    y = lowered.program.tensors[lowered.program.output]
    codes = verification.codes.transpose(0, 3, 1, 2).reshape(len(verification.codes), -1)
    onnx_codes = np.rint(onnx_logits.reshape(codes.shape) / np.float32(y.scale)).astype(np.int64) + y.zero
    classes = y.shape[0] * y.shape[1] == 1
    agreement = 100.0 * float(np.mean(codes.argmax(axis=1) == onnx_codes.argmax(axis=1))) if classes else None
    return Accuracy(
        float=_percent(float_logits, test.y),
        onnx=_percent(onnx_logits, test.y),
        device=_percent(codes, test.y),
        samples=len(codes),
        onnx_agreement=agreement,
        onnx_max_step=int(np.abs(codes - onnx_codes).max()),
    )
