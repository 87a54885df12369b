"""Finished builds: run them again, or print what they were made of."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tapc.arithmetic import Ints
from tapc.data import PixelUnits, Samples, Split, load_samples
from tapc.device import QemuRunner
from tapc.device.qemu import DeviceRun
from tapc.device.verify import Verification, device_inputs, verify
from tapc.errors import DataError, MismatchError
from tapc.kernels.schedule import Schedule
from tapc.lower import Lowered, lower
from tapc.lower.codes import input_codes
from tapc.lower.names import names_in
from tapc.metrics import Score, choose, measure
from tapc.output import MARKER
from tapc.picture import check_picture
from tapc.progress import Stages
from tapc.target import load_target


@dataclass(frozen=True)
class StepRun:
    """A layer's exact instructions and whether it equals the reference."""

    name: str
    instructions: int
    exact: bool


@dataclass(frozen=True)
class Rerun:
    """Measurements of one run.

    Attributes
    ----------
    model, board : str
    samples : int
    layers : tuple of StepRun
    instructions : int
        Of one inference.
    stack : int
        Bytes.
    accuracy : float or None
        Right answers in percent, where they are right or wrong.
    metric : str
    reason : str
        Why there is none.
    scores : dict
        See `tapc.metrics.Score`.
    threshold : float or None
    """

    model: str
    board: str
    samples: int
    layers: tuple[StepRun, ...]
    instructions: int
    stack: int
    accuracy: float | None
    metric: str = "none"
    reason: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    threshold: float | None = None


@dataclass(frozen=True)
class Build:
    """A build folder, read back."""

    folder: Path
    report: dict[str, Any]
    model: onnx.ModelProto

    @property
    def name(self) -> str:
        """Network name."""
        return str(self.report["model"])

    @property
    def board(self) -> str:
        """Board name."""
        return str(self.report["board"])

    def lowered(self) -> Lowered:
        """Lower model.onnx again; the same seed gives the same addresses."""
        target = load_target(str(self.report["core"]))
        schedules = {layer: Schedule(**values) for layer, values in self.report.get("schedules", {}).items()}
        seed = int(str(self.report["seed"]))
        prefix = library_prefix(self.folder)
        return lower(
            self.model, self.name, target.requantize, target.isa, seed=seed, schedules=schedules, prefix=prefix
        )

    def samples(self, data: Path, count: int | None, split: Split, seed: int) -> Samples:
        """Load samples in the network's input units."""
        shape = tuple(d.dim_value for d in self.model.graph.input[0].type.tensor_type.shape.dim)
        r = self.report
        units = PixelUnits(
            float(r["pixel_scale"]), tuple(r.get("mean", (0.0,))), tuple(r.get("std", (1.0,))),
            bool(r.get("units_given", False)),
        )  # fmt: skip
        return load_samples(data, shape, pixel_scale=units, count=count, split=split, seed=seed)

    def float_model(self) -> onnx.ModelProto:
        """Return the float network; DataError where it is missing or damaged."""
        path = part(self.folder, "float.onnx")
        try:
            return onnx.load(path)
        except Exception as error:
            raise DataError(f"{path} is damaged ({error}); compile the network again") from None

    def prove(self, network: Lowered, codes: Ints, layers: int, stages: Stages) -> tuple[DeviceRun, Verification]:
        """Run the twin on input codes and compare it with the reference executor.

        Raises
        ------
        MismatchError
            The device differs.
        """
        with stages.stage("simulate") as advance:
            target = load_target(str(self.report["core"]))
            twin = part(self.folder, "twin.elf")
            run = QemuRunner(foreign=True).run(
                twin, target, device_inputs(network, codes), layers=layers, progress=advance
            )
        with stages.stage("prove"):
            result = verify(network, run, codes)
        if result.mismatch is not None:
            raise MismatchError(f"the firmware in {self.folder} is wrong: {result.mismatch}")
        return run, result


def open_build(folder: Path) -> Build:
    """Read a build folder.

    Raises
    ------
    DataError
        It holds no finished build.
    """
    try:
        report = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        if report["schema"] != 1:
            raise DataError(f"{folder}: report schema {report['schema']} is not 1; compile the network again")
        return Build(folder, report, onnx.load(folder / "model.onnx"))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{folder} holds no tapc build ({error}); make one with `tapc compile`") from error


def library_prefix(folder: Path) -> str:
    """Return the prefix of a build's C library; empty where the library is gone, which only `show` reads."""
    try:
        return names_in(folder / "lib").prefix
    except DataError:
        return ""


def part(folder: Path, name: str) -> Path:
    """Return the path of a file of a build.

    Raises
    ------
    DataError
        The file is missing.
    """
    if not (folder / name).is_file():
        raise DataError(f"{folder}: the build is damaged, {name} is missing; compile the network again")
    return folder / name


def rerun(
    folder: Path, *, data: str | None, samples: int, seed: int, all_layers: bool, stages: Stages, wanted: str = "auto"
) -> Rerun:
    """Run a build's twin again and prove it against the reference executor.

    Parameters
    ----------
    folder : Path
    data : str or None
        Samples; random input codes where None or "random".
    samples : int
    seed : int
    all_layers : bool
        Compare every layer of all samples.
    stages : Stages
    wanted : str
        The metric; see `tapc.metrics.choose`.

    Raises
    ------
    MismatchError
        The device differs.
    """
    build = open_build(folder)
    with stages.stage("lower"):
        network = build.lowered()
        x = network.program.tensors[network.program.input]
        tested, metric = None, None
        if data in (None, "random"):
            generator = np.random.default_rng(seed)
            codes = generator.integers(x.low, x.high + 1, (samples, *x.shape)).astype(np.int64)
        else:
            loaded = build.samples(Path(str(data)), samples, "test", seed)
            tested, codes = loaded, input_codes(network.program, loaded.x)
            metric = choose(wanted, loaded, build.float_model())
    run, result = build.prove(network, codes, len(codes) if all_layers else min(4, len(codes)), stages)
    per_layer: dict[str, int] = {}
    for step, instructions in zip(network.steps, run.instructions_per_step, strict=True):
        per_layer[step.op.name] = per_layer.get(step.op.name, 0) + instructions
    score, reason = Score(), "random codes have no labels"
    if tested is not None and metric is not None:
        score, reason = measure(metric, result.outputs(network.program), tested), metric.reason
    return Rerun(
        build.name,
        build.board,
        len(codes),
        tuple(StepRun(name, n, result.layers[name]) for name, n in per_layer.items()),
        run.instructions,
        run.stack_high_water,
        score.share,
        "none" if metric is None else metric.name,
        reason,
        score.values,
        None if metric is None else metric.threshold,
    )


def describe(folder: Path, stage: str) -> str:
    """Return a stage of a build as text: integer program, arena plan, kernel steps, or generated C."""
    build = open_build(folder)
    if stage == "c":
        kernels = names_in(folder / "lib").file("kernels.c")
        return part(folder, f"lib/{kernels}").read_text(encoding="utf-8", errors="replace")
    network = build.lowered()
    if stage == "integer":
        return str(network.program)
    if stage == "steps":
        lines = [f"{i:3} {s.op.name}: {s.spec}" for i, s in enumerate(network.steps)]
        return "\n".join(lines)
    plan = network.plan
    lines = [f"arena {plan.size} bytes", f"{'offset':>8} {'bytes':>8}  steps      buffer"]
    for b in sorted(plan.buffers, key=lambda b: (b.first, plan.offsets[b.name])):
        lines.append(f"{plan.offsets[b.name]:8} {b.size:8}  {b.first:3}..{b.last:<3}   {b.name}")
    return "\n".join(lines)


def draw(folder: Path, output: Path) -> Path:
    """Draw a build and return the picture's path.

    Raises
    ------
    UsageError
        The suffix is none of .svg, .png, .pdf.
    OutputError
        The file cannot be written.
    """
    from tapc.report.plot import plot_build

    build = open_build(folder)
    check_picture(output)
    plot_build(build.report, build.lowered(), output)
    return output
