"""From a build folder and a port to milliseconds: the board runs real samples, and every output is compared."""

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tapc.base.errors import DataError, MismatchError
from tapc.base.files import write_whole
from tapc.base.progress import Stages
from tapc.device import DeviceRun, Timing, device_for
from tapc.device.dialog import Dialog, Info, check_board
from tapc.device.speaking import SpeakingDevice, SpeakingImage
from tapc.device.verify import device_inputs, sequences, verify
from tapc.flow.devices import device_of
from tapc.flow.rerun import open_build, part
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.lower.codes import input_codes, random_codes

MEASURED = "measured.json"


@dataclass(frozen=True)
class LayerTime:
    """A layer's measured cycles, the instructions that the report has of it, and whether it equals the reference."""

    name: str
    cycles: int
    instructions: int | None
    exact: bool


@dataclass(frozen=True)
class BoardMeasurement:
    """What a board measured.

    Attributes
    ----------
    model, board, port : str
    samples : int
        All of their outputs were equal to the reference executor's.
    runs : int
        Inferences that were timed.
    timing : Timing
        Clock, and cycles of all inferences.
    least, median, most : float
        Cycles of one inference.
    milliseconds : float
        Of the median, at the clock that the board reports.
    stack : int
        Bytes that were ever used.
    layers : tuple of LayerTime
    estimated : float or None
        Cycles that the compilation estimated.
    provenance : str
    firmware : str
        SHA-256 of firmware.bin.
    """

    model: str
    board: str
    port: str
    samples: int
    runs: int
    timing: Timing
    least: float
    median: float
    most: float
    milliseconds: float
    stack: int
    layers: tuple[LayerTime, ...]
    estimated: float | None
    provenance: str = "measured(serial)"
    firmware: str = ""


def measure_build(
    folder: Path,
    port: str,
    *,
    board: str | None = None,
    data: str | None = None,
    samples: int = 20,
    repeats: int = 10,
    seed: int = 0,
    flash: bool = False,
    stages: Stages | None = None,
) -> BoardMeasurement:
    """Measure a build on the board at a port, and keep the figures in BUILD/measured.json.

    Parameters
    ----------
    folder : Path
        The build.
    port : str
        Serial port, or an address that pySerial takes.
    board : str, optional
        Name or file of the board, where the build's own is not found by its name.
    data : str, optional
        Samples; by default those that the build was tested with, random codes where there are none.
    samples : int
        How many are sent.
    repeats : int
        Inferences of the last sample beyond those, where the board keeps its input.
    seed : int
        Of random codes.
    flash : bool
        A board that runs another image is flashed first, by the first tool of its file.
    stages : Stages, optional

    Raises
    ------
    ToolError
        The board does not answer, was reset, or the line loses bytes.
    DataError
        The board runs another image; the folder holds no finished build.
    MismatchError
        An output or a layer differs from the reference executor.
    """
    stages, build = stages or Stages(), open_build(folder)
    silicon, target = load_board(board or build.board), load_target(str(build.report["core"]))
    if silicon.name != build.board:
        raise DataError(f"{folder} is for the board {build.board}, not {silicon.name}")
    name = f"serial:{port}"
    device = device_of(target, name, silicon) if flash else device_for(target, name, board=silicon)
    assert isinstance(device, SpeakingDevice)
    with stages.stage("lower"):
        network = build.lowered()
        codes, period = random_codes(network.program, samples, seed), 0
        if data != "random" and (data is not None or _has_samples(build.report)):
            path, whole = build.default_data() if data is None else (Path(data), False)
            loaded = build.samples(path, samples, "all" if whole else "test", build.seed)
            codes, period = input_codes(network.program, loaded.x), loaded.steps
    image = device.load(build)
    with device.line(image) as channel:
        dialog = Dialog(channel)
        with stages.stage("connect"):
            dialog.connect()
            info = dialog.info()
            check_board(info, board=image.board, digest=image.digest, where=port)
            _check_flash(dialog, folder, image)
        with stages.stage("measure") as advance:
            steps = (period or len(codes)) if network.program.states else 0
            run = image.measured(dialog, info, device_inputs(network, codes), 1, advance, steps)
            more = _repeated(dialog, image, device_inputs(network, codes[-1:])[0].tobytes(), info, repeats)
    with stages.stage("prove"):
        codes, expected = sequences(network, codes, period)
        result = verify(network, run, codes, expected=expected)
        if result.mismatch is not None:
            raise MismatchError(f"the board at {port} is wrong: {result.mismatch}")
    made = _measurement(build.report, port, run, more, [step.op.name for step in network.steps], result.layers)
    made = replace(made, firmware=hashlib.sha256(part(folder, "firmware.bin").read_bytes()).hexdigest())
    write_whole(folder / MEASURED, json.dumps(asdict(made), indent=1) + "\n")
    return made


def _has_samples(report: dict[str, object]) -> bool:
    known = report.get("samples")
    return isinstance(known, dict) and any(value not in (None, "", "random") for value in known.values())


def _check_flash(dialog: Dialog, folder: Path, image: SpeakingImage) -> None:
    sums = dialog.checksums()
    for name, file in (("image", "firmware.bin"), *((region, f"firmware-{region}.bin") for region in image.external)):
        wanted = zlib.crc32(part(folder, file).read_bytes())
        if sums.get(name) != wanted:
            raise DataError(
                f"the board's flash ({name}) differs from {file}: CRC-32 {sums.get(name, 0):08x}, not {wanted:08x}; "
                "flash this build again (`tapc flash`)"
            )


def _repeated(dialog: Dialog, image: SpeakingImage, sample: bytes, info: Info, repeats: int) -> tuple[int, ...]:
    """Return the cycles of further inferences of one sample."""
    if repeats < 1:
        return ()
    dialog.load(sample)
    return dialog.infer(repeats if info.keeps_input else 1).cycles


def _measurement(
    report: dict[str, object],
    port: str,
    run: DeviceRun,
    more: tuple[int, ...],
    names: list[str],
    exact: dict[str, bool],
) -> BoardMeasurement:
    assert run.timing is not None
    cycles = (*run.timing.cycles, *more)
    whole = replace(run.timing, cycles=cycles)
    sums: dict[str, int] = {}
    for name, own in zip(names, run.timing.steps, strict=True):
        sums[name] = sums.get(name, 0) + own
    rows = report.get("layers")
    counted = {row["name"]: row["instructions"] for row in rows} if isinstance(rows, list) else {}
    estimated = report.get("cycles_estimated")
    return BoardMeasurement(
        model=str(report["model"]),
        board=str(report["board"]),
        port=port,
        samples=len(run.outputs),
        runs=len(cycles),
        timing=whole,
        least=min(cycles),
        median=whole.median,
        most=max(cycles),
        milliseconds=whole.milliseconds,
        stack=run.stack_high_water,
        layers=tuple(LayerTime(name, own, counted.get(name), exact[name]) for name, own in sums.items()),
        estimated=float(estimated) if isinstance(estimated, int | float) else None,
    )
