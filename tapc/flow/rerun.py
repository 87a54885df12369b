"""Finished builds: run them again, or print what they were made of."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import onnx
from pydantic import BaseModel, Field, ValidationError

from tapc.base.arithmetic import Ints
from tapc.base.errors import DataError, MismatchError
from tapc.base.files import read_regular, reading
from tapc.base.options import ARITHMETICS, Source
from tapc.base.output import MARKER
from tapc.base.progress import Stages
from tapc.data import PixelUnits, Samples, Split, find_data, in_order
from tapc.data.metrics import Score
from tapc.device import DeviceRun, Timing, device_for
from tapc.device.verify import Verification, run_sequences, sequences, verify
from tapc.flow.sequences import load_steps, metric_of
from tapc.graph.state import states
from tapc.hardware.board import Board, board_names, load_board
from tapc.hardware.target import load_target
from tapc.ir.bands import Patch
from tapc.kernels.schedule import Schedule
from tapc.lower import Lowered, lower
from tapc.lower.codes import input_codes, random_codes
from tapc.lower.names import names_in
from tapc.report.patches import PatchReport

_MOST_REPORT, _MOST_NETWORK = 64 << 20, 2 << 30


@dataclass(frozen=True)
class StepRun:
    """A layer's exact instructions, its cycles on a board, and whether it equals the reference."""

    name: str
    instructions: int | None
    exact: bool
    cycles: int | None = None


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
        See `tapc.data.metrics.Score`.
    threshold : float or None
    timing : Timing or None
        What a board's counter told.
    device : str
        What ran it.
    """

    model: str
    board: str
    samples: int
    layers: tuple[StepRun, ...]
    instructions: int | None
    stack: int
    accuracy: float | None
    metric: str = "none"
    reason: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    threshold: float | None = None
    timing: Timing | None = None
    device: str = "qemu"


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

    @property
    def elf(self) -> Path:
        """Firmware for the board; DataError where it is missing."""
        return part(self.folder, "firmware.elf")

    @property
    def twin(self) -> Path:
        """Firmware for the simulated machine; DataError where it is missing."""
        return part(self.folder, "twin.elf")

    def lowered(self) -> Lowered:
        """Lower model.onnx again; the same seed gives the same addresses."""
        with reading(f"build {self.folder}"):
            return self._lowered()

    def _lowered(self) -> Lowered:
        target = load_target(str(self.report["core"]))
        schedules = {layer: Schedule(**values) for layer, values in self.report.get("schedules", {}).items()}
        prefix = library_prefix(self.folder)
        mode = str(self.report.get("arithmetic") or target.requantize)
        if mode not in ARITHMETICS:
            raise DataError(f"{self.folder}: report.json names the arithmetic {mode!r}, which is none of {ARITHMETICS}")
        patches = [Patch(own["source"], own["result"], int(own["rows"])) for own in self.report.get("patches", ())]
        return lower(self.model, self.name, mode, target.isa, seed=self.seed, schedules=schedules, patches=patches,
                     prefix=prefix)  # fmt: skip

    @property
    def seed(self) -> int:
        """The seed that it was compiled with."""
        return int(str(self.report["seed"]))

    def with_units(self, source: Source) -> "Build":
        """Return the build with other units of raw values, where they are given."""
        given = {name: value for name in ("pixel_scale", "mean", "std") if (value := getattr(source, name)) is not None}
        return replace(self, report=self.report | given | {"units_given": True}) if given else self

    def default_data(self) -> tuple[Path, bool]:
        """Return what the build was tested with, and whether all of that file are test samples.

        Raises
        ------
        DataError
            It was tested with random inputs or arrays, or the file is not where it was.
        """
        known = self.report.get("samples") or {}
        whole, name, dataset = known.get("test_data"), known.get("data"), known.get("dataset")
        path = Path(str(whole or name)) if whole or name else find_data(str(dataset)) if dataset else None
        if path is None or not path.exists():
            what = "was tested with no file" if path is None else f"was tested with {path}, which is not there"
            raise DataError(f"{self.folder} {what}; give samples with --data PATH")
        return path, bool(whole)

    def samples(self, data: Path, count: int | None, split: Split, seed: int) -> Samples:
        """Load samples in the network's input units."""
        r = self.report
        units = PixelUnits(float(r["pixel_scale"]), tuple(r.get("mean", (0.0,))), tuple(r.get("std", (1.0,))),
                           bool(r.get("units_given", False)))  # fmt: skip
        graph = self.float_model() if states(self.model) else self.model
        samples = load_steps(data, graph, units, count, split, seed)
        return in_order(samples, tuple(r["labels"]) if r.get("labels") else None)

    def float_model(self) -> onnx.ModelProto:
        """Return the float network; DataError where it is missing or damaged."""
        return read_network(self.folder, "float.onnx")

    def run(
        self,
        network: Lowered,
        codes: Ints,
        layers: int = 0,
        progress: Callable[[int, int], None] | None = None,
        device: str | None = None,
        steps: int = 0,
    ) -> DeviceRun:
        """Run the build on input codes, in sequences of so many steps; what it returns is of the network's sizes.

        Raises
        ------
        DataError
            The image is not the network's.
        """
        tensors, target = network.program.tensors, load_target(str(self.report["core"]))
        board = self._board(device)
        image = device_for(target, device, foreign=True, board=board).load(self)
        given = sum(tensors[name].bytes for name in network.program.given)
        sizes = [tensors[step.output].bytes for step in network.steps]
        outputs = sum(tensors[name].bytes for name in network.program.outputs)
        expected = len(sizes), given, outputs
        if (image.steps, image.input_bytes, image.output_bytes) != expected:
            raise DataError(f"{self.folder}: {image.path.name} is not that of model.onnx; compile the network again")
        run = run_sequences(image, network, codes, steps, layers=layers, progress=progress)
        if any([len(output) for output in sample] != sizes for sample in run.layer_outputs):
            raise DataError(f"{self.folder}: {image.path.name} returns layers of other sizes than those of model.onnx")
        return run

    def _board(self, device: str | None) -> Board | None:
        """Return the build's board; None where no device is asked for and it has no such name."""
        return load_board(self.board) if device is not None or self.board in board_names() else None

    def prove(
        self, network: Lowered, codes: Ints, layers: int, stages: Stages, device: str | None = None, steps: int = 0
    ) -> tuple[DeviceRun, Verification]:
        """Run the build on input codes, in sequences of so many steps, and compare it with the reference executor.

        Raises
        ------
        MismatchError
            The device differs.
        """
        with stages.stage("simulate") as advance:
            run = self.run(network, codes, layers, advance, device, steps)
        with stages.stage("prove"):
            codes, expected = sequences(network, codes, steps)
            result = verify(network, run, codes, expected=expected)
        if result.mismatch is not None:
            raise MismatchError(f"the firmware in {self.folder} is wrong: {result.mismatch}")
        return run, result


class _Facts(BaseModel):
    """What is read from a report; the rest is only shown."""

    schema_version: Literal[1] = Field(alias="schema")
    model: str
    board: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    core: str
    seed: int = Field(ge=0, lt=1 << 63)
    pixel_scale: float = Field(gt=0, allow_inf_nan=False)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    schedules: dict[str, Schedule] = Field(default_factory=dict)
    patches: tuple[PatchReport, ...] = ()
    samples: dict[str, str | None] = Field(default_factory=dict)


def open_build(folder: Path) -> Build:
    """Read a build folder.

    Raises
    ------
    DataError
        It holds no finished build.
    """
    try:
        if not (folder / MARKER).exists():
            raise FileNotFoundError(f"no {MARKER}")
        text = read_regular(part(folder, MARKER), _MOST_REPORT, "report")
        report = json.loads(text)
        schema = report["schema"]
        if schema != 1:
            raise DataError(f"{folder}: report schema {str(schema)[:20]} is not 1; compile the network again")
        _Facts.model_validate(report)
        return Build(folder, report, read_network(folder, "model.onnx"))
    except DataError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DataError(f"{folder / MARKER} is damaged: {key}: {first['msg']}; compile the network again") from error
    except Exception as error:
        raise DataError(f"{folder} holds no tapc build ({error}); make one with `tapc compile`") from error


def read_network(folder: Path, name: str) -> onnx.ModelProto:
    """Read a network of a build; all of it is in its file.

    Raises
    ------
    DataError
        The file is missing or damaged, holds no network, or points at other files.
    """
    path = part(folder, name)
    with reading(f"network {path}"):
        model = onnx.load_model_from_string(read_regular(path, _MOST_NETWORK, "network"))
    if not model.graph.input or not model.graph.output:
        raise DataError(f"{path} has no input or no output; compile the network again")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph)):
        raise DataError(f"{path} points at other files for its data, as no network of tapc's does")
    return model


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for tensor in graph.sparse_initializer:
        yield from (tensor.values, tensor.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


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
        The file is missing, or a link: a build's files are its own.
    """
    path = folder / name
    try:
        missing = path.is_symlink() or not path.is_file()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} cannot be read: {error}") from error
    if missing:
        raise DataError(f"{folder}: the build is damaged, {name} is missing or no file; compile the network again")
    return path


def rerun(
    folder: Path,
    *,
    data: str | None,
    samples: int,
    seed: int,
    all_layers: bool,
    stages: Stages,
    wanted: str = "auto",
    source: Source | None = None,
    device: str | None = None,
) -> Rerun:
    """Run a build again and prove it against the reference executor.

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
        The metric; see `tapc.data.choice.choose`.
    source : Source, optional
        Units of these data, where they are not the build's.
    device : str, optional
        What runs it.

    Raises
    ------
    MismatchError
        The device differs.
    """
    build = open_build(folder).with_units(source or Source())
    with stages.stage("lower"):
        network = build.lowered()
        tested, metric = None, None
        if data in (None, "random"):
            codes = random_codes(network.program, samples, seed)
        else:
            loaded = build.samples(Path(str(data)), samples, "test", seed)
            tested, codes = loaded, input_codes(network.program, loaded.x)
            metric = metric_of(wanted, loaded, build.float_model())
    layers = len(codes) if all_layers else min(8 if network.program.states else 4, len(codes))
    run, result = build.prove(network, codes, layers, stages, device, 0 if tested is None else tested.steps)
    names = [step.op.name for step in network.steps]
    counts = _by_layer(names, run.instructions_per_step)
    cycles = _by_layer(names, run.timing.steps if run.timing is not None else ())
    score, reason = Score(), "random codes have no labels"
    if tested is not None and metric is not None:
        score, reason = result.score(metric, network.program, tested), metric.reason
    return Rerun(
        build.name,
        build.board,
        len(codes),
        tuple(StepRun(n, counts.get(n), result.layers[n], cycles.get(n)) for n in dict.fromkeys(names)),
        run.instructions,
        run.stack_high_water,
        score.share,
        "none" if metric is None else metric.name,
        reason,
        score.values,
        None if metric is None else metric.threshold,
        run.timing,
        run.device,
    )


def _by_layer(names: list[str], figures: tuple[int, ...]) -> dict[str, int]:
    """Add up the steps of each layer; nothing where nothing was counted."""
    sums: dict[str, int] = {}
    for name, figure in zip(names, figures, strict=bool(figures)):
        sums[name] = sums.get(name, 0) + figure
    return sums
