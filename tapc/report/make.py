"""Assemble the report from what the stages returned."""

from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from tapc.data import Samples
from tapc.data.figures import confusion, least_sqnr, sqnr
from tapc.data.metrics import agreement, measure
from tapc.graph.parts import layers_in_parts
from tapc.ir.decoding import compared
from tapc.ir.program import Program
from tapc.lower.codes import output_sizes, steps_apart
from tapc.lower.place import own_bytes
from tapc.report.advice import advice, doubts
from tapc.report.compilation import Compilation
from tapc.report.origins import provenance
from tapc.report.patches import patch_reports
from tapc.report.refusals import refused_reports
from tapc.report.regions import RegionReport
from tapc.report.samples import Inputs, SampleFiles
from tapc.report.schema import (
    Accuracy,
    AllocationReport,
    LayerReport,
    Memory,
    OutputReport,
    Quantity,
    Report,
    TensorReport,
)
from tapc.report.stack import stack_report
from tapc.report.states import state_reports
from tapc.report.timing import predicted_time, timing_report

_CONFUSION = 100
"""Most classes that are counted by the class that is named."""


def make_report(c: Compilation) -> Report:
    """Build the report; see `Report` for the figures."""
    layers = layer_reports(c)
    bits, measured, allocation = c.allocation.bits.weights, c.measured, c.allocation
    parameters = sum(layer.parameters for layer in c.network.layers)
    average = sum(layer.parameters * bits[layer.name] for layer in c.network.layers) / max(parameters, 1)
    measured_accuracy = accuracy(c)
    return Report(
        tapc=version("tapc"),
        model=c.model.name,
        source=c.model.provenance,
        source_error=c.model.source_error,
        board=c.board.name,
        core=c.board.core,
        data=c.data,
        samples=SampleFiles(
            data=c.file,
            test_data=None if c.options.test_data is None else str(c.options.test_data),
            dataset="" if c.file else c.model.dataset,
        ),
        pixel_scale=c.model.pixel_scale,
        mean=c.model.mean,
        std=c.model.std,
        units_given=c.model.units_given,
        inputs=inputs(c.calibration),
        labels=c.labels,
        seed=c.options.seed,
        exact=None if measured is None else measured.verification.exact,
        exact_samples=0 if measured is None else measured.verification.samples,
        layers=layers,
        memory=memory(c),
        accuracy=measured_accuracy,
        allocation=AllocationReport(
            proxy=c.options.proxy,
            status=allocation.status,
            objective=allocation.objective,
            bound=allocation.bound,
            gap=allocation.gap,
            sensitivity=c.sensitivity,
            used={k: {"used": u.used, "limit": u.limit} for k, u in allocation.used.items()},
            latency_unit=c.options.latency_unit,
        ),
        instructions=None if measured is None else measured.run.instructions,
        cycles_estimated=None if measured is None else measured.cycles,
        timing=timing_report(None if measured is None else measured.run.timing),
        predicted_time=predicted_time((layer.predicted_cycles for layer in layers), c.calibrated),
        device="none" if measured is None else measured.run.device,
        predicted_instructions=c.cost.total_instructions(c.lowered.steps),
        macs=sum(layer.macs for layer in layers),
        live_macs=sum(layer.live_macs for layer in layers),
        bops=sum(layer.bops for layer in layers),
        average_weight_bits=average,
        provenance=provenance(c),
        channel_groups=channel_groups(c),
        equalized=c.equalized,
        kept="" if c.model.given is None else c.model.given.kind,
        arithmetic=c.arithmetic,
        training=c.training,
        refused=refused_reports(c),
        schedules=c.lowered.schedules,
        patches=patch_reports(c.lowered.program),
        states=state_reports(c.lowered.program),
        stream=c.stream,
        without_tflite=c.without_tflite,
        warnings=(
            *c.warnings,
            *advice(c.options, c.board, measured_accuracy, c.training is not None, c.model.given is not None),
            *_doubts(c),
            *far_from_onnx(measured_accuracy.onnx_max_step, len(c.lowered.reference.ops)),
            *outside_memory(c),
        ),
        seconds=dict(c.seconds),
    )


def channel_groups(c: Compilation) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return the weight bits and output channels of the parts of layers that are in parts."""
    bits = c.allocation.bits.weights
    channels = {layer.name: layer.weight_shape[0] for layer in c.network.layers}
    return {
        name: tuple((bits[part], channels[part]) for part in parts)
        for name, parts in layers_in_parts(c.model.onnx.graph.node).items()
    }


def outside_memory(c: Compilation) -> tuple[str, ...]:
    """Return warnings about memories that work only when the firmware has set up their controllers."""
    found, run = [], c.lowered.names.symbol("run")
    for name in sorted(set(c.lowered.regions.values())):
        layers = dict.fromkeys(c.lowered.steps[i].op.name for i, region in c.lowered.regions.items() if region == name)
        size = sum(c.placed[i].bytes for i, region in c.lowered.regions.items() if region == name)
        stalls = sum(c.placed[i].stalls for i, region in c.lowered.regions.items() if region == name)
        found.append(
            f"{size:,} bytes of weights ({', '.join(layers)}) are in {name}: its controller must be in memory-mapped "
            f"mode before {run}(); reading them there costs about {stalls:,.0f} cycles per inference (model); "
            f"fewer bits (--target-bits) or --no-external keep them inside{mpu_note(c.board.region(name).origin)}"
        )
    if c.board.arena_region.kind == "external_ram":
        found.append(
            f"the activations are in {c.board.arena_region.name}: its controller must be set up before {run}(); "
            f"--abits 4,8 or a smaller input may keep them inside{mpu_note(c.board.arena_region.origin)}"
        )
    return tuple(found)


def mpu_note(origin: int) -> str:
    """Return what to add where Arm's default memory map makes an address Device memory: unaligned loads fault."""
    if not 0xA0000000 <= origin < 0xE0000000:
        return ""
    return (
        f"; at 0x{origin:08X} memory is Device memory after reset, where the kernels' unaligned loads fault: an MPU "
        "region must make it Normal memory first"
    )


def layer_reports(c: Compilation) -> tuple[LayerReport, ...]:
    """Report every operator that runs, in order."""
    lowered, cost, measured = c.lowered, c.cost, c.measured
    counts = None if measured is None else measured.run.instructions_per_step or None
    timing = None if measured is None else measured.run.timing
    program, reports = lowered.program, []
    nominal = {layer.name: layer.macs for layer in c.network.layers}
    sizes = own_bytes(lowered.steps)
    layers: dict[str, list[int]] = {}  # bands of a layer have its name
    for i, step in enumerate(lowered.steps):
        layers.setdefault(step.op.name, []).append(i)
    for own in layers.values():
        op = lowered.steps[own[0]].op
        x, y = program.tensors[op.inputs[0]], program.tensors[op.output]
        macs = sum(nominal.get(name, 0) for name in op.layers)
        w_bits, kind = op.weight_bits, op.kind(lowered.steps[own[0]].spec)
        predicted = sum(cost.instructions(lowered.steps[i].spec) for i in own)
        stalls = sum(c.placed[i].stalls for i in own)
        factors = None if c.calibrated is None else c.calibrated.fit.factors
        reports.append(
            LayerReport(
                name=op.name,
                op=kind,
                w_bits=w_bits,
                a_bits=x.bits,
                out_bits=y.bits,
                macs=macs,
                live_macs=sum(band.macs(program) for band in dict.fromkeys(lowered.steps[i].op for i in own)),
                bops=macs * (w_bits or 0) * x.bits,
                flash_bytes=sum(sizes[i] for i in own),
                arena_bytes=max(
                    program.tensors[lowered.steps[i].output].bytes + lowered.steps[i].spec.scratch_bytes for i in own
                ),
                predicted_instructions=predicted,
                predicted_cycles=None if factors is None else round(factors.cycles(kind, predicted, stalls)),
                instructions=None if counts is None else sum(counts[i] for i in own),
                cycles=None if timing is None else sum(timing.steps[i] for i in own),
                exact=None if measured is None else measured.verification.layers[op.name],
                rounding=c.rounding.get(op.name),
                region=next((c.placed[i].region for i in own if c.placed[i].bytes), None),
                stall_cycles=stalls,
                alternatives=c.alternatives.get(op.name, ()),
            )
        )
    return tuple(reports)


def memory(c: Compilation) -> Memory:
    """Put predictions, measurements and limits side by side."""
    model, use, arena = c.cost.coefficients, c.images.memory, c.lowered.plan.size
    predicted_stack = c.cost.stack(c.lowered.steps)
    stack = None if c.measured is None else c.measured.run.stack_high_water
    outside: dict[str, int] = {}
    for i, region in c.lowered.regions.items():
        outside[region] = outside.get(region, 0) + c.placed[i].bytes
    return Memory(
        external={
            name: Quantity(predicted=size, measured=use.external.get(name), limit=c.board.region(name).size)
            for name, size in sorted(outside.items())
        },
        arena_region=c.board.arena_region.name,
        support=use.support,
        regions=region_reports(c),
        run_stack=stack_report(c.images.stack),
        tensors=tuple(
            TensorReport(
                name=b.name,
                region=c.board.arena_region.name,
                offset=c.lowered.plan.offsets[b.name],
                bytes=b.size,
                first=b.first,
                last=b.last,
            )
            for b in c.lowered.plan.buffers
        ),
        flash=Quantity(
            predicted=c.cost.flash(c.lowered.steps),
            measured=use.flash,
            limit=c.options.flash or (c.board.flash_bytes(external=True) if outside else c.board.flash.size),
        ),
        arena=Quantity(predicted=arena, measured=use.arena, limit=c.board.arena_region.size),
        stack=Quantity(predicted=predicted_stack, measured=stack, limit=use.stack_reserved),
        ram=Quantity(
            predicted=arena + model.data_bytes + predicted_stack,
            measured=None if stack is None else use.static_ram + stack,
            limit=c.options.ram or c.board.ram_limit(model.besides_arena),
        ),
    )


def region_reports(c: Compilation) -> tuple[RegionReport, ...]:
    """Report every memory of the board, in its file's order."""
    use, board = c.images.memory, c.board
    inside = use.flash - sum(use.external.values())
    stack = use.stack_reserved if c.measured is None else c.measured.run.stack_high_water
    placed = [
        (board.flash.name, "network", inside),
        *((name, "weights", size) for name, size in use.external.items()),
        *((name, "copies", size) for name, size in use.copied.items()),
        (board.flash.name, "support", use.support),
        (board.arena_region.name, "arena", use.arena),
        (board.data_region.name, "variables", use.data + use.bss),
        (board.data_region.name, "support", use.support_ram),
        (board.stack_region.name, "stack", stack),
    ]
    return tuple(
        RegionReport(
            name=region.name,
            kind=region.kind,
            origin=region.origin,
            size=region.size,
            parts={part: size for name, part, size in placed if name == region.name and size},
        )
        for region in board.memory
    )


def inputs(calibration: Samples) -> Inputs:
    """Describe the calibration samples: their units and range."""
    random = calibration.source.startswith("random")
    low, high = calibration.raw or (None, None)
    kind = "random" if random else "integers" if calibration.whole else "floats"
    return Inputs(units=str(calibration.units), low=low, high=high, kind=kind)


def _doubts(c: Compilation) -> tuple[str, ...]:
    return doubts(c.test, c.metric, None if c.measured is None else c.measured.float_logits)


def far_from_onnx(steps: int | None, operators: int) -> tuple[str, ...]:
    """Return a warning where device and model.onnx in onnxruntime differ by more than rounding explains.

    Parameters
    ----------
    steps : int or None
        Largest difference in steps of the output.
    operators : int
        Operators of the network: each may add a step.
    """
    limit = max(operators, 4)
    if steps is None or steps <= limit:
        return ()
    return (
        f"device and model.onnx in onnxruntime are up to {steps} steps of the output apart; rounding explains {limit}: "
        "some sum cancels, or is clipped far inside its range, and onnxruntime adds it in float32. The firmware equals "
        "exact integer arithmetic; check the accuracy of 'device', not that of 'onnx'",
    )


def accuracy(c: Compilation) -> Accuracy:
    """Compare float, ONNX and device on the samples that the device ran."""
    none = Accuracy(float=None, onnx=None, device=None, samples=0, onnx_agreement=None, onnx_max_step=None,
                    reason="nothing ran (--no-simulate)")  # fmt: skip
    if c.measured is None:
        return none
    measured, program, test, metric = c.measured, c.lowered.program, c.test, c.metric
    tensors = [program.tensors[name] for name in compared(program)]
    device = measured.verification.outputs(program)
    sizes = output_sizes(program)
    scales = np.repeat(np.array([y.scale for y in tensors], np.float32), sizes)
    codes, onnx_codes = (
        np.rint(values.reshape(device.shape) / scales).astype(np.int64) for values in (device, measured.onnx_logits)
    )
    classes = len(tensors) == 1 and tensors[0].shape[:2] == (1, 1)
    same = codes == onnx_codes if metric.index else codes.argmax(axis=1) == onnx_codes.argmax(axis=1)
    same_codes = 100.0 * float(np.mean(same)) if classes else None
    exact = measured.float_logits.reshape(codes.shape)
    outputs = {"float": exact, "onnx": measured.onnx_logits, "device": device}
    decoded = {"device": measured.verification.detections(program)}
    scores = {name: measure(metric, values, test, decoded.get(name)) for name, values in outputs.items()}
    named = metric.own(device)
    if c.stream is not None:  # rings are no outputs, and before they are full outputs are about frames that never were
        warm = np.arange(len(device)) % c.stream.steps >= c.stream.warm_up
        sizes = sizes[: len(program.results)]
        exact, device = exact[warm, : sum(sizes)], device[warm, : sum(sizes)]
    apart = steps_apart(program, device, exact)
    counted = metric.classes and metric.outputs <= _CONFUSION and test.y is not None
    return Accuracy(
        float=scores["float"].share,
        onnx=scores["onnx"].share,
        device=scores["device"].share,
        samples=len(codes),
        onnx_agreement=same_codes,
        onnx_max_step=int(np.abs(codes - onnx_codes).max()),
        metric=metric.name,
        reason=metric.reason or None,
        threshold=metric.threshold,
        scores={name: score.values for name, score in scores.items() if score.values},
        sqnr_db=least_sqnr(sizes, exact, device),
        float_max_step=max(apart),
        outputs=_output_reports(program, exact, device, apart) if len(sizes) > 1 else (),
        float_agreement=agreement(metric, exact, device),
        confusion=tuple(map(tuple, confusion(named, test.y, metric.outputs).tolist()))
        if counted and test.y is not None
        else None,
    )


def _output_reports(
    program: Program, exact: NDArray[np.float32], device: NDArray[np.float32], apart: list[float]
) -> tuple[OutputReport, ...]:
    """Report each of several outputs; rows (N, values) of all."""
    found, end = [], 0
    names = program.output_names or program.outputs
    for name, size, steps in zip(names, output_sizes(program), apart, strict=False):
        own = slice(end, end + size)
        found.append(OutputReport(name=name, sqnr_db=sqnr(exact[:, own], device[:, own]), float_max_step=steps))
        end += size
    return tuple(found)
