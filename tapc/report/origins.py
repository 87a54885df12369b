"""Where a report's figures come from."""

from tapc import cycles
from tapc.device import DeviceRun
from tapc.lower.patches import summaries
from tapc.report.compilation import Compilation

_PROVENANCE = {
    "flash": "measured: bytes of firmware.bin, read from the ELF, less what speaks and sets clocks (memory.support)",
    "arena": "measured: section of the arena in the ELF; predicted by the planner",
    "run_stack": "model: frames as the compiler reports them, calls as the objects have them",
    "allocation": "model",
    "macs, bops": "model: of the network, padding included; live_macs: of the channels that can change the output",
}


def _measured(run: DeviceRun) -> dict[str, str]:
    counted = f"instructions({run.device}): exact, first sample"
    origins = {
        "instructions": counted if run.instructions is not None else f"none: {run.device} does not count them",
        "stack": f"measured({run.device}): high-water mark of a filled stack, start-up and main included",
        "device": f"outputs of the firmware on {run.device}",
        "onnx": "model.onnx in onnxruntime on the same samples",
        "float": "the source network in its own runtime, on the same samples",
    }
    if (t := run.timing) is not None:
        origins["timing"] = f"measured({run.device}): {t.counter} at {t.hz:,} Hz, {len(t.cycles)} inferences"
    return origins


def _fast(c: Compilation) -> str:
    """Say what start-up copies where."""
    if not c.fast:
        return f"none: {c.board.name} has no memory that is faster than where the network lies, or no room in it"
    copied, parts = c.images.memory.copied, []
    for region in dict.fromkeys(c.fast.functions.values()):
        kernels = len({step.spec for step in c.lowered.steps})
        parts.append(f"{len(c.fast.functions)} of {kernels} kernels run in {region} ({copied.get(region, 0):,} B)")
    for region in dict.fromkeys(c.fast.constants.values()):
        own = [c.lowered.steps[index].op.name for index in c.fast.constants]
        names = ", ".join(dict.fromkeys(own))
        parts.append(f"constants of {names} are read from {region} ({copied.get(region, 0):,} B)")
    if c.fast.arena is not None:
        parts.append(f"the activations are in {c.fast.arena}")
    return f"{'; '.join(parts)}; saves {c.fast.saved:,.0f} cycles of reading at peak bandwidths (model)"


def _least(c: Compilation) -> str:
    """Say what took RAM from the activations."""
    extra = sum(patch.extra_macs for patch in summaries(c.lowered.program))
    patches = len(c.lowered.program.patches)
    how = f"{patches} parts in patches compute {extra:,} MACs twice" if patches else "no part is in patches"
    return (
        f"--optimize ram: the smallest arena that was found with at most twice the instructions; {how}, and schedules "
        "are the fastest whose scratch memory it holds"
    )


def provenance(c: Compilation) -> dict[str, str]:
    """Say where the figures come from."""
    origins = {"predicted": c.cost.provenance} | _PROVENANCE | (_measured(c.measured.run) if c.measured else {})
    if c.measured is not None:
        origins["cycles"] = (
            cycles.source(c.board.core)
            if c.measured.cycles is None
            else f"cycles-estimated: block counts x {cycles.source(c.board.core)}, constants read once from flash"
        )
    if c.calibrated is not None:
        origins["predicted time"] = c.calibrated.provenance
    if c.stream is not None:
        origins["float"] = "float.onnx, one step of the network, in onnxruntime; compared with the network at once"
        origins["stream"] = (
            "model: MACs of both graphs, bytes as the planner has them; outputs were compared in exact integers; SQNR "
            "and steps apart are of outputs after the warm-up"
        )
    if c.options.optimize == "speed":
        origins["fast memories"] = _fast(c)
    if c.options.optimize == "ram":
        origins["least RAM"] = _least(c)
    if c.options.toolchain != "gcc":
        origins["firmware"] = f"built by {c.options.toolchain}'s C compiler; what is predicted was fitted to gcc's code"
    if (made := c.training) is not None:
        what = "the float network and labels" if made.labels else "the float network"
        origins["training"] = f"{what} taught, on {made.data}; loss on {made.kept_back} samples kept back"
    if (t := c.tuning) is not None:
        origins["tuning"] = (
            f"{t.measured} schedules measured, {t.cached} from the cache; "
            f"convolutions {t.before:,} -> {t.after:,} {'estimated cycles' if t.by == 'cycles' else t.by}"
        )
    return origins
